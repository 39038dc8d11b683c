"""How far boxes overlap, as arrays; `losses.overlap` has it for tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.floating[Any]]


def box_iou(boxes: Corners, others: Corners) -> Corners:
    """Intersection over union: (n, 4) and (m, 4) left, top, right, bottom -> (n, m); 0 between boxes without area."""
    inner = _inner(boxes, others)
    return _share(inner, _areas(boxes)[:, None] + _areas(others) - inner)


def share_inside(boxes: Corners, others: Corners) -> Corners:
    """The share of each box that lies in each other one; shapes as `box_iou`, 0 of a box without area."""
    return _share(_inner(boxes, others), _areas(boxes)[:, None])


def _inner(boxes: Corners, others: Corners) -> Corners:
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    return np.asarray((high - low).clip(min=0).prod(axis=2))


def _areas(boxes: Corners) -> Corners:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _share(inner: Corners, whole: Corners) -> Corners:
    whole = np.broadcast_to(whole, inner.shape)
    return np.divide(inner, whole, out=np.zeros_like(inner), where=whole > 0)
