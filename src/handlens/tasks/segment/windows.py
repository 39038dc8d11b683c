"""A class per pixel of an image larger than the net's input: windows that overlap, blended where they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


def tiled_classes(
    image: Image, predict: Callable[[Image], Probabilities], *, height: int, width: int, overlap: float = 0.25
) -> NDArray[np.uint8]:
    """The likeliest class of every pixel, (H, W) uint8. Arguments and errors as `tiled_probabilities`."""
    parts = [
        part.argmax(axis=2).astype(np.uint8)
        for part in tiled_probabilities(image, predict, height=height, width=width, overlap=overlap)
    ]
    return np.concatenate(parts)


def tiled_probabilities(
    image: Image, predict: Callable[[Image], Probabilities], *, height: int, width: int, overlap: float = 0.25
) -> Iterator[Probabilities]:
    """The probabilities of an image in bands from top to bottom, each as soon as no window touches it any more.

    A window counts most at its middle and least at its edge, where a net sees least of the surroundings; the sum is
    divided by the weights. So the answer changes gradually from one window to the next, and there is no seam. No more
    is kept than one band of windows: an image's height does not matter.

    Args:
        image: (H, W, 3) uint8, any size. A side shorter than its window is filled up with its last row or column.
        predict: a window (height, width, 3) uint8 -> probabilities (height, width, K).
        height, width: of a window, pixels.
        overlap: least share of a window that the next one covers again.

    Yields:
        (h, W, K) float32, together H rows.

    Raises:
        ValueError: an argument out of range, or probabilities of another size.
    """
    if image.ndim != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if height < 1 or width < 1 or not 0 <= overlap < 1:
        raise ValueError(f"a window must have a size and overlap be in [0, 1), got {height} x {width} and {overlap}")
    rows, columns = image.shape[:2]
    tops, lefts = starts(rows, height, overlap), starts(columns, width, overlap)
    weights = (_ramp(height)[:, None] * _ramp(width))[:, :, None]  # (height, width, 1)
    full = max(columns, width)
    band = weight = np.zeros((0, full, 0), dtype=np.float32)  # begins at row `top`
    for top, following in zip(tops, [*tops[1:], rows], strict=True):
        for left in lefts:
            probabilities = predict(_window(image, top, left, height, width))
            if probabilities.ndim != 3 or probabilities.shape[:2] != (height, width):
                raise ValueError(f"predict must give ({height}, {width}, K), got {probabilities.shape}")
            if band.shape[0] < height:
                band = _lengthened(band, height, probabilities.shape[2])
                weight = _lengthened(weight, height, 1)
            band[:, left : left + width] += weights * probabilities
            weight[:, left : left + width] += weights
        done = min(following, rows) - top
        yield np.divide(band[:done, :columns], weight[:done, :columns], dtype=np.float32)
        band, weight = band[done:], weight[done:]


def starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows begin so that they cover `size` pixels, evenly spread, each sharing `overlap` with the next."""
    if size <= window:
        return [0]
    count = 1 + ceil((size - window) / max(1.0, window * (1 - overlap)))
    return [round(number * (size - window) / (count - 1)) for number in range(count)]


def _ramp(size: int) -> NDArray[np.float32]:
    """(size,) rising from near 0 at the ends to 1 in the middle."""
    position = np.arange(size, dtype=np.float32) + 0.5
    return np.minimum(position, size - position) / np.float32(size / 2)


def _window(image: Image, top: int, left: int, height: int, width: int) -> Image:
    part = image[top : top + height, left : left + width]
    missing = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
    return np.pad(part, missing, mode="edge") if part.shape[:2] != (height, width) else part


def _lengthened(band: Probabilities, height: int, channels: int) -> Probabilities:
    """A band of `height` rows that begins with the rows of `band`."""
    longer = np.zeros((height, band.shape[1], channels), dtype=np.float32)
    longer[: band.shape[0], :, : band.shape[2]] = band  # the very first band has no channels yet
    return longer
