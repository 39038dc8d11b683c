"""VGG: nothing but 3 x 3 convolutions and 2 x 2 max-pooling, 11 to 19 layers deep.

Source   Simonyan and Zisserman 2014, arXiv:1409.1556, Table 1, columns A, B, D and E.
Input    images (N, 3, H, W) float32, RGB, normalized; any size from 32 x 32.
Output   logits (N, K).
Size     1000 classes: 132,863,336 (11), 133,047,848 (13), 138,357,544 (16), 143,667,240 (19) parameters.
Differs  With batch norm (2015) as an option; its convolutions keep their biases, as in the weights that are published.
         Maps of another size than 7 x 7 are pooled to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import initialize
from handlens.models.classify.staged import StagedNet, check_counts

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
DENSE = 4096  # units of each hidden dense layer
LAST_SIDE = 7  # of the map that the dense layers see
PUBLISHED_DENSE = {"0": "hidden1", "3": "hidden2", "6": "classifier"}  # position in torchvision's `classifier`


class VGG(StagedNet):
    """Five groups of convolutions, each with max-pooling behind, and three dense layers.

    Args:
        depth: 11, 13, 16 or 19 layers with weights.
        hidden: units of each of the two dense layers before the classifier, 4096 in the paper: 86 % of the parameters.

    Raises:
        ValueError: an argument out of range; from forward: images below 32 pixels a side.
    """

    smallest = 32

    def __init__(
        self,
        *,
        num_classes: int,
        depth: int = 16,
        batch_norm: bool = False,
        in_channels: int = 3,
        dropout: float = 0.5,
        hidden: int = DENSE,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, hidden=hidden)
        if depth not in CONVOLUTIONS:
            raise ValueError(f"depth must be one of {', '.join(map(str, CONVOLUTIONS))}, got {depth}")
        groups = []
        channels = in_channels
        for count, wider in zip(CONVOLUTIONS[depth], CHANNELS, strict=True):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers.append(nn.Conv2d(channels, wider, 3, padding=1))
                layers += [nn.BatchNorm2d(wider)] if batch_norm else []
                layers.append(nn.ReLU())
                channels = wider
            groups.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.stem = groups[0]
        self.blocks = nn.ModuleList(groups[1:])
        self.maps = {"stem": (CHANNELS[0], 2)}
        self.maps |= {f"block{number}": (CHANNELS[number], 2 ** (number + 1)) for number in range(1, len(CHANNELS))}
        self.hidden1 = nn.Linear(channels * LAST_SIDE**2, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)
        initialize(self)

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename a state dict with torchvision's names into ours; None where it has others.

        Its `features` is one list, in which a gap shows where a max-pooling is, and so where a group of ours begins.
        """
        if "classifier.6.weight" not in state or "features.0.weight" not in state:
            return None
        if state["features.0.weight"].shape[-1] == 11:  # AlexNet has the same two
            return None
        positions = sorted({int(match[1]) for key in state if (match := re.match(r"features\.(\d+)\.", key))})
        starts = [0] + [position for last, position in pairwise(positions) if position - last > 2]  # more than its ReLU
        renamed = {}
        for key, value in state.items():
            if match := re.fullmatch(r"features\.(\d+)\.(\w+)", key):
                position = int(match[1])
                number = sum(start <= position for start in starts) - 1
                part = "stem" if number == 0 else f"blocks.{number - 1}"
                key = f"{part}.{position - starts[number]}.{match[2]}"
            elif match := re.fullmatch(r"classifier\.(\d)\.(\w+)", key):
                key = f"{PUBLISHED_DENSE.get(match[1], match[1])}.{match[2]}"
            renamed[key] = value
        return renamed

    def pool(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, LAST_SIDE).flatten(1)
        x = self.dropout(self.hidden1(x).relu())
        hidden: Tensor = self.hidden2(x).relu()
        return hidden
