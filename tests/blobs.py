"""A data set small enough to train on in seconds: colored blobs, one color per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"딸기 빵": (200, 40, 60), "b a": (60, 160, 60), "c": (50, 70, 190)}


def write_images(folder: Path, *, per_class: int, seed: int, noise: float = 0.6) -> Path:
    """Blobs in a color per class, `noise` of it random: different enough that none is a duplicate of another."""
    rng = np.random.default_rng(seed)
    for name, color in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            coarse = rng.integers(0, 256, (5, 6, 3)) * noise + np.array(color) * (1 - noise)
            image = Image.fromarray(coarse.astype(np.uint8)).resize((150, 120), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{number:03d}.jpg", quality=92)
    return folder
