"""COCO's metric against pycocotools, and the operating point against counts by hand."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from handlens.data.labels.boxes import Box
from handlens.evaluation.detection import (
    best_threshold,
    coco_json,
    detection_metrics,
    evaluate_coco,
    match_boxes,
    operating_point,
)
from scenes import NAMES, answer, cat, random_scenes


def pycocotools_result(predictions, truths) -> tuple[np.ndarray, np.ndarray]:
    truth, results = coco_json(predictions, truths, len(NAMES))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluator = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats, evaluator.eval["precision"]


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_pycocotools(seed):
    predictions, truths = random_scenes(seed)
    assert any(box.crowd for truth in truths for box in truth)
    assert any(box.difficult for truth in truths for box in truth)
    stats, precision = pycocotools_result(predictions, truths)
    ours = evaluate_coco(predictions, truths, len(NAMES))
    assert 0.1 < stats[0] < 0.9  # else little could fail
    np.testing.assert_allclose(ours["stats"][:12], stats, atol=1e-9)
    np.testing.assert_allclose(ours["precision"], precision, atol=1e-9)
    metrics = detection_metrics(predictions, truths, NAMES, threshold=0.5)
    keys = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    assert [metrics[key] for key in keys] == pytest.approx(stats[:6])
    rows = {row["class"]: row for row in metrics["per_class"]}
    assert rows["cat"]["ap"] == pytest.approx(precision[:, :, 0, 0, 2].mean())
    assert rows["dog"]["ap50"] == pytest.approx(precision[0, :, 1, 0, 2].mean())
    assert rows["cat"]["precision"] == pytest.approx(precision[0, :, 0, 0, 2], abs=1e-4)
    assert rows["never there"] == {"class": "never there", "objects": 0, "ap": None, "ap50": None, "precision": None}
    assert rows["never found"]["ap"] == 0
    assert metrics["objects"] == sum(row["objects"] for row in rows.values())
    json.dumps(metrics, allow_nan=False)


def test_no_boxes_and_no_objects():
    truth = [(cat(0, 0, 50, 50),)]
    nothing = detection_metrics([answer()], truth, NAMES, threshold=0.5)
    assert (nothing["map"], nothing["map_large"]) == (0, None)
    assert nothing["operating_point"]["precision"] is None
    assert nothing["operating_point"]["recall"] == 0
    empty = detection_metrics([answer((0, 0, 9, 9, 0, 0.9))], [()], NAMES, threshold=0.5)
    assert empty["map"] is None
    assert (empty["operating_point"]["precision"], empty["operating_point"]["recall"]) == (0, None)
    json.dumps([nothing, empty], allow_nan=False)


def test_a_difficult_object_and_a_crowd_are_neither_expected_nor_punished():
    found, extra = answer((0, 0, 100, 100, 0, 0.9), (300, 300, 350, 350, 0, 0.8)), [cat(0, 0, 100, 100)]
    punished = detection_metrics([found], [extra], NAMES, threshold=0.5)
    assert punished["operating_point"]["precision"] == 0.5
    for left_out in (cat(300, 300, 350, 350, difficult=True), cat(280, 280, 600, 600, crowd=True)):
        metrics = detection_metrics([found], [[*extra, left_out]], NAMES, threshold=0.5)
        assert metrics["objects"] == 1
        assert metrics["map50"] == pytest.approx(1)
        assert metrics["operating_point"]["precision"] == metrics["operating_point"]["recall"] == 1


def test_the_operating_point_counts_by_hand():
    predictions = [
        answer(
            (0, 0, 100, 100, 0, 0.9),  # right
            (5, 0, 105, 100, 0, 0.8),  # a double
            (200, 0, 300, 100, 1, 0.7),  # a cat called a dog
            (400, 0, 500, 100, 0, 0.2),  # right, but below the threshold
        ),
        answer((0, 0, 100, 49, 0, 0.6), (0, 0, 100, 60, 0, 0.5)),  # IoU 0.49, then 0.60
    ]
    truths = [[cat(0, 0, 100, 100), cat(200, 0, 300, 100), cat(400, 0, 500, 100)], [cat(0, 0, 100, 100)]]
    point = operating_point(predictions, truths, NAMES, 0.3)
    assert (point["count"], point["right"], point["objects"]) == (5, 2, 4)
    assert (point["precision"], point["recall"], point["f1"]) == (2 / 5, 2 / 4, 4 / 9)
    assert [row["count"] for row in point["per_class"]] == [4, 1, 0, 0]
    assert operating_point(predictions, truths, NAMES, 0.1)["right"] == 3
    assert match_boxes(predictions[0], truths[0]).found.tolist() == pytest.approx([0.9, 0, 0.2])


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_the_best_of_all(seed):
    predictions, truths = random_scenes(seed)
    best = best_threshold(predictions, truths)
    reached = operating_point(predictions, truths, NAMES, best)["f1"]
    tried = [operating_point(predictions, truths, NAMES, value)["f1"] for value in np.linspace(0, 1, 201)]
    assert reached >= max(tried) > min(tried) + 0.1
    gaps = np.abs(np.concatenate([boxes.scores for boxes in predictions]) - best)
    assert gaps.min() > 0  # between two scores


def test_without_a_right_box_no_threshold_is_best():
    assert best_threshold([answer((0, 0, 9, 9, 0, 0.9))], [[cat(300, 300, 400, 400)]]) is None
    assert best_threshold([answer()], [[]]) is None


def test_operating_point_and_evaluator_agree_at_iou_half():
    """Recall at threshold 0 is the evaluator's highest recall at IoU 0.5, where neither crowds nor difficult are."""
    predictions, truths = random_scenes(7, special=False)
    precision = evaluate_coco(predictions, truths, len(NAMES))["precision"]
    point = operating_point(predictions, truths, NAMES, 0.0)
    for index in (0, 1):
        reached = np.flatnonzero(precision[0, :, index, 0, 2] > 0).max() / 100
        assert point["per_class"][index]["recall"] == pytest.approx(reached, abs=0.01)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="got 1 and 0"):
        detection_metrics([answer()], [], NAMES)
    with pytest.raises(ValueError, match="image 0: predicted classes"):
        detection_metrics([answer()], [()], ("a",))
    with pytest.raises(ValueError, match="label 9 is outside 4 classes"):
        detection_metrics([answer()], [[Box(label=9, left=0, top=0, right=1, bottom=1)]], NAMES)
