"""DeployGraph: the arithmetic of Preprocess, the net and the task's last step as one module.

uint8 pictures in, answers out, so that an app needs no normalisation code. Every engine runs this graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from handlens.data.record import Task
from handlens.preprocess import Preprocess


class DeployGraph(nn.Module):
    """What is exported and what every engine runs. Its outputs are named by `graph_names.OUTPUTS[task]`.

    forward: images (N, height, width, C) uint8, already at the net's size ->
        classify: probabilities (N, K) float32;
        segment: the likeliest class of each pixel (N, height, width) uint8;
        detect: boxes (N, M, 4) float32 left, top, right, bottom in fractions of the input, scores (N, M) float32,
            labels (N, M) int64, doubles suppressed; a score of 0 is padding.

    Args:
        suppress: False leaves the suppression of doubles, of detection, to the app: M is then larger.
    """

    def __init__(
        self, net: nn.Module, preprocess: Preprocess, *, task: Task = "classify", suppress: bool = True
    ) -> None:
        super().__init__()
        self.net = net
        self.scale = Scale(preprocess)
        self.task = task
        self.suppress = suppress

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        answer = self.net(self.scale(images))
        if self.task == "classify":
            return answer.softmax(dim=1)
        if self.task == "segment":
            return answer.argmax(dim=1).to(torch.uint8)
        boxes, scores, labels = self.net.decode(answer, suppress=self.suppress)  # type: ignore[operator]
        return boxes, scores, labels


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
        self.deployed = graph  # not "graph": exporters keep their own under that name
        self.preprocess = preprocess

    def forward(self, images: Tensor) -> Tensor:
        wanted = self.preprocess
        # Sizes as tensors made from the picture itself: a traced or exported graph keeps them open.
        along_height = torch.ones_like(images[0, :, 0, 0], dtype=torch.float32)  # (H,)
        along_width = torch.ones_like(images[0, 0, :, 0], dtype=torch.float32)  # (W,)
        height, width = along_height.sum(), along_width.sum()
        if wanted.resize == "crop":
            short = torch.minimum(height, width)
            # Half a unit more: division in float32 must not fall below a whole number.
            new_height = ((wanted.short_side * height + 0.5) / short).floor()
            new_width = ((wanted.short_side * width + 0.5) / short).floor()
        else:
            new_height, new_width = height * 0 + wanted.height, width * 0 + wanted.width
        rows = resize_matrix(along_height, new_height, _half(new_height - wanted.height), wanted.height)
        columns = resize_matrix(along_width, new_width, _half(new_width - wanted.width), wanted.width)
        x = images.to(torch.float32).permute(0, 3, 1, 2)  # (1, 3, H, W)
        x = (x @ columns.T).round()  # (1, 3, H, width)
        x = (rows @ x).round().clamp(0, 255)  # (1, 3, height, width)
        return self.deployed(x.permute(0, 2, 3, 1).to(torch.uint8))


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


def _half(margin: Tensor) -> Tensor:
    """round(margin / 2) as Python rounds, ties to even."""
    half = (margin / 2).floor()
    odd, odd_half = margin - 2 * half, half - 2 * (half / 2).floor()
    return half + odd * odd_half


def resize_matrix(along: Tensor, new_size: Tensor, first: Tensor, count: int) -> Tensor:
    """Rows `first` to `first + count` of the (new_size, size) matrix that resizes one axis.

    Args:
        along: (size,) ones. new_size, first: whole numbers, shape ().

    Returns:
        (count, size), each row summing to 1.

    Source: Pillow's resampling (Resample.c): a triangle as wide as one output pixel, never narrower than
    one input pixel, its weights divided by their sum.
    """
    scale = along.sum() / new_size
    centres = (torch.arange(count, dtype=torch.float32) + first + 0.5) * scale  # (count,)
    positions = along.cumsum(0) - 0.5  # (size,)
    distances = (positions[None, :] - centres[:, None]).abs() / scale.clamp(min=1)
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
