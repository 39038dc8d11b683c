"""Xception, and the small form of the textbook.

Source   Chollet 2016, arXiv:1610.02357, Figure 5; mini: Chollet 2021, "Deep Learning with Python", 2nd edition,
         section 9.3.5.
Input    images (N, 3, H, W) float32, RGB, normalized to [-1, 1], mini to [0, 1]; any size from 71, mini from 36.
Output   logits (N, K).
Size     1000 classes: 22,855,952 parameters. Mini with one output: 718,849.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from handlens.models.classify.staged import PoolSame, StagedNet, check_counts, initialize_as_keras

MINI = (32, 64, 128, 256, 512)
norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # Keras's: momentum 0.99 there is 0.01 here


class SeparableConv(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution, nothing between them and no bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class Down(nn.Module):
    """Two separable convolutions and max-pooling; the input is added by a strided 1 x 1 convolution.

    Args:
        middle: channels between the two.
        first_act: False leaves out the ReLU before the first, where the input has been through one.
    """

    def __init__(self, in_channels: int, middle: int, out_channels: int, *, first_act: bool = True) -> None:
        super().__init__()
        self.act = nn.ReLU() if first_act else nn.Identity()
        self.conv1, self.norm1 = SeparableConv(in_channels, middle), norm(middle)
        self.conv2, self.norm2 = SeparableConv(middle, out_channels), norm(out_channels)
        self.pool = PoolSame()
        self.project = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.project_norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(self.conv1(self.act(x)))
        out = self.norm2(self.conv2(out.relu()))
        return self.pool(out) + self.project_norm(self.project(x))


class Middle(nn.Module):
    """Three times ReLU, separable convolution and batch norm; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.ReLU(), SeparableConv(channels, channels), norm(channels)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Xception(StagedNet):
    """Entry, middle and exit flow: 36 convolutions, all but two of them separable.

    Raises:
        ValueError: an argument out of range; from forward: images below 71 pixels a side.
    """

    smallest = 71

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 32, 3, stride=2, bias=False),
            norm(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, bias=False),
            norm(64),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(
            [
                Down(64, 128, 128, first_act=False),
                Down(128, 256, 256),
                Down(256, 728, 728),
                *(Middle(728) for _ in range(8)),
                Down(728, 728, 1024),
                nn.Sequential(
                    SeparableConv(1024, 1536),
                    norm(1536),
                    nn.ReLU(),
                    SeparableConv(1536, 2048),
                    norm(2048),
                    nn.ReLU(),
                ),
            ]
        )
        shapes = [(128, 4), (256, 8), *[(728, 16)] * 9, (1024, 32), (2048, 32)]
        self.maps = {"stem": (64, 2)} | {f"block{number}": shape for number, shape in enumerate(shapes, start=1)}
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2048, num_classes)
        initialize_as_keras(self)


class MiniBlock(nn.Module):
    """Twice batch norm, ReLU and a separable convolution, max-pooling; the input is added by a strided 1 x 1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(in_channels), SeparableConv(in_channels, out_channels)
        self.norm2, self.conv2 = norm(out_channels), SeparableConv(out_channels, out_channels)
        self.pool = PoolSame()
        self.project = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.norm1(x).relu())
        out = self.conv2(self.norm2(out).relu())
        return self.pool(out) + self.project(x)


class MiniXception(StagedNet):
    """An ordinary 5 x 5 convolution, since color channels are not independent, and five blocks.

    Raises:
        ValueError: an argument out of range; from forward: images below 36 pixels a side.
    """

    smallest = 36  # the fifth pooling halves a map of 2 x 2

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels)
        self.stem = nn.Conv2d(in_channels, MINI[0], 5, bias=False)
        self.maps = {"stem": (MINI[0], 1)}
        self.blocks = nn.ModuleList()
        channels = MINI[0]
        for wider in MINI:
            self.blocks.append(MiniBlock(channels, wider))
            channels = wider
            self.maps[f"block{len(self.blocks)}"] = (channels, 2 ** len(self.blocks))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        initialize_as_keras(self)
