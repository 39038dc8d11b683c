"""Which part of an image a training step sees, and where its pixels, its mask and its boxes lie in the net's input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from handlens.palette import IGNORE
from handlens.preprocess import PADDING, Preprocess

# Our choice: a box that is cut to less says little about its object.
LEAST_AREA_LEFT = 0.3  # of the box
LEAST_SIDE_LEFT = 2.0  # pixels of the net's input


@dataclass(frozen=True)
class Window:
    """What is seen of an image, and where it lies in the net's input; the rest of the input is padding.

    Attributes:
        seen: top, left, bottom, right in pixels of the image.
        place: the same of the net's input.
        size: height, width of the net's input.
    """

    seen: tuple[int, int, int, int]
    place: tuple[int, int, int, int]
    size: tuple[int, int]

    def image(self, image: Tensor) -> Tensor:
        """(C, H, W) uint8 -> (C, height, width), antialiased."""
        return self._placed(image, InterpolationMode.BILINEAR, fill=PADDING)

    def mask(self, mask: Tensor) -> Tensor:
        """(H, W) uint8 -> (height, width), nearest neighbor."""
        return self._placed(mask.as_subclass(Tensor)[None], InterpolationMode.NEAREST_EXACT, fill=IGNORE)[0]

    def boxes(self, boxes: Tensor, labels: Tensor) -> tuple[tv_tensors.BoundingBoxes, Tensor]:
        """(N, 4) and (N,) -> what is left of them; pixels of the image -> of the net's input."""
        (top, left, bottom, right), place = self.seen, self.place
        scale_y, scale_x = (place[2] - place[0]) / (bottom - top), (place[3] - place[1]) / (right - left)
        offset_y, offset_x = place[0] - top * scale_y, place[1] - left * scale_x
        moved = boxes.as_subclass(Tensor) * torch.tensor([scale_x, scale_y] * 2)
        moved = moved + torch.tensor([offset_x, offset_y] * 2)
        inside = moved.clone()
        inside[:, 0::2] = moved[:, 0::2].clamp(place[1], place[3])
        inside[:, 1::2] = moved[:, 1::2].clamp(place[0], place[2])
        sides = inside[:, 2:] - inside[:, :2]
        whole = (moved[:, 2:] - moved[:, :2]).prod(dim=1)
        kept = (sides.prod(dim=1) >= LEAST_AREA_LEFT * whole) & (sides >= LEAST_SIDE_LEFT).all(dim=1)
        return xyxy(inside[kept], *self.size), labels[kept]

    def _placed(self, image: Tensor, interpolation: InterpolationMode, *, fill: int) -> Tensor:
        (top, left, bottom, right), place = self.seen, self.place
        part = image[:, top:bottom, left:right]
        resized = F.resize_image(
            part, [place[2] - place[0], place[3] - place[1]], interpolation=interpolation, antialias=True
        )
        if resized.shape[1:] == self.size:
            return resized
        canvas = torch.full((len(image), *self.size), fill, dtype=torch.uint8)
        canvas[:, place[0] : place[2], place[1] : place[3]] = resized
        return canvas


def taken_by(preprocess: Preprocess, size: tuple[int, int]) -> tuple[float, float]:
    """(height, width) in pixels of the image that Preprocess feeds the net; more than the image where it pads."""
    if preprocess.resize == "stretch":
        return size
    if preprocess.resize == "crop":
        scale = min(size) / preprocess.short_side
    else:
        scale = max(size[0] / preprocess.height, size[1] / preprocess.width)
    return preprocess.height * scale, preprocess.width * scale


def random_window(
    size: tuple[int, int],
    taken: tuple[float, float],
    shape: tuple[int, int],
    *,
    scale: tuple[float, float],
    aspect: float,
) -> Window:
    """A window somewhere in an image, or around it.

    Args:
        size: height, width of the image. taken: of the window at scale 1, in the same pixels.
        shape: height, width of the net's input.
        scale: the least and the most that the window's sides are multiplied with.
        aspect: the most that the logarithm of the aspect ratio changes.
    """
    factor = math.exp(uniform(math.log(scale[0]), math.log(scale[1])))
    stretch = math.exp(uniform(-aspect, aspect) / 2)
    seen: list[tuple[int, int]] = []
    place: list[tuple[int, int]] = []
    for length, window, net in zip(
        size, (taken[0] * factor * stretch, taken[1] * factor / stretch), shape, strict=True
    ):
        start = uniform(0, 1) * (length - window)  # negative: the image lies somewhere inside the window
        first = min(max(math.floor(start), 0), length - 1)
        last = min(max(math.ceil(start + window), first + 1), length)
        # Padding is only where the window looks out over the image's edge.
        begin = 0 if start >= 0 else min(max(round(-start * net / window), 0), net - 1)
        end = net if start + window <= length else min(max(round((length - start) * net / window), begin + 1), net)
        seen.append((first, last))
        place.append((begin, end))
    (top, bottom), (left, right) = seen
    (above, below), (before, after) = place
    return Window((top, left, bottom, right), (above, before, below, after), shape)


def xyxy(corners: Tensor, height: int, width: int) -> tv_tensors.BoundingBoxes:
    """(N, 4) left, top, right, bottom in pixels of an image of this size, as torchvision wants them."""
    boxes: tv_tensors.BoundingBoxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width))
    return boxes


def uniform(low: float, high: float) -> float:
    """From torch's own generator, which `seeded` sets."""
    return float(torch.empty(()).uniform_(low, high))
