"""What a net is trained on, by (epoch, index): an image and its class, its mask or its boxes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from handlens.data.annotations import usable_boxes
from handlens.data.augment import Boxed, mosaic, seeded, to_tensor
from handlens.data.decode import decode
from handlens.data.masks import read_mask
from handlens.data.record import MaskCoding, Record, tag_targets
from handlens.data.seeds import seed_for
from handlens.data.window import xyxy
from handlens.preprocess import Preprocess

Key = tuple[int, int]  # (epoch, index)

# Opening a file of 28 x 28 costs as much as 30,000 pixels do. What is small is opened once and kept: 60,000 digits are
# 141 MB as RGB.
SMALL = 64 * 64 * 3  # bytes of an image that is kept
KEPT = 256 << 20  # bytes that a process keeps at most


class Examples(Dataset[tuple[Any, ...]]):
    """A task derives from it and says what an image comes with.

    Args:
        transform: the random training transform of the task; None gives what Preprocess gives.
    """

    def __init__(
        self, records: Sequence[Record], *, preprocess: Preprocess, transform: Callable[..., Any] | None, seed: int
    ) -> None:
        self.records = records
        self.preprocess = preprocess
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        epoch, index = key
        return self.example(self.records[index], (self.seed, "augment", epoch, index))

    def example(self, record: Record, key: tuple[int | str, ...]) -> tuple[Any, ...]:
        """
        Args:
            key: what every random draw for this image depends on, and nothing else.
        """
        raise NotImplementedError


class Images(Examples):
    """Classification: ((C, height, width) uint8, class index).

    Args:
        at_least: (height, width) below which nothing is decoded, so that a crop keeps its detail.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        preprocess: Preprocess,
        transform: Callable[..., Any] | None,
        at_least: tuple[int, int],
        seed: int,
    ) -> None:
        super().__init__(records, preprocess=preprocess, transform=transform, seed=seed)
        self.at_least = at_least
        self._kept: dict[Path, NDArray[np.uint8]] = {}
        self._kept_bytes = 0

    def example(self, record: Record, key: tuple[int | str, ...]) -> tuple[Tensor, Any]:
        label = self.label(record)
        decoded = self._decoded(record.path)
        if self.transform is None:
            return to_tensor(self.preprocess.pixels(decoded)), label
        image: Tensor = seeded(self.transform, to_tensor(decoded), key=key)
        return image, label

    def _decoded(self, path: Path) -> NDArray[np.uint8]:
        """(H, W, 3); a small image is decoded once, and never written to."""
        found = self._kept.get(path)
        if found is None:
            found = decode(path, at_least=self.at_least)
            if found.nbytes <= SMALL and self._kept_bytes + found.nbytes <= KEPT:
                found.flags.writeable = False
                self._kept[path] = found
                self._kept_bytes += found.nbytes
        return found

    def label(self, record: Record) -> Any:
        if record.target is None:
            raise ValueError(f"{record.id} has no label")
        return record.target


class TaggedImages(Images):
    """Several labels: ((C, height, width) uint8, (K,) float32, 1 where the image has the label)."""

    def __init__(
        self,
        records: Sequence[Record],
        *,
        preprocess: Preprocess,
        transform: Callable[..., Any] | None,
        at_least: tuple[int, int],
        seed: int,
        num_classes: int,
    ) -> None:
        super().__init__(records, preprocess=preprocess, transform=transform, at_least=at_least, seed=seed)
        self.num_classes = num_classes

    def label(self, record: Record) -> Tensor:
        return torch.from_numpy(tag_targets([record], self.num_classes)[0])


class MaskedImages(Examples):
    """Segmentation: ((C, height, width) uint8, (height, width) uint8 class indices or IGNORE)."""

    def __init__(
        self,
        records: Sequence[Record],
        *,
        preprocess: Preprocess,
        transform: Callable[..., Any] | None,
        coding: MaskCoding,
        seed: int,
    ) -> None:
        super().__init__(records, preprocess=preprocess, transform=transform, seed=seed)
        self.coding = coding

    def example(self, record: Record, key: tuple[int | str, ...]) -> tuple[Tensor, Tensor]:
        if record.mask is None:
            raise ValueError(f"{record.id} has no mask")
        decoded = decode(record.path)
        mask = read_mask(record.mask, self.coding, size=(decoded.shape[0], decoded.shape[1]))
        if self.transform is None:
            return to_tensor(self.preprocess.pixels(decoded)), torch.from_numpy(self.preprocess.mask(mask))
        target = tv_tensors.Mask(torch.from_numpy(mask))
        image, target = seeded(self.transform, tv_tensors.Image(to_tensor(decoded)), target, key=key)
        return image.as_subclass(Tensor), target.as_subclass(Tensor)


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


def collate(examples: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Images and masks are stacked and class indices become a tensor; boxes and their labels stay lists, one entry
    per image: every image has another number of them."""
    first, *rest = zip(*examples, strict=True)
    if isinstance(rest[0][0], int):
        return torch.stack(first), torch.tensor(rest[0])
    if len(rest) == 1:
        return torch.stack(first), torch.stack(rest[0])
    return (torch.stack(first), *(list(part) for part in rest))


def _labeled(record: Record) -> tuple[NDArray[np.uint8], NDArray[np.float32], Tensor]:
    """(H, W, 3), corners (n, 4) in its pixels, class indices (n,) as BoxedImages has them."""
    if record.boxes is None:
        raise ValueError(f"{record.id} has no boxes, not even the statement that there are none")
    image = decode(record.path)
    objects = usable_boxes(record, size=(image.shape[1], image.shape[0]))
    corners = np.array([(b.left, b.top, b.right, b.bottom) for b in objects], np.float32).reshape(-1, 4)
    labels = torch.tensor([-1 - b.label if b.crowd or b.difficult else b.label for b in objects], dtype=torch.long)
    return image, corners, labels


def _as_boxed(image: NDArray[np.uint8], corners: NDArray[np.float32], labels: Tensor) -> Boxed:
    return tv_tensors.Image(to_tensor(image)), xyxy(torch.from_numpy(corners), *image.shape[:2]), labels
