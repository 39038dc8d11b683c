"""Tiles of contact sheets: an image so large that lines and names are drawn in the size in which they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Resampling

TILE = 320  # pixels: boxes need more room than a label


def caption_of(parts: Sequence[str]) -> str:
    """In two lines of two; of more than four the first three, and how many are left out."""
    shown = [*parts] if len(parts) <= 4 else [*parts[:3], f"+{len(parts) - 3} more"]
    return ",\n".join(", ".join(shown[start : start + 2]) for start in range(0, len(shown), 2))


def shrunk(image: NDArray[np.uint8], resampling: Resampling) -> NDArray[np.uint8]:
    """So large that it fills a tile: lines and names are drawn in the size in which they are seen."""
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, resampling))
