"""The task: tag."""
