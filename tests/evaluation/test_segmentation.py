"""Counts over pixels against scikit-learn, torchmetrics, and boundary IoU as its authors compute it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_cdt
from sklearn import metrics as sk
from torchmetrics.classification import MulticlassJaccardIndex

from handlens.evaluation.segmentation import PixelCounts, boundary, segmentation_metrics
from handlens.palette import IGNORE

SIZES = ((40, 60), (75, 33), (64, 64), (17, 90))


def names(classes: int) -> list[str]:
    return [f"class {index}" for index in range(classes)]


def regions(generator: np.random.Generator, size: tuple[int, int], classes: int) -> np.ndarray:
    """A class map of smooth regions."""
    height, width = size
    coarse = generator.random((classes, 6, 6)).astype(np.float32)
    return np.stack([cv2.resize(part, (width, height)) for part in coarse]).argmax(axis=0).astype(np.uint8)


def answers(classes: int, *, ignored: float = 0.1, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(predicted, truth) of images of several sizes: mostly right, with shifted contours and noise."""
    generator = np.random.default_rng(seed)
    pairs = []
    for size in SIZES:
        truth = regions(generator, size, classes)
        predicted = np.roll(truth, (2, 1), axis=(0, 1))
        noise = generator.random(size) < 0.05
        predicted[noise] = generator.integers(0, classes, noise.sum())
        truth[generator.random(size) < ignored] = IGNORE
        pairs.append((predicted, truth))
    return pairs


