"""Nets that give a class per pixel: `forward(images) -> logits (N, K, H, W)` at the input's size."""
