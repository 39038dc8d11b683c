"""Tiles of contact sheets: an image so large that lines and names are drawn in the size in which they are seen."""

from __future__ import annotations

from collections.abc import Sequence

TILE = 320  # pixels: boxes need more room than a label


def caption_of(parts: Sequence[str]) -> str:
    """In two lines of two; of more than four the first three, and how many are left out."""
    shown = [*parts] if len(parts) <= 4 else [*parts[:3], f"+{len(parts) - 3} more"]
    return ",\n".join(", ".join(shown[start : start + 2]) for start in range(0, len(shown), 2))
