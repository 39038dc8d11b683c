"""What a model is trained on, by (epoch, index): an image and what its task says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from handlens.data.augment import seeded, to_tensor
from handlens.data.budget import BUDGET
from handlens.data.decode import decode
from handlens.data.record import Record
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
        with BUDGET.hold():
            return self.example(self.records[index], (self.seed, "augment", epoch, index))

    def example(self, record: Record, key: tuple[int | str, ...]) -> tuple[Any, ...]:
        """
        Args:
            key: what every random draw for this image depends on, and nothing else.
        """
        raise NotImplementedError


class ImageExamples(Examples):
    """((C, height, width) uint8, what `label` says of the record).

    Args:
        label: no closure: loader processes get it by pickle.
        at_least: (height, width) below which nothing is decoded, so that a crop keeps its detail; None decodes whole.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        preprocess: Preprocess,
        transform: Callable[..., Any] | None,
        at_least: tuple[int, int] | None,
        label: Callable[[Record], Any],
        seed: int,
    ) -> None:
        super().__init__(records, preprocess=preprocess, transform=transform, seed=seed)
        self.at_least = at_least
        self.label = label
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


def collate(examples: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Images and masks are stacked and class indices become a tensor; boxes and their labels stay lists, one entry
    per image: every image has another number of them."""
    first, *rest = zip(*examples, strict=True)
    if isinstance(rest[0][0], int):
        return torch.stack(first), torch.tensor(rest[0])
    if len(rest) == 1:
        return torch.stack(first), torch.stack(rest[0])
    return (torch.stack(first), *(list(part) for part in rest))
