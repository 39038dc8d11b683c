"""Generated sample data sets."""
