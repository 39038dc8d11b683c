"""What a detector is trained on: images and their boxes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from handlens.data.augment import seeded, to_tensor
from handlens.data.decode import decode
from handlens.data.examples import Examples
from handlens.data.labels.boxes import usable_boxes
from handlens.data.record import Record
from handlens.data.seeds import seed_for
from handlens.data.window import xyxy
from handlens.preprocess import Preprocess
from handlens.tasks.detect.augment import Boxed, mosaic


class BoxedImages(Examples):
    """Detection: ((C, height, width) uint8, (n, 4) boxes in fractions of the net's input, (n,) class indices).

    A crowd or a difficult object of class c has the label -1 - c: neither to be found nor background.

    Args:
        mosaic: share of the training images that are put together of four.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        preprocess: Preprocess,
        transform: Callable[..., Any] | None,
        mosaic: float = 0.0,
        seed: int,
    ) -> None:
        super().__init__(records, preprocess=preprocess, transform=transform, seed=seed)
        self.mosaic = mosaic

    def example(self, record: Record, key: tuple[int | str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        preprocess = self.preprocess
        size = torch.tensor([preprocess.width, preprocess.height] * 2, dtype=torch.float32)
        decoded, corners, labels = _labeled(record)
        if self.transform is None:
            placed = preprocess.geometry(*decoded.shape[:2]).boxes(corners)
            return to_tensor(preprocess.pixels(decoded)), torch.from_numpy(placed) / size, labels
        sample = _as_boxed(decoded, corners, labels)
        draw = random.Random(seed_for(*key, "mosaic"))
        if draw.random() < self.mosaic:
            others = [_as_boxed(*_labeled(draw.choice(self.records))) for _ in range(3)]
            sample = mosaic([sample, *others], height=preprocess.height, width=preprocess.width, key=(*key, "corners"))
        image, boxes, labels = seeded(self.transform, *sample, key=key)
        return image.as_subclass(Tensor), boxes.as_subclass(Tensor) / size, labels


def _labeled(record: Record) -> tuple[NDArray[np.uint8], NDArray[np.float32], Tensor]:
    """(H, W, 3), corners (n, 4) in its pixels, class indices (n,) as BoxedImages has them."""
    if record.label is None:
        raise ValueError(f"{record.id} has no boxes, not even an empty list")
    image = decode(record.path)
    objects = usable_boxes(record, size=(image.shape[1], image.shape[0]))
    corners = np.array([(b.left, b.top, b.right, b.bottom) for b in objects], np.float32).reshape(-1, 4)
    labels = torch.tensor([-1 - b.label if b.crowd or b.difficult else b.label for b in objects], dtype=torch.long)
    return image, corners, labels


def _as_boxed(image: NDArray[np.uint8], corners: NDArray[np.float32], labels: Tensor) -> Boxed:
    return tv_tensors.Image(to_tensor(image)), xyxy(torch.from_numpy(corners), *image.shape[:2]), labels
