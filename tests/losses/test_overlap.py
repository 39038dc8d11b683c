"""Overlap of boxes, as tensors and as arrays, against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from handlens.data.labels import overlap as arrays
from handlens.losses import overlap as tensors


def random_boxes(*shape: int) -> torch.Tensor:
    corners = torch.rand(*shape, 2, 2).sort(dim=-2).values  # (..., low and high, x and y)
    return corners.flatten(-2)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_iou_is_torchvisions(batch):
    boxes, others = random_boxes(*batch, 40), random_boxes(*batch, 30)
    pairs = list(zip(boxes.reshape(-1, 40, 4), others.reshape(-1, 30, 4), strict=True))
    expected = torch.stack([torchvision.ops.box_iou(*pair) for pair in pairs])
    assert 0 < (expected > 0).float().mean() < 1
    assert torch.equal(tensors.box_iou(boxes, others).reshape(expected.shape), expected)
    for pair, found in zip(pairs, expected, strict=True):
        np.testing.assert_array_equal(arrays.box_iou(*(part.numpy() for part in pair)), found.numpy())


def test_the_share_inside_another_box():
    boxes = [[0.0, 0, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]
    others = [[1.0, 0, 3, 2], [0, 0, 10, 10]]
    expected = [[0.5, 1], [1, 1], [0, 1]]
    assert tensors.share_inside(torch.tensor(boxes), torch.tensor(others)).tolist() == expected
    assert arrays.share_inside(np.array(boxes), np.array(others)).tolist() == expected


def test_boxes_without_area_overlap_nothing():
    boxes = torch.tensor([[0.0, 0, 0, 0], [0.5, 0.5, 0.5, 0.9], [0, 0, 1, 1]])
    for found in (tensors.box_iou(boxes, boxes), tensors.share_inside(boxes, boxes)):
        assert found[:2].abs().max() == found[:, :2].abs().max() == 0
        assert found[2, 2] == 1
    for array in (arrays.box_iou(boxes.numpy(), boxes.numpy()), arrays.share_inside(boxes.numpy(), boxes.numpy())):
        assert array.sum() == array[2, 2] == 1
