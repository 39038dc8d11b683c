"""What a researcher writes beside handlens: a module of its own, so that its parts can be imported by name."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2


class PlainBlock(nn.Sequential):
    """In place of MobileNetV2's inverted residual."""

    def __init__(self, in_channels, out_channels, *, expansion, stride, norm, padding):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU6(),
        )


class TinyNet(nn.Module):
    """(N, 3, H, W) -> (N, num_classes)."""

    def __init__(self, *, num_classes: int, channels: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, channels, 3, stride=4), nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class Hidden(TinyNet):
    """What is called classifier is not the last layer."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(num_classes=8)
        self.last = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(super().forward(images).relu())


class Tied(TinyNet):
    """Two layers that share their weights."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, channels=num_classes)
        self.again = nn.Linear(num_classes, num_classes)
        self.again.weight = self.classifier.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.again(super().forward(images))


class Branching(TinyNet):
    """Its code asks for a value of the images, which a graph cannot do."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits if float(images.sum()) > 0 else 5 - logits


class Unconvertible(TinyNet):
    """Uses an operator that OpenVINO does not have."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.special.airy_ai(super().forward(images).detach()) + super().forward(images)


class TinySegmenter(nn.Sequential):
    """(N, 3, H, W) -> (N, num_classes, H, W)."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, num_classes, 1))


def anything(**options: int) -> nn.Module:
    return TinyNet(**options)


def classless(*, num_classes: int) -> dict[str, int]:
    return {"num_classes": num_classes}


def smoothed(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, targets, label_smoothing=0.1)


def pixels(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, targets, ignore_index=255)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean()


def as_floats(image: Tensor) -> Tensor:
    return v2.functional.to_dtype(image, torch.float32, scale=True)


def noisy(image: Tensor) -> Tensor:
    """Draws from all three global generators."""
    noise = np.random.randint(0, 9, image.shape) + random.randint(0, 9)
    return image.add(torch.from_numpy(noise.astype(np.uint8))).add(torch.randint(0, 9, ()).to(torch.uint8))


mirrored = v2.RandomHorizontalFlip(1.0)
