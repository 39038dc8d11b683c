"""The task: classify."""
