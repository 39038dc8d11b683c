"""Anchors against torchvision's, and fitted ones against the boxes they were fitted to."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from handlens.models.detect.anchors import coverage, fit_anchors, grid_anchors, map_grids, published_anchors


def test_published_shapes_are_torchvisions_and_lie_where_theirs_lie():
    """Theirs has six on every map in another order, and 1/3 where the published net has 0.3333."""
    grids = map_grids(320, 320)
    assert grids == [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95, clip=False)
    images = ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    theirs = generator(images, [torch.zeros(1, 1, *grid) for grid in grids])[0] / 320
    ours = grid_anchors(published_anchors(), grids)
    assert ours.shape == (20 * 20 * 3 + 139 * 6, 4)
    start = 400 * 6  # their first map
    ours, theirs = ours[1200:].reshape(-1, 6, 4), theirs[start:].reshape(-1, 6, 4)
    order = [0, 2, 3, 4, 5, 1]  # theirs: square, between, 2, 1/2, 3, 1/3
    torch.testing.assert_close(ours, theirs[:, order], rtol=0, atol=1e-4)
    assert [len(shapes) for shapes in published_anchors(7)] == [3, 6, 6, 6, 6, 6, 6]


def test_cells_are_centerd_and_ordered_by_row_column_shape():
    anchors = grid_anchors([[[0.2, 0.4], [0.1, 0.1]], [], [[1.0, 1.0]]], [(2, 4), (9, 9), (1, 1)])
    assert anchors.shape == (2 * 4 * 2 + 1, 4)
    torch.testing.assert_close(anchors[0], torch.tensor([0.025, 0.05, 0.225, 0.45]))
    torch.testing.assert_close(anchors[3], torch.tensor([0.325, 0.2, 0.425, 0.3]))  # row 0, column 1, second shape
    torch.testing.assert_close(anchors[-1], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="1 and 2"):
        grid_anchors([[[0.1, 0.1]]], [(1, 1), (1, 1)])


def boxes_like(sizes: list[tuple[float, float]], *, each: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    size = torch.tensor(sizes).repeat_interleave(each, dim=0)
    size = size * torch.exp(torch.randn(len(size), 2) * spread)
    corner = torch.rand(len(size), 2) * (1 - size)
    return torch.cat([corner, corner + size], dim=1), torch.arange(len(sizes)).repeat_interleave(each)


def test_fitted_shapes_are_those_of_the_data():
    sizes = [(0.1, 0.2), (0.3, 0.15), (0.6, 0.7)]
    boxes, labels = boxes_like(sizes, each=200, spread=0.03)
    fitted = fit_anchors(boxes, labels, map_grids(320, 320), count=3)
    found = [shape for shapes in fitted for shape in shapes]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(sizes), rtol=0.03, atol=0)

    anchors = grid_anchors(fitted, map_grids(320, 320)[: len(fitted)])
    assert coverage(boxes, labels, anchors)[2] < 0.02


def test_a_rare_class_gets_its_shape():
    boxes, labels = boxes_like([(0.2, 0.2), (0.06, 0.08)], each=500, spread=0.2)
    keep = torch.cat([torch.arange(500), torch.arange(500, 505)])
    fitted = fit_anchors(boxes[keep], labels[keep], map_grids(320, 320, first_stride=8), count=4)
    assert min(width for shapes in fitted for width, _ in shapes) < 0.08


def test_the_same_boxes_give_the_same_anchors_in_any_order():
    boxes, labels = boxes_like([(0.2, 0.2), (0.06, 0.08)], each=50, spread=0.2)
    order = torch.randperm(100)
    grids = map_grids(320, 320)
    assert fit_anchors(boxes, labels, grids) == fit_anchors(boxes[order], labels[order], grids)


def test_few_boxes_give_few_anchors_and_none_is_refused():
    box = torch.tensor([[0.1, 0.1, 0.5, 0.6]])
    assert fit_anchors(box.repeat(5, 1), torch.zeros(5), map_grids(320, 320)) == [[], [[0.4, 0.5]]]
    with pytest.raises(ValueError, match="none of 1 boxes has an area"):
        fit_anchors(torch.tensor([[0.1, 0.1, 0.1, 0.5]]), torch.zeros(1), map_grids(320, 320))
    with pytest.raises(ValueError, match=r"\(2, 4\), one per label, got \(1, 4\)"):
        fit_anchors(box, torch.zeros(2), map_grids(320, 320))


def test_coverage_counts_boxes_below_the_threshold():
    anchors = grid_anchors([[[0.5, 0.5]]], [(2, 2)])
    boxes = torch.cat([anchors, torch.tensor([[0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 0.5, 0.25], [0.0, 0.0, 0.5, 0.24]])])
    labels = torch.tensor([0, 0, 0, 0, 0, 3, 3])
    assert coverage(boxes, labels, anchors) == {0: 0.2, 3: 0.5}
    best = box_iou(boxes, anchors).amax(dim=1)
    assert coverage(boxes, labels, anchors, threshold=0.9)[3] == float((best[5:] < 0.9).double().mean())
    assert coverage(boxes[:0], labels[:0], anchors) == {}


def test_blood_cells_are_reached(shared_data):
    """205 training images; of the published anchors at 320, most platelets see none."""
    parts = {split: blood_cells(shared_data / "bccd", split) for split in ("train", "test")}
    for stride, size, most in ((8, 320, 0.05), (16, 512, 0.05)):
        grids = map_grids(size, size, first_stride=stride)
        fitted = fit_anchors(*parts["train"], grids)
        missed = coverage(*parts["test"], grid_anchors(fitted, grids[: len(fitted)]))
        assert max(missed.values()) < most
    published = coverage(*parts["test"], grid_anchors(published_anchors(), map_grids(320, 320)))
    assert published[2] > 0.5


def blood_cells(root, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    boxes, labels = [], []
    for stem in (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
        tree = ElementTree.parse(root / "Annotations" / f"{stem}.xml")
        width, height = float(tree.findtext("size/width")), float(tree.findtext("size/height"))
        for item in tree.iter("object"):
            left, top, right, bottom = (float(item.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            if left < right and top < bottom:
                boxes.append((left / width, top / height, right / width, bottom / height))
                labels.append(("RBC", "WBC", "Platelets").index(item.findtext("name")))
    return torch.tensor(boxes), torch.tensor(labels)
