"""What the classic classifiers have in common: a stem, blocks one behind the other, and a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import mean_of_places, pool_everywhere


class StagedNet(nn.Module):
    """images (N, C, H, W) -> logits (N, K), by way of the stem, every block, `pool` and the classifier.

    A net fills in the attributes; one with dense layers before its classifier has its own `pool`.

    Attributes:
        stem, blocks: run in this order; `blocks` is an nn.ModuleList.
        maps: name -> (channels, stride) of "stem" and "block1" to the last, in the order they are made.
        dropout, classifier: behind `pool`.
        smallest: side in pixels below which there is nothing left of an image.
    """

    stem: nn.Module
    blocks: nn.ModuleList
    maps: dict[str, tuple[int, int]]
    dropout: nn.Module
    classifier: nn.Linear
    smallest: int = 1

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename published weights, in each layout in circulation.

        A name that a known layout does not have stays as it is: strict loading then lists it.

        Returns:
            None where the layout is not known to be of this net.
        """
        return None

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Every map by name, in the order of `maps`."""
        self.check_size(images)
        x = self.stem(images)
        made = {"stem": x}
        for number, block in enumerate(self.blocks, start=1):
            x = made[f"block{number}"] = block(x)
        return made

    def pool(self, x: Tensor) -> Tensor:
        """The last map (N, D, h, w) -> (N, D): the mean over its places."""
        return mean_of_places(x)

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D): everything before the dropout and the classifier."""
        self.check_size(images)
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.pool(x)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.embed(images)))
        return logits

    def check_size(self, images: Tensor) -> None:
        """
        Raises:
            ValueError: a side below `smallest`.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"{type(self).__name__} needs images of at least {self.smallest} x {self.smallest} pixels, "
                f"got {height} x {width}"
            )


class Flattening(StagedNet):
    """A net whose dense layers are made for one size of images.

    Attributes:
        image_size: (height, width), pixels.
    """

    image_size: tuple[int, int]

    def check_size(self, images: Tensor) -> None:
        """
        Raises:
            ValueError: images of another size.
        """
        if tuple(images.shape[-2:]) != self.image_size:
            height, width = self.image_size
            raise ValueError(
                f"this {type(self).__name__} flattens maps of {height} x {width} images, got "
                f"{images.shape[-2]} x {images.shape[-1]}; build it with image_size={tuple(images.shape[-2:])}"
            )


def check_counts(**counts: int) -> None:
    """
    Raises:
        ValueError: one is below 1; it is named.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_width(width: float) -> None:
    """
    Raises:
        ValueError: a width multiplier out of range.
    """
    if not 0 < width <= 4:
        raise ValueError(f"width must be in (0, 4], got {width}")


def check_dropout(dropout: float) -> None:
    """
    Raises:
        ValueError: no share of what comes before the classifier.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) from one number or two.

    Raises:
        ValueError: neither.
    """
    found = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(found) != 2 or min(found) < 1:
        raise ValueError(f"image_size must be pixels or (height, width), got {image_size!r}")
    return found[0], found[1]


class PoolSame(nn.Module):
    """The largest of 3 x 3 at every other place, padded as TensorFlow's SAME: (N, C, h, w) -> ceil(h / 2), ceil(w / 2).

    An even side is padded at the end alone, an odd one at both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stride = self.dilation = 0
        self.set_stride(2, dilation=1)

    def set_stride(self, stride: int, *, dilation: int) -> None:
        """Stride 1: at every place, what it would see if the map were as coarse as its dilation says."""
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        # A trace keeps one size, and runtimes take it as a number only.
        sides = [int(side) if torch.jit.is_tracing() else side for side in x.shape[2:]]
        odd = [-(-side // self.dilation) % 2 for side in sides]
        if self.stride == 2:
            return F.max_pool2d(x, 3, stride=2, padding=odd, ceil_mode=True)
        return pool_everywhere(x, kernel=3, before=(odd[0], odd[1]), dilation=self.dilation)


def initialize_as_keras(model: nn.Module) -> None:
    """Glorot and Bengio 2010 for convolutions and linear layers, biases 0: what Keras starts from."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
