"""Prediction through the fast engine; nothing here imports torch."""
