"""What the nets are trained with, per task."""
