"""What a segmenter is trained on: images and the class of every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from handlens.data.augment import seeded, to_tensor
from handlens.data.decode import decode
from handlens.data.examples import Examples
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Record
from handlens.preprocess import Preprocess


class MaskedImages(Examples):
    """Segmentation: ((C, height, width) uint8, (height, width) uint8 class indices or IGNORE)."""

    def __init__(
        self,
        records: Sequence[Record],
        *,
        preprocess: Preprocess,
        transform: Callable[..., Any] | None,
        kind: MaskLabels,
        seed: int,
    ) -> None:
        super().__init__(records, preprocess=preprocess, transform=transform, seed=seed)
        self.kind = kind

    def example(self, record: Record, key: tuple[int | str, ...]) -> tuple[Tensor, Tensor]:
        if record.label is None:
            raise ValueError(f"{record.id} has no mask")
        decoded = decode(record.path)
        mask = self.kind.read(record.label, size=(decoded.shape[0], decoded.shape[1]))
        if self.transform is None:
            return to_tensor(self.preprocess.pixels(decoded)), torch.from_numpy(self.preprocess.mask(mask))
        target = tv_tensors.Mask(torch.from_numpy(mask))
        image, target = seeded(self.transform, tv_tensors.Image(to_tensor(decoded)), target, key=key)
        return image.as_subclass(Tensor), target.as_subclass(Tensor)
