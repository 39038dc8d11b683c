"""Matching against torchvision's SSDMatcher, and what that one does not have."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from handlens.losses.matching import BACKGROUND, LEFT_OUT, match
from handlens.models.detect.anchors import grid_anchors, map_grids, published_anchors

ANCHORS = grid_anchors(published_anchors(), map_grids(320, 320))


def scene(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = 0.03 + 0.6 * torch.rand(count, 2) ** 2
    corner = torch.rand(count, 2) * (1 - size)
    return torch.cat([corner, corner + size], dim=1), torch.randint(0, 5, (count,))


def test_it_is_torchvisions_matching_where_no_two_boxes_want_one_anchor():
    compared = 0
    for _ in range(60):
        boxes, labels = scene(8)
        iou = box_iou(boxes, ANCHORS)
        if len(set(iou.argmax(dim=1).tolist())) < 8:
            continue
        theirs = SSDMatcher(0.5)(iou)
        ours = match(boxes, labels, ANCHORS)
        assert torch.equal(ours, theirs)
        assert (ours >= 0).sum() >= 8
        compared += 1
    assert compared > 30


def test_two_boxes_at_one_place_get_an_anchor_each():
    boxes = torch.tensor([[0.5, 0.5, 0.53, 0.53], [0.5, 0.5, 0.53, 0.53], [0.501, 0.5, 0.53, 0.53]])
    matched = match(boxes, torch.tensor([0, 1, 2]), ANCHORS)
    assert set(matched.tolist()) == {BACKGROUND, 0, 1, 2}
    assert len(set(SSDMatcher(0.5)(box_iou(boxes, ANCHORS)).tolist())) < 4  # one is lost there


def test_more_boxes_than_anchors():
    boxes, labels = scene(9)
    assert sorted(match(boxes, labels, ANCHORS[-4:]).tolist())[0] >= 0


def test_no_boxes_are_all_background():
    assert match(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), ANCHORS).unique().tolist() == [BACKGROUND]


def test_an_ignored_box_is_neither_expected_nor_background():
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.1, 0.1, 0.4, 0.5]])
    matched = match(boxes, torch.tensor([-1, 2]), ANCHORS)
    centers = (ANCHORS[:, 0] + ANCHORS[:, 2]) / 2
    assert set(matched.tolist()) == {BACKGROUND, LEFT_OUT, 1}
    assert (centers[matched == LEFT_OUT] < 0.55).all()
    assert (matched[centers > 0.6] == BACKGROUND).all()
    alone = match(boxes[:1], torch.tensor([-1]), ANCHORS)
    assert set(alone.tolist()) == {BACKGROUND, LEFT_OUT}
    assert torch.equal(alone == LEFT_OUT, (matched == LEFT_OUT) | ((matched == 1) & (alone == LEFT_OUT)))


@pytest.mark.parametrize("wrong", [[0.2, 0.1, 0.2, 0.4], [0.3, 0.1, 0.2, 0.4], [0.1, float("nan"), 0.2, 0.4]])
def test_a_box_that_nothing_could_learn_is_named(wrong):
    with pytest.raises(ValueError, match="box 1 must be finite"):
        match(torch.tensor([[0.1, 0.1, 0.2, 0.2], wrong]), torch.tensor([0, 0]), ANCHORS)
