"""The version, for whoever may not import the package as a whole."""

VERSION = "0.1.0"
