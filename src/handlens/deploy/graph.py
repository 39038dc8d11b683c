"""DeployGraph: the arithmetic of Preprocess, the net and the task's last step as one module.

uint8 pictures in, probabilities out, so that an app needs no normalisation code. Every engine runs this graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from handlens.preprocess import Preprocess


class DeployGraph(nn.Module):
    """What is exported for a classifier.

    forward: images (N, height, width, C) uint8, already at the net's size -> probabilities (N, K) float32.
    """

    def __init__(self, net: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.net = net
        self.scale = Scale(preprocess)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.scale(images)).softmax(dim=1)


class EmbedGraph(nn.Module):
    """The frozen trunk alone: images (N, height, width, C) uint8 -> features (N, D) float32."""

    def __init__(self, net: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.net = net
        self.scale = Scale(preprocess)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.embed(self.scale(images))  # type: ignore[operator]


class ResizingGraph(nn.Module):
    """A DeployGraph that takes pictures of any size (1, H, W, 3) uint8 and resizes them inside.

    An antialiased bilinear resize is one matrix product over the rows and one over the columns; cutting the
    centre out is taking fewer rows of those matrices. So it is exact, and needs no resize operator, of which
    every runtime has another. Rounded to whole levels after each pass, as Pillow does.
    """

    def __init__(self, graph: DeployGraph, preprocess: Preprocess) -> None:
        super().__init__()
        if preprocess.resize == "pad" or preprocess.colour != "rgb":
            raise ValueError(f"the resize inside a graph knows crop and stretch of RGB, got {preprocess}")
        self.graph = graph
        self.preprocess = preprocess

    def forward(self, images: Tensor) -> Tensor:
        wanted = self.preprocess
        height, width = images.shape[1], images.shape[2]
        if wanted.resize == "crop":
            short = torch.sym_min(height, width)
            new_height, new_width = wanted.short_side * height // short, wanted.short_side * width // short
        else:
            new_height, new_width = wanted.height, wanted.width
        rows = resize_matrix(height, new_height, _half(new_height - wanted.height), wanted.height)
        columns = resize_matrix(width, new_width, _half(new_width - wanted.width), wanted.width)
        x = images.to(torch.float32).permute(0, 3, 1, 2)  # (1, 3, H, W)
        x = (x @ columns.T).round()  # (1, 3, H, width)
        x = (rows @ x).round().clamp(0, 255)  # (1, 3, height, width)
        return self.graph(x.permute(0, 2, 3, 1).to(torch.uint8))


class Scale(nn.Module):
    """(N, H, W, C) uint8 -> (N, C, H, W) float32, (pixel / 255 - mean) / std as one multiply and one add."""

    multiply: Tensor
    add: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean = torch.tensor(preprocess.mean, dtype=torch.float64)
        std = torch.tensor(preprocess.std, dtype=torch.float64)
        self.register_buffer("multiply", (1 / (255 * std)).float()[:, None, None], persistent=False)
        self.register_buffer("add", (-mean / std).float()[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).to(torch.float32) * self.multiply + self.add


def _half(margin: int) -> int:
    """round(margin / 2) as Python rounds, ties to even, in whole numbers: sizes are symbols in an exported graph."""
    return margin // 2 + (margin % 2) * ((margin // 2) % 2)


def resize_matrix(size: int, new_size: int, first: int, count: int) -> Tensor:
    """Rows `first` to `first + count` of the (new_size, size) matrix that resizes one axis.

    Source: Pillow's resampling (Resample.c): a triangle as wide as one output pixel, never narrower than
    one input pixel, its weights divided by their sum.
    """
    scale = size / new_size
    support = torch.sym_max(scale, 1.0)
    centres = (torch.arange(count, dtype=torch.float32) + first + 0.5) * scale  # (count,)
    positions = torch.arange(size, dtype=torch.float32) + 0.5  # (size,)
    weights = (1 - (positions[None, :] - centres[:, None]).abs() / support).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
