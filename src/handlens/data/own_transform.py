"""A training transform of the caller's own, in place of flips, crops and colors."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from handlens.data.augment import to_tensor
from handlens.data.window import xyxy
from handlens.errors import InputError
from handlens.preprocess import Preprocess


@dataclass(frozen=True)
class OwnTransform:
    """Runs it, then makes of the image what prediction makes of one: it need not know the size of the model's input.

    Attributes:
        transform: takes tv_tensors as the transforms of torchvision.transforms.v2 do: the image (3, H, W) uint8 alone;
            with its mask, (H, W) uint8; or with {"boxes": (N, 4), "labels": (N,)}. It gives the same, of any size.

    Raises:
        InputError: when called: the transform gives something else.
    """

    transform: Callable[..., Any]
    preprocess: Preprocess

    def image(self, image: Tensor) -> Tensor:
        return self._input(self._transformed(tv_tensors.Image(image)))

    def masked(self, image: Tensor, mask: tv_tensors.Mask) -> tuple[Tensor, tv_tensors.Mask]:
        image, mask = self._transformed(tv_tensors.Image(image), mask)
        if image.shape[-2:] != mask.shape[-2:]:
            raise InputError(f"the transform gave an image {tuple(image.shape)} and a mask {tuple(mask.shape)}.")
        placed = self.preprocess.mask(mask.as_subclass(Tensor).numpy())
        return tv_tensors.Image(self._input(image)), tv_tensors.Mask(torch.from_numpy(placed))

    def boxed(
        self, image: Tensor, boxes: tv_tensors.BoundingBoxes, labels: Tensor
    ) -> tuple[Tensor, tv_tensors.BoundingBoxes, Tensor]:
        """What the transform leaves without area is dropped; boxes are cut at the frame."""
        image, target = self._transformed(tv_tensors.Image(image), {"boxes": boxes, "labels": labels})
        corners = F.convert_bounding_box_format(target["boxes"], new_format=tv_tensors.BoundingBoxFormat.XYXY)
        size = self.preprocess.height, self.preprocess.width
        geometry = self.preprocess.geometry(*image.shape[-2:])
        placed = torch.from_numpy(geometry.boxes(corners.as_subclass(Tensor).float().numpy()))
        placed = placed.clamp(min=0).minimum(torch.tensor([size[1], size[0]] * 2))
        kept = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
        return tv_tensors.Image(self._input(image)), xyxy(placed[kept], *size), target["labels"][kept]

    def _transformed(self, *inputs: Any) -> Any:
        """Draws from NumPy and from Python depend on the image as those from torch, and leave no trace."""
        states = np.random.get_state(), random.getstate()
        seed = torch.initial_seed() % 2**32
        np.random.seed(seed)
        random.seed(seed)
        try:
            return self.transform(*inputs)
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])

    def _input(self, image: Any) -> Tensor:
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            given = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise InputError(
                f"the transform gave {given}; an image (3, H, W) of torch.uint8 is expected. Scaling to floats and "
                "normalization are done by handlens, as in prediction."
            )
        return to_tensor(self.preprocess.pixels(image.as_subclass(Tensor).permute(1, 2, 0).contiguous().numpy()))
