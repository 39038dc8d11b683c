"""The task: segment."""
