"""The way from a decoded image to the numbers a net sees, in one object with one JSON form.

Made once, when training starts; saved in model.json; used by evaluation, prediction, the golden
images and the server. An exported graph carries the arithmetic (`mean`, `std`) inside. Nothing else
in the project resizes or normalizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.errors import InputError
from handlens.palette import IGNORE

ResizePolicy = Literal["crop", "stretch", "pad"]
Color = Literal["rgb", "gray"]
INTERPOLATION = "bilinear, antialiased"
LARGEST_SIDE = 16384  # pixels; our choice: no model for a phone is fed more
LARGEST_FLOAT = 1e30
PADDING = 114  # gray, what "pad" fills with
MIDDLE = 0.7  # of each side: what `middle` keeps; our choice, by benchmarks/unknown.py
THIN = 1 << 26  # pixels of a resized image, 0.2 GB: above it only what is kept of it is made

# Named input scalings: (mean, std) of pixels in [0, 1]. The scaling follows the weights.
SCALINGS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision's published weights
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # -1 to 1: TensorFlow's MobileNets
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # 0 to 1
    "lite": ((127 / 255,) * 3, (128 / 255,) * 3),  # EfficientNet-Lite: (pixel - 127) / 128
}


def middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle MIDDLE of each side of an image (H, W, C): a second, closer view of it."""
    height, width = image.shape[:2]
    rows, columns = max(1, round(MIDDLE * height)), max(1, round(MIDDLE * width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(image[top : top + rows, left : left + columns])


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize, then scale: (pixel / 255 - mean) / std.

    Attributes:
        height, width: what the net is fed, pixels.
        resize: "crop" brings the shorter side to `short_side`, then cuts the center out;
            "stretch" ignores the aspect ratio; "pad" fits the image inside and fills with gray 114.
        short_side: pixels, for "crop" only. 256 with 224 is what ImageNet nets are published with.
        color: "rgb", or "gray" for one channel (ITU-R 601-2 luma, as Pillow's "L").
        mean, std: one per channel, of pixels in [0, 1].

    Resizing is bilinear with antialiasing, on uint8: Pillow's `Image.BILINEAR` across, then down.
    """

    height: int = 224
    width: int = 224
    resize: ResizePolicy = "crop"
    short_side: int = 224
    color: Color = "rgb"
    mean: tuple[float, ...] = SCALINGS["imagenet"][0]
    std: tuple[float, ...] = SCALINGS["imagenet"][1]

    def __post_init__(self) -> None:
        if not 1 <= min(self.height, self.width) <= max(self.height, self.width, self.short_side) <= LARGEST_SIDE:
            raise InputError(
                f"Preprocess size must be from 1 to {LARGEST_SIDE:,}, got {self.height} x {self.width} and a short "
                f"side of {self.short_side}."
            )
        if self.resize not in get_args(ResizePolicy):
            raise InputError(f"resize must be one of {', '.join(get_args(ResizePolicy))}, got {self.resize!r}.")
        if self.color not in get_args(Color):
            raise InputError(f"color must be one of {', '.join(get_args(Color))}, got {self.color!r}.")
        if self.resize == "crop" and self.short_side < max(self.height, self.width):
            raise InputError(
                f"short_side {self.short_side} is smaller than the {self.height} x {self.width} that is cut out of it."
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InputError(f"mean and std need {self.channels} values each, got {self.mean} and {self.std}.")
        if not all(map(math.isfinite, self.mean)):
            raise InputError(f"mean must be finite, got {self.mean}.")
        if not all(0 < value < math.inf for value in self.std):
            raise InputError(f"std must be positive and finite, got {self.std}.")

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a decoded image.

        Args:
            image: (H, W, 3) uint8 RGB, any size.

        Returns:
            (height, width, channels) uint8, contiguous: what a DeployGraph takes.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if self._is_thin(*image.shape[:2]):
            resized = self._center(image)
        else:
            resized = self._enlarged(image) if self._enlarges(image) else self._placed(image, _resize, fill=PADDING)
        if self.color == "gray":
            resized = np.asarray(Image.fromarray(resized).convert("L"))[:, :, None]
        return np.ascontiguousarray(resized)

    def mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class indices of an image's pixels, (H, W) uint8, as they lie in the net's input: (height, width).

        Nearest neighbor: a class between two others would be an invention. Padding becomes IGNORE.
        """
        if mask.dtype != np.uint8 or mask.ndim != 2 or mask.size == 0:
            raise ValueError(f"mask must be (H, W) uint8, got {mask.shape} {mask.dtype}")
        if self._is_thin(*mask.shape):
            top, bottom, left, right = self._kept(*mask.shape)
            rows = (top + (np.arange(self.height) + 0.5) * (bottom - top) / self.height).astype(int)
            columns = (left + (np.arange(self.width) + 0.5) * (right - left) / self.width).astype(int)
            return np.ascontiguousarray(mask[np.ix_(rows, columns)])
        return np.ascontiguousarray(self._placed(mask, _nearest, fill=IGNORE))

    def geometry(self, height: int, width: int) -> Geometry:
        """Where an image of this size lies in the net's input."""
        new_height, new_width, top, left = self.placement(height, width)
        return Geometry(new_width / width, new_height / height, left, top)

    def placement(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(new_height, new_width, top, left): the size an image gets, and where its corner lies in the net's input;
        negative where it is cut off."""
        if self.resize == "stretch":
            return self.height, self.width, 0, 0
        if self.resize == "crop":
            short = min(height, width)
            new_height = int(self.short_side * height / short)
            new_width = int(self.short_side * width / short)
            return new_height, new_width, -round((new_height - self.height) / 2), -round((new_width - self.width) / 2)
        scale = min(self.height / height, self.width / width)
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
        return new_height, new_width, (self.height - new_height) // 2, (self.width - new_width) // 2

    def restored(self, classes: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """A class map (self.height, self.width) of the net's input, as large as the image was: (height, width) uint8.

        Raises:
            ValueError: the policy is "crop", which leaves a part of the image without an answer.
        """
        if self.resize == "crop":
            raise ValueError("a mask cannot be mapped back to the whole image after a center crop")
        new_height, new_width, top, left = self.placement(height, width)
        return _nearest(classes[top : top + new_height, left : left + new_width], height, width)

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(..., H, W, C) uint8 -> the same shape float32. For people and tests: graphs carry this inside."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.asarray((pixels.astype(np.float32) / np.float32(255) - mean) / std, dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std), "interpolation": INTERPOLATION}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Preprocess:
        """
        Raises:
            InputError: a key is missing or unknown, or a value is out of range.
        """
        fields = {key: item for key, item in value.items() if key != "interpolation"}
        expected = set(cls.__dataclass_fields__)
        if set(fields) != expected:
            raise InputError(f"preprocess must have the keys {sorted(expected)}, got {sorted(fields)}.")
        if value.get("interpolation", INTERPOLATION) != INTERPOLATION:
            raise InputError(f"interpolation must be {INTERPOLATION!r}, got {value['interpolation']!r:.40}.")
        for key in ("height", "width", "short_side"):
            if type(fields[key]) is not int:
                raise InputError(f"{key} must be a whole number of pixels, got {fields[key]!r:.40}.")
        for key in ("mean", "std"):
            if not isinstance(fields[key], (list, tuple)) or not all(map(_is_number, fields[key])):
                raise InputError(f"{key} must be a list of numbers, got {fields[key]!r:.40}.")
        return cls(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})

    def _is_thin(self, height: int, width: int) -> bool:
        """Whether "crop" would make an image with more than THIN pixels, of which it keeps a few: of 1 x 20,000 pixels
        one of 224 x 4,480,000."""
        if self.resize != "crop":
            return False
        new_height, new_width, _, _ = self.placement(height, width)
        return new_height * new_width > THIN

    def _kept(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(top, bottom, left, right) of what "crop" keeps, in pixels of the image."""
        new_height, new_width, top, left = self.placement(height, width)
        down, across = height / new_height, width / new_width
        return -top * down, (self.height - top) * down, -left * across, (self.width - left) * across

    def _center(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What "crop" keeps, resized by itself: the same pixels but for rounding."""
        top, bottom, left, right = self._kept(*image.shape[:2])
        # Pillow counts in float32: cut near what is kept, and leave what its filter reaches around it.
        reach = 2 + 2 * math.ceil(max((bottom - top) / self.height, (right - left) / self.width))
        first_row, first_column = max(0, math.floor(top) - reach), max(0, math.floor(left) - reach)
        near = image[first_row : math.ceil(bottom) + reach, first_column : math.ceil(right) + reach]
        box = left - first_column, top - first_row, right - first_column, bottom - first_row
        box = (*box[:2], min(box[2], near.shape[1]), min(box[3], near.shape[0]))
        part = Image.fromarray(np.ascontiguousarray(near))
        return np.asarray(part.resize((self.width, self.height), Image.Resampling.BILINEAR, box=box))

    def _enlarges(self, image: NDArray[np.uint8]) -> bool:
        new_height, new_width, _, _ = self.placement(*image.shape[:2])
        return self.resize == "crop" and new_height >= image.shape[0] and new_width >= image.shape[1]

    def _enlarged(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Across comes first: columns that are cut away need not be resized down."""
        height = image.shape[0]
        new_height, new_width, top, left = self.placement(*image.shape[:2])
        columns = _resized(Image.fromarray(image), height, new_width).crop((-left, 0, self.width - left, height))
        return np.asarray(_resized(columns, new_height, self.width))[-top : self.height - top]

    def _placed(self, image: NDArray[np.uint8], resize: Resize, *, fill: int) -> NDArray[np.uint8]:
        """(H, W, ...) -> (height, width, ...): resized, then cut or padded."""
        height, width = image.shape[:2]
        new_height, new_width, top, left = self.placement(height, width)
        resized = resize(image, new_height, new_width)
        if self.resize != "pad":
            return resized[-top : self.height - top, -left : self.width - left]
        canvas = np.full((self.height, self.width, *image.shape[2:]), fill, dtype=np.uint8)
        canvas[top : top + new_height, left : left + new_width] = resized
        return canvas


@dataclass(frozen=True)
class Geometry:
    """From pixels of an image to pixels of the net's input: x * scale_x + left, y * scale_y + top."""

    scale_x: float
    scale_y: float
    left: float
    top: float

    def boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) left, top, right, bottom in the image -> in the net's input; pixels."""
        return np.asarray(boxes * self._scale() + self._offset(), dtype=np.float32)

    def restored_boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `boxes`."""
        return np.asarray((boxes - self._offset()) / self._scale(), dtype=np.float32)

    def _scale(self) -> NDArray[np.float64]:
        return np.array([self.scale_x, self.scale_y] * 2)

    def _offset(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top] * 2)


def _is_number(value: Any) -> bool:
    """One that fits a float."""
    return type(value) in (int, float) and abs(value) < LARGEST_FLOAT


Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]


def _nearest(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if mask.shape[:2] == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return image if image.shape[:2] == (height, width) else np.asarray(_resized(Image.fromarray(image), height, width))


def _resized(image: Image.Image, height: int, width: int) -> Image.Image:
    """Across, then down, each rounded to whole levels. Pillow 12 does so by itself; 13 turns it round if it is tall."""
    for size in ((width, image.height), (width, height)):
        image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    return image
