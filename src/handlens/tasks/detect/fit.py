"""What a detector has to be like for its data: the size of its input, and the options that follow from the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlens.data.labels.boxes import usable_boxes
from handlens.data.record import Dataset, Record
from handlens.errors import InputError
from handlens.tasks.starting import upright_size, usual_size

if TYPE_CHECKING:
    from torch import Tensor

    from handlens.training.recipe import Recipe

DETECTOR_SIDES = (320, 416, 512)  # of a detector's: the first at which no class is smaller than SMALLEST
SMALLEST = 28  # pixels: square root of the middle area of a class's boxes, below which a map at stride 16 says little


@dataclass(frozen=True)
class DetectorFit:
    """What a detector has to be like for a data set.

    Attributes:
        height, width: of the net's input, pixels.
        options: of the net.
        unreached: class name -> share of its training boxes that no anchor reaches, of a net that has anchors.
    """

    height: int
    width: int
    options: dict[str, Any]
    unreached: dict[str, float]


def fit_detector(recipe: Recipe, dataset: Dataset) -> DetectorFit:
    """Size and options: those that the recipe asks for, and what suits the training boxes where it does not.

    Raises:
        InputError: no box to learn from, or an option out of range.
    """
    import torch

    from handlens.models import CATALOGUE

    corners, classes = _all_boxes(dataset.part("train"))
    boxes, labels = torch.tensor(corners, dtype=torch.float32), torch.tensor(classes)
    height, width = (
        _size_for_boxes(dataset.part("train"), boxes, labels) if recipe.image_size is None else recipe.size()
    )
    suited_to = CATALOGUE[recipe.model].suited_to
    if suited_to is None:
        return DetectorFit(height, width, {}, {})
    try:
        options, unreached = suited_to(
            boxes, labels, height=height, width=width, options=recipe.options, fitted=recipe.anchors == "fitted"
        )
    except ValueError as error:
        raise InputError(f"{recipe.model}: {error}.") from None
    return DetectorFit(height, width, options, {dataset.class_names[i]: share for i, share in unreached.items()})


def _size_for_boxes(records: Sequence[Record], boxes: Tensor, labels: Tensor) -> tuple[int, int]:
    """(height, width): of DETECTOR_SIDES the first at which the objects of every class are large enough, or the last.

    Args:
        boxes: (N, 4) fractions of their images. labels: (N,).
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    smallest = min(float(areas[labels == label].median()) for label in labels.unique())
    for longest in DETECTOR_SIDES:
        height, width = usual_size(records, longest=longest, enlarge=True)
        if (smallest * height * width) ** 0.5 >= SMALLEST:
            break
    return height, width


def _all_boxes(records: Sequence[Record]) -> tuple[list[tuple[float, ...]], list[int]]:
    """Boxes in fractions of their images, and their classes; without crowds and difficult objects."""
    boxes: list[tuple[float, ...]] = []
    labels: list[int] = []
    for record in records:
        if not record.label:
            continue
        height, width = upright_size(record)
        for box in usable_boxes(record, size=(width, height)):
            if not box.crowd and not box.difficult:
                boxes.append((box.left / width, box.top / height, box.right / width, box.bottom / height))
                labels.append(box.label)
    if not boxes:
        raise InputError("the training images have no box with an area.")
    return boxes, labels
