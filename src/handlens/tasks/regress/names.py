"""The name of the exported graph's output."""

VALUES = "values"
