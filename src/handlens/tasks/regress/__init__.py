"""The task: numbers per image."""
