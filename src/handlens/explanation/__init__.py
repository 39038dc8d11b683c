"""What a model looked at, and what it looks for. Knows no model and no task by name."""
