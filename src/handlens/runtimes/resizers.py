"""Ways in which apps resize an image, other than ours."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.preprocess import Preprocess

Pixels = NDArray[np.uint8]
Resizer = Callable[[Pixels, Preprocess], Pixels]  # (H, W, 3) at full size to (height, width, C)


def _with(resize: Callable[[Pixels, int, int], Pixels]) -> Callable[[Pixels, Preprocess], Pixels]:
    """The geometry that Preprocess states, with another library's resize: what an app would write."""

    def apply(image: Pixels, preprocess: Preprocess) -> Pixels:
        height, width = image.shape[:2]
        if preprocess.resize == "crop":
            scale = preprocess.short_side / min(height, width)
            image = resize(image, round(height * scale), round(width * scale))
            top = (image.shape[0] - preprocess.height) // 2
            left = (image.shape[1] - preprocess.width) // 2
            image = image[top : top + preprocess.height, left : left + preprocess.width]
        elif preprocess.resize == "stretch":
            image = resize(image, preprocess.height, preprocess.width)
        else:
            scale = min(preprocess.height / height, preprocess.width / width)
            small = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
            image = np.full((preprocess.height, preprocess.width, 3), 114, dtype=np.uint8)
            top, left = (preprocess.height - small.shape[0]) // 2, (preprocess.width - small.shape[1]) // 2
            image[top : top + small.shape[0], left : left + small.shape[1]] = small
        if preprocess.color == "gray":
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)[:, :, None]
        return np.ascontiguousarray(image)

    return apply


def _opencv(interpolation: int) -> Callable[[Pixels, int, int], Pixels]:
    return lambda x, h, w: np.asarray(cv2.resize(x, (w, h), interpolation=interpolation), dtype=np.uint8)


RESIZERS: dict[str, Resizer] = {
    "Pillow bilinear": _with(lambda x, h, w: np.asarray(Image.fromarray(x).resize((w, h), Image.Resampling.BILINEAR))),
    "OpenCV linear (no antialias)": _with(_opencv(cv2.INTER_LINEAR)),
    "OpenCV area": _with(_opencv(cv2.INTER_AREA)),
    "nearest (no antialias)": _with(_opencv(cv2.INTER_NEAREST)),
}
