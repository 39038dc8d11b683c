"""Mask files: a class per pixel, as stored, into class indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.data.record import MaskCoding
from handlens.errors import InputError


def read_mask(path: Path, coding: MaskCoding, *, size: tuple[int, int]) -> NDArray[np.uint8]:
    raise InputError(f"{path}: masks cannot be read yet.")
