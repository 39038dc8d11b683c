"""The task: detect."""
