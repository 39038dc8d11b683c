"""Anchors: the boxes that an SSD's answers are relative to.

An anchor's shape is [width, height], fractions of the net's input. A net has one list of shapes per feature map, and
every cell of the map has all of them, centerd. Plain lists, so that they can stand in model.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from handlens.losses.overlap import box_iou

Shapes = Sequence[Sequence[Sequence[float]]]

FIRST_STRIDES = (16, 8)  # of the finest map with a head: the published one, and one that sees objects half the size
LAST_STRIDE = 512
UNREACHED = 0.05  # share of a class's boxes without an anchor from which a finer map is taken

# Of every map but the first: (ratio of width to height), at the map's own scale. The published net has 0.3333, not 1/3.
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
LARGEST = 0.95
# An anchor so many cells wide overlaps its own shape by IoU 0.58 even where that lies right between four cells:
# ((1 - 1/7)^2 / (2 - (1 - 1/7)^2)). The rest up to the threshold of 0.5 is left for differences in shape.
CELLS = 3.5


def published_anchors(maps: int = 6) -> list[list[list[float]]]:
    """The shapes of SSDLite-MobileNetV2 for six maps; for seven, the same from half the smallest size (our choice).

    Returns:
        per map, from the finest: [width, height] of 3 anchors on the first and 6 on each other.

    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; scales, the three shapes of the first map and the square
    between two scales as in the authors' ssdlite_mobilenet_v2_coco.config (TensorFlow Object Detection API).
    """
    smallest = 0.2 if maps <= 6 else 0.1
    scales = [smallest + (LARGEST - smallest) * number / (maps - 1) for number in range(maps)] + [1.0]
    shapes = [[_shape(smallest / 2, 1.0), _shape(smallest, 2.0), _shape(smallest, 0.5)]]
    for scale, next_scale in pairwise(scales[1:]):
        between = math.sqrt(scale * next_scale)
        shapes.append([*(_shape(scale, ratio) for ratio in RATIOS), [between, between]])
    return shapes


def map_strides(first_stride: int) -> list[int]:
    """Of the maps of an SSD, from the finest with a head; each is half as fine as the one before.

    Raises:
        ValueError: another first stride than 16 or 8.
    """
    if first_stride not in FIRST_STRIDES:
        raise ValueError(f"first_stride must be one of {', '.join(map(str, FIRST_STRIDES))}, got {first_stride}")
    return [first_stride << number for number in range((LAST_STRIDE // first_stride).bit_length())]


def map_grids(height: int, width: int, *, first_stride: int = 16) -> list[tuple[int, int]]:
    """(rows, columns) of the maps of an SSD for an input of height x width pixels: what `fit_anchors` needs.

    Raises:
        ValueError: another first stride than 16 or 8.
    """
    return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in map_strides(first_stride)]


def grid_anchors(shapes: Shapes, grids: Sequence[tuple[int, int]]) -> Tensor:
    """Every anchor of every cell.

    Args:
        shapes: per map, [width, height] fractions.
        grids: per map, (rows, columns).

    Returns:
        (A, 4) float32 left, top, right, bottom; fractions, may reach outside [0, 1]; by map, row, column, shape.

    Raises:
        ValueError: another number of maps than of grids.
    """
    if len(shapes) != len(grids):
        raise ValueError(f"shapes and grids must have one entry per map, got {len(shapes)} and {len(grids)}")
    made = []
    for wanted, (rows, columns) in zip(shapes, grids, strict=True):
        size = torch.tensor(wanted, dtype=torch.float32).reshape(-1, 2)  # a map may have none
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        centers = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)[:, None]  # (cells, 1, 2)
        made.append(torch.cat([centers - size / 2, centers + size / 2], dim=2).reshape(-1, 4))
    return torch.cat(made)


def fit_anchors(
    boxes: Tensor, labels: Tensor, grids: Sequence[tuple[int, int]], *, count: int = 9
) -> list[list[list[float]]]:
    """Shapes that suit the boxes of a data set: k-means with 1 - IoU as the distance, every class weighing the same.

    Each shape stands on the coarsest map whose cells are fine enough to find it wherever it lies (`CELLS`), or on the
    finest. Maps behind the last one that is used are left out, so that the net has no layers for them.

    Args:
        boxes: (n, 4) left, top, right, bottom; fractions of the net's input. Those without area do not count.
        labels: (n,) class of each.
        grids: (rows, columns) per map, from the finest.
        count: shapes in all; fewer come out where the boxes have fewer different ones.

    Returns:
        per map, [width, height] of its anchors, smallest first; a map in between may have none.

    Raises:
        ValueError: no box with an area, or another number of labels.

    Source: Redmon and Farhadi 2017, arXiv:1612.08242, section 2, "Dimension Clusters". Weights and maps: our choice.
    """
    if boxes.shape != (len(labels), 4):
        raise ValueError(f"boxes must be ({len(labels)}, 4), one per label, got {tuple(boxes.shape)}")
    sizes = (boxes[:, 2:] - boxes[:, :2]).double()
    usable = (sizes > 0).all(dim=1)
    if not usable.any():
        raise ValueError(f"anchors cannot be fitted: none of {len(boxes)} boxes has an area")
    sizes, labels = sizes[usable], labels[usable].long()
    weights = 1 / labels.bincount().double()[labels]
    placed: list[list[list[float]]] = [[] for _ in grids]
    for width, height in _k_means(sizes, weights, count).tolist():
        fine = [n for n, (rows, columns) in enumerate(grids) if min(width * columns, height * rows) >= CELLS]
        placed[fine[-1] if fine else 0].append([round(width, 5), round(height, 5)])
    last = max(number for number, shapes in enumerate(placed) if shapes)
    return placed[: last + 1]


def coverage(boxes: Tensor, labels: Tensor, anchors: Tensor, *, threshold: float = 0.5) -> dict[int, float]:
    """Per class that has boxes, the share of them that no anchor reaches.

    Args:
        boxes: (n, 4), labels: (n,), of any number of images. anchors: (A, 4), as `grid_anchors` makes them.
        threshold: least IoU that counts as reached, as in `match`.

    Returns:
        label -> share in [0, 1] of boxes whose best IoU with any anchor is below the threshold.
    """
    best = torch.cat([box_iou(part, anchors).amax(dim=1) for part in boxes.split(1024)]) if len(boxes) else boxes[:, 0]
    missed = (best < threshold).double()
    return {label: float(missed[labels == label].mean()) for label in sorted(set(labels.tolist()))}


def suited_anchors(
    boxes: Tensor, labels: Tensor, *, height: int, width: int, options: Mapping[str, Any], fitted: bool
) -> tuple[dict[str, Any], dict[int, float]]:
    """The options of an SSD that follow from its training boxes: `Entry.suited_to` of the catalogue.

    The finest map is that at stride 16 where anchors on it reach the boxes of every class, else at 8, which costs more.

    Args:
        boxes: (n, 4) left, top, right, bottom; fractions of the net's input. labels: (n,).
        height, width: of the net's input, pixels.
        options: `first_stride` and `anchors`, where they are given, stay.
        fitted: to the boxes; else the published anchors.

    Returns:
        first_stride and anchors; label -> share in [0, 1] of its boxes that no anchor reaches.

    Raises:
        ValueError: another first stride than there is, or anchors for another number of maps.
    """
    asked, anchors = options.get("first_stride"), options.get("anchors")
    to_fit = anchors is None and fitted
    tried = FIRST_STRIDES if to_fit else FIRST_STRIDES[:1]
    for first in tried if asked is None else (asked,):
        grids = map_grids(height, width, first_stride=first)
        if to_fit:
            anchors = fit_anchors(boxes, labels, grids)
        elif anchors is None:
            anchors = published_anchors(len(grids))
        missed = coverage(boxes, labels, grid_anchors(anchors, grids[: len(anchors)]))
        if max(missed.values()) <= UNREACHED:
            break
    return {"first_stride": first, "anchors": anchors}, missed


def check_anchors(anchors: Shapes, *, most: int) -> None:
    """
    Raises:
        ValueError: no map or more than `most`, nothing on the last one, or a shape that is not two positive numbers.
    """
    if not 1 <= len(anchors) <= most or not anchors[-1]:
        raise ValueError(f"anchors must be for 1 to {most} maps with some on the last, got {list(map(len, anchors))}")
    for number, shapes in enumerate(anchors):
        for shape in shapes:
            if not isinstance(shape, Sequence) or len(shape) != 2 or not all(0 < side < math.inf for side in shape):
                raise ValueError(f"map {number}: an anchor must be [width, height], both positive, got {shape!r}")


def _shape(scale: float, ratio: float) -> list[float]:
    return [scale * math.sqrt(ratio), scale / math.sqrt(ratio)]


def _k_means(sizes: Tensor, weights: Tensor, count: int) -> Tensor:
    """(n, 2) sizes -> at most (count, 2) centers, by area. Starts at even steps of the weighted areas: no dice."""
    order = sizes.prod(dim=1).argsort()
    sizes, weights = sizes[order], weights[order]
    steps = (torch.arange(count, dtype=torch.float64) + 0.5) / count * weights.sum()
    centers = sizes[torch.searchsorted(weights.cumsum(0), steps).clamp(max=len(sizes) - 1)].unique(dim=0)
    for _ in range(300):
        nearest = _size_iou(sizes, centers).argmax(dim=1)
        taken = nearest.unique()
        moved = torch.stack([_mean(sizes[nearest == center], weights[nearest == center]) for center in taken])
        if moved.shape == centers.shape and torch.allclose(moved, centers, rtol=0, atol=1e-6):
            break
        centers = moved
    return centers[centers.prod(dim=1).argsort()]


def _mean(sizes: Tensor, weights: Tensor) -> Tensor:
    return (sizes * weights[:, None]).sum(dim=0) / weights.sum()


def _size_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU (n, m) of boxes of sizes (n, 2) and (m, 2) that share their center."""
    inner = torch.minimum(a[:, None], b).prod(dim=2)
    return inner / (a.prod(dim=1)[:, None] + b.prod(dim=1) - inner)
