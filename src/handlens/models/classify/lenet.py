"""LeNet-5, and a larger one for color images.

Source   LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B.
Input    images (N, C, H, W) float32; gray 28 x 28 unless asked otherwise; one size.
Output   logits (N, K).
Size     28 x 28 (padded) or 32 x 32 gray, 10 classes: 61,706 parameters. Color, 224 x 224, 16 and 32 filters, one
         hidden layer of 512, 2 classes: 46,038,242.
Differs  ReLU, max-pooling and a linear classifier in place of tanh, trained subsampling and radial units; the second
         convolution sees every map of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from handlens.models.classify.staged import Flattening, check_counts, initialize_as_keras, sides

KERNEL = 5


class LeNet(Flattening):
    """Two blocks of a 5 x 5 convolution, ReLU and 2 x 2 max-pooling, then dense layers.

    Args:
        image_size: pixels, or (height, width).
        channels: of the two convolutions. hidden: units of the dense layers before the classifier.
        padding: of the first convolution, pixels; None is 2, so that 28 x 28 works, and 0 for the 32 x 32 of the paper.

    Raises:
        ValueError: an argument out of range, images too small; from forward: images of another size.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 28,
        channels: Sequence[int] = (6, 16),
        hidden: Sequence[int] = (120, 84),
        padding: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        if len(channels) != 2 or min(*channels, *hidden) < 1:
            raise ValueError(
                f"channels must be two numbers of at least 1, and hidden any, got {list(channels)} and {list(hidden)}"
            )
        self.image_size = sides(image_size)
        if padding is None:
            padding = 0 if self.image_size == (32, 32) else 2
        self.stem = _block(in_channels, channels[0], padding=padding)
        self.blocks = nn.ModuleList([_block(channels[0], channels[1], padding=0)])
        self.maps = {"stem": (channels[0], 2), "block1": (channels[1], 4)}
        height, width = (((side + 2 * padding - KERNEL + 1) // 2 - KERNEL + 1) // 2 for side in self.image_size)
        self.smallest = 16 - 2 * padding
        if min(self.image_size) < self.smallest:
            raise ValueError(
                f"images of {self.image_size[0]} x {self.image_size[1]} pixels are too small: "
                f"at least {self.smallest} x {self.smallest} are needed"
            )
        widths = [channels[1] * height * width, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], num_classes)
        initialize_as_keras(self)

    def pool(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        return x


def _block(in_channels: int, out_channels: int, *, padding: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, KERNEL, padding=padding), nn.ReLU(), nn.MaxPool2d(2))
