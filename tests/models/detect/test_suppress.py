"""Suppression in static shapes against torchvision's batched_nms."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import batched_nms

from handlens.models.detect.suppress import best_boxes, keep_mask


def dense_scene(count: int, classes: int, *, clusters: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes in heaps, as a detector makes them, by falling score; float64, so that no IoU lies on the threshold."""
    center = torch.rand(clusters, 2, dtype=torch.float64)[torch.randint(clusters, (count,))]
    center = center + 0.02 * torch.randn(count, 2)
    size = 0.1 + 0.2 * torch.rand(count, 2, dtype=torch.float64)
    boxes = torch.cat([center - size / 2, center + size / 2], dim=1)
    return boxes, torch.rand(count, dtype=torch.float64).sort(descending=True).values, torch.randint(classes, (count,))


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.6])
@pytest.mark.parametrize(("clusters", "classes"), [(3, 2), (12, 1), (12, 5), (40, 3)])
def test_what_is_kept_is_torchvisions(threshold, clusters, classes):
    for _ in range(4):
        scenes = [dense_scene(400, classes, clusters=clusters) for _ in range(2)]
        boxes, scores, labels = (torch.stack(parts) for parts in zip(*scenes, strict=True))
        keep = keep_mask(boxes, labels, threshold=threshold)
        for image in range(2):
            theirs = batched_nms(boxes[image], scores[image], labels[image], threshold)
            assert torch.equal(keep[image].nonzero()[:, 0], theirs.sort().values)
            assert 3 <= len(theirs) < 380


def test_the_best_come_first_and_the_rest_is_zero():
    boxes = torch.tensor([[[0.1, 0.1, 0.4, 0.4], [0.11, 0.1, 0.41, 0.4], [0.6, 0.6, 0.9, 0.9]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.7], [0.0, 0.3]]])
    found, best, labels = best_boxes(boxes, scores, suppress=True, threshold=0.5, candidates=6, most=5)
    torch.testing.assert_close(best, torch.tensor([[0.9, 0.7, 0.3, 0.0, 0.0]]))
    assert labels.tolist() == [[0, 1, 1, 0, 0]]
    torch.testing.assert_close(found[0, :3], boxes[0])
    assert found[0, 3:].abs().max() == 0
    found, best, labels = best_boxes(boxes, scores, suppress=False, threshold=0.5, candidates=4, most=2)
    torch.testing.assert_close(best, torch.tensor([[0.9, 0.8, 0.7, 0.3]]))
    assert labels.tolist() == [[0, 0, 1, 1]]