def pixels(pairs) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = (np.concatenate([mask.ravel() for mask in masks]) for masks in zip(*pairs, strict=True))
    known = truth != IGNORE
    return truth[known], predicted[known]


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_metrics_are_scikit_learns(classes):
    pairs = answers(classes)
    ours = segmentation_metrics(pairs, names(classes))
    truth, predicted = pixels(pairs)
    everything = range(classes)
    assert 0.3 < ours["miou"] < 0.95  # else little could fail
    ious = sk.jaccard_score(truth, predicted, labels=everything, average=None)
    assert ours["miou"] == pytest.approx(ious.mean())
    assert ours["pixel_accuracy"] == sk.accuracy_score(truth, predicted)
    assert ours["mean_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert ours["confusion"] == sk.confusion_matrix(truth, predicted, labels=everything).tolist()
    precision, recall, _, support = sk.precision_recall_fscore_support(
        truth, predicted, labels=everything, zero_division=np.nan
    )
    for index, row in enumerate(ours["per_class"]):
        assert row["iou"] == pytest.approx(ious[index])
        assert (row["precision"], row["recall"]) == pytest.approx((precision[index], recall[index]))
        assert row["pixels"] == support[index]
        assert row["share"] == pytest.approx(np.mean(truth == index))
        assert row["predicted_share"] == pytest.approx(np.mean(predicted == index))
    assert (ours["images"], ours["pixels"]) == (len(SIZES), len(truth))
    assert ours["ignored"] == sum(height * width for height, width in SIZES) - len(truth)
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours


def test_miou_is_torchmetrics():
    pairs = answers(5)
    reference = MulticlassJaccardIndex(5, ignore_index=IGNORE)
    for predicted, truth in pairs:
        reference.update(torch.from_numpy(predicted).int(), torch.from_numpy(truth).int())
    assert segmentation_metrics(pairs, names(5))["miou"] == pytest.approx(float(reference.compute()), rel=1e-6)


def test_it_counts_pixels_and_does_not_average_images():
    """One wrong pixel in a small image and a large right image: 1 of 1 + 10,000."""
    pairs = [(np.ones((1, 1), np.uint8), np.zeros((1, 1), np.uint8)), (np.zeros((100, 100), np.uint8),) * 2]
    found = segmentation_metrics(pairs, names(2))
    assert found["pixel_accuracy"] == 10_000 / 10_001
    assert [row["iou"] for row in found["per_class"]] == [10_000 / 10_001, 0]


def test_what_is_not_defined_is_none():
    truth = np.zeros((8, 8), np.uint8)
    truth[:4] = 1
    predicted = truth.copy()
    predicted[0, 0] = 2
    rows = segmentation_metrics([(predicted, truth)], names(4))["per_class"]
    assert (rows[2]["iou"], rows[2]["recall"], rows[2]["precision"]) == (0, None, 0)
    assert [rows[3][key] for key in ("iou", "recall", "precision", "boundary_iou")] == [None] * 4
    found = segmentation_metrics([(truth, truth)], names(4))
    assert found["miou"] == found["boundary_iou"] == 1


def authors_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a 0/1 mask within `distance` of its contour.

    Source: Cheng et al. 2021 compute it by eroding the mask, the outside of the image being 0, by a 3 x 3 window so
    often; here as the distance to the nearest 0 in such steps.
    """
    inside = distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return (mask > 0) & (inside <= distance)


@pytest.mark.parametrize("classes", [2, 5])
def test_boundary_iou_is_its_authors(classes):
    pairs = answers(classes, ignored=0.0)
    found = segmentation_metrics(pairs, names(classes))
    values = []
    for index in range(classes):
        overlap = union = 0
        for predicted, truth in pairs:
            distance = max(1, round(0.02 * np.hypot(*truth.shape)))
            parts = [authors_boundary((mask == index).astype(np.uint8), distance) for mask in (predicted, truth)]
            overlap += int((parts[0] & parts[1]).sum())
            union += int((parts[0] | parts[1]).sum())
        values.append(overlap / union)
        assert found["per_class"][index]["boundary_iou"] == pytest.approx(values[-1])
    assert found["boundary_iou"] == pytest.approx(np.mean(values))
    assert found["boundary_iou"] < found["miou"]


def test_boundary_iou_sees_what_the_iou_of_a_large_object_hides():
    truth = np.zeros((300, 300), np.uint8)
    truth[20:280, 20:280] = 1
    rough = truth.copy()
    rough[20:280:2, 272:280] = 0  # a ragged side
    row = segmentation_metrics([(rough, truth)], names(2))["per_class"][1]
    assert row["iou"] > 0.98
    assert row["boundary_iou"] < 0.96


def test_the_edge_of_what_is_ignored_is_no_contour():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = IGNORE
    found = boundary(mask, 3)
    assert found[:3].all()  # the image's edge
    assert not found[5:10, 5:35].any()
    mask[20:, :] = 1
    assert boundary(mask, 3)[17:23, :8].all()
    assert not boundary(mask, 3)[16, 5]


def test_an_image_that_is_all_ignored_counts_nothing():
    counts = PixelCounts(names(2))
    counts.add(np.zeros((5, 5), np.uint8), np.full((5, 5), IGNORE, np.uint8))
    with pytest.raises(ValueError, match="no pixel to count in 1 images"):
        counts.metrics()
    counts.add(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert counts.metrics()["ignored"] == 25
    with pytest.raises(ValueError, match="in 0 images"):
        segmentation_metrics([], names(2))


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"the same size, got \(2, 3\) and \(3, 2\)"),
        (np.full((2, 2), 3, np.uint8), np.zeros((2, 2), np.uint8), r"predicted must be in \[0, 3\), got 3"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 254, np.uint8), r"truth must be in \[0, 3\) or 255, got 254"),
        (
            np.zeros((2, 2), np.int64),
            np.zeros((2, 2), np.uint8),
            r"predicted must be \(H, W\) uint8, got \(2, 2\) int64",
        ),
        (np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2), np.uint8), r"\(2, 2, 1\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        PixelCounts(names(3)).add(predicted, truth)


def test_names_and_widths_out_of_range_are_refused():
    with pytest.raises(ValueError, match="1 to 255 classes, got 256"):
        PixelCounts(names(256))
    with pytest.raises(ValueError, match="got 0"):
        PixelCounts(names(2), boundary_width=0)
