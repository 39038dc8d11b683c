"""A net small enough to be quantized in a second, with all that quantizers treat in ways of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from handlens.models.blocks import ConvNormAct


class SmallNet(nn.Module):
    """A stem, a depthwise and a pointwise convolution beside a skip, pooling, a concatenation, a classifier."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU6) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 16, stride=2, activation=activation)
        self.depthwise = ConvNormAct(16, 16, groups=16, activation=activation)
        self.project = ConvNormAct(16, 16, kernel=1)
        self.beside = ConvNormAct(16, 8, kernel=1, activation=activation)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = x + self.project(self.depthwise(x))
        x = self.pool(torch.cat([x, self.beside(x)], dim=1))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3), keepdim=True).flatten(1))
        return logits


def small_net(activation: type[nn.Module] = nn.ReLU6, *, seed: int = 0) -> SmallNet:
    """With statistics in its norms, and channels that differ in size, as in a trained net."""
    torch.manual_seed(seed)
    net = SmallNet(activation)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.2, 3)
            nn.init.uniform_(module.weight, 0.4, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()
