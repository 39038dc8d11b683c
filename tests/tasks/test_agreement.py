"""What counts as the same answer, of labels, of masks and of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from handlens.runtimes.names import BOXES, CLASS_MAP, LABELS, PROBABILITIES, SCORES
from handlens.tasks.classify.agreement import compare_classes
from handlens.tasks.detect.agreement import changed_boxes, compare_boxes
from handlens.tasks.segment.agreement import changed_masks, compare_masks
from handlens.tasks.tag.agreement import changed_tags, compare_tags

Arrays = dict[str, np.ndarray]


def detections(*rows: tuple[float, float, float, float, float, int]) -> Arrays:
    """One image: left, top, right, bottom, score, label; padded to eight boxes."""
    boxes, scores, labels = np.zeros((1, 8, 4), np.float32), np.zeros((1, 8), np.float32), np.zeros((1, 8), np.int64)
    for place, (left, top, right, bottom, score, label) in enumerate(rows):
        boxes[0, place], scores[0, place], labels[0, place] = (left, top, right, bottom), score, label
    return {BOXES: boxes, SCORES: scores, LABELS: labels}


ONE, TWO = (0.1, 0.1, 0.4, 0.5, 0.9, 0), (0.5, 0.5, 0.9, 0.8, 0.6, 1)


def test_the_same_boxes_in_another_order_are_the_same():
    found = compare_boxes(detections(TWO, ONE), detections(ONE, TWO), ["a"])
    assert found.passed
    assert (found.equal, found.differing, found.largest_difference) == (1.0, (), 0.0)


@pytest.mark.parametrize(
    ("answer", "equal"),
    [
        ((ONE,), 0.5),  # one is missing
        ((ONE, TWO, (0.0, 0.0, 0.1, 0.1, 0.2, 0)), 2 / 3),  # one more
        ((ONE, TWO, TWO), 2 / 3),  # the same object twice
        ((ONE, (*TWO[:5], 0)), 1 / 3),  # another class: neither is found again
        ((ONE, (*TWO[:4], 0.602, 1)), 0.5),  # a score too far off
        ((ONE, (0.5, 0.5, 0.9, 0.81, 0.6, 1)), 1 / 3),  # a box too far off
    ],
)
def test_what_is_not_the_same_is_counted_and_named(answer, equal):
    found = compare_boxes(detections(*answer), detections(ONE, TWO), ["a"])
    assert not found.passed
    assert found.differing == ("a",)
    assert found.equal == pytest.approx(equal)


def test_faint_boxes_do_not_decide():
    faint = (0.0, 0.0, 0.2, 0.2, 0.04, 0)
    assert compare_boxes(detections(ONE, faint), detections(ONE), ["a"]).passed
    nearly = (0.0, 0.0, 0.2, 0.2, 0.0496, 0), (0.0, 0.0, 0.2, 0.2, 0.0504, 0)  # one of them lies below the limit
    assert compare_boxes(detections(ONE, nearly[0]), detections(ONE, nearly[1]), ["a"]).passed


def test_which_box_is_the_last_of_a_full_list_does_not_decide():
    eight = [(0.1 * n, 0.1 * n, 0.1 * n + 0.2, 0.1 * n + 0.2, 0.5 - 0.01 * n, 0) for n in range(7)]
    last, other = (0.0, 0.5, 0.2, 0.7, 0.400001, 0), (0.5, 0.0, 0.7, 0.2, 0.4, 0)
    found = compare_boxes(detections(*eight, last), detections(*eight, other), ["a"])
    assert found.passed
    assert found.equal == 1
    surer = (*last[:4], 0.41, 0)
    assert not compare_boxes(detections(*eight, surer), detections(*eight, other), ["a"]).passed
    assert not compare_boxes(detections(*eight, last), detections(*eight), ["a"]).passed  # there was a place left


def test_an_app_that_resizes_otherwise_loses_boxes_and_gets_others():
    moved = (0.12, 0.1, 0.42, 0.5, 0.8, 0)
    assert changed_boxes(detections(moved, TWO), detections(ONE, TWO), thresholds=[0.3]) == 0
    assert changed_boxes(detections(moved), detections(ONE, TWO), thresholds=[0.3]) == pytest.approx(1 / 2)
    assert changed_boxes(detections(), detections(), thresholds=[0.3]) is None  # nothing was compared
    assert changed_boxes(detections(moved), detections(ONE), thresholds=[0.99]) is None


def test_a_thousandth_of_the_pixels_may_differ():
    truth = np.zeros((2, 50, 40), np.uint8)
    answer = truth.copy()
    answer[1].flat[:4] = 1  # of 4000
    found = compare_masks({CLASS_MAP: answer}, {CLASS_MAP: truth}, ["a", "b"])
    assert found.passed
    assert (found.equal, found.differing) == (0.999, ("b",))
    answer[0].flat[0] = 1
    assert not compare_masks({CLASS_MAP: answer}, {CLASS_MAP: truth}, ["a", "b"]).passed


def test_a_tie_excuses_another_label_and_nothing_else():
    wanted = np.array([[0.50004, 0.49996], [0.9, 0.1]], np.float32)
    turned = np.array([[0.49998, 0.50002], [0.9, 0.1]], np.float32)
    found = compare_classes({PROBABILITIES: turned}, {PROBABILITIES: wanted}, ["a", "b"])
    assert (found.passed, found.excused, found.differing) == (True, ("a",), ())
    turned[1] = 0.1, 0.9
    found = compare_classes({PROBABILITIES: turned}, {PROBABILITIES: wanted}, ["a", "b"])
    assert (found.passed, found.differing) == (False, ("b",))
    broken = np.array([[np.nan, 0.5], [0.9, 0.1]], np.float32)
    found = compare_classes({PROBABILITIES: broken}, {PROBABILITIES: wanted}, ["a", "b"])
    assert found.largest_difference == float("inf")
    assert not found.passed


def test_labels_at_their_own_thresholds():
    thresholds, ids = [0.5, 0.2], ["a", "b"]
    wanted = {PROBABILITIES: np.array([[0.9, 0.1], [0.50005, 0.3]], np.float32)}

    def compared(*rows):
        return compare_tags({PROBABILITIES: np.array(rows, np.float32)}, wanted, ids, thresholds=thresholds)

    assert compared([0.9, 0.1], [0.50005, 0.3]).passed
    tied = compared([0.9, 0.1], [0.49999, 0.3])
    assert (tied.passed, tied.excused, tied.differing, tied.equal) == (True, ("b",), (), 0.75)
    other = compared([0.9, 0.25], [0.50005, 0.3])
    assert (other.passed, other.excused, other.differing, other.equal) == (False, (), ("a",), 0.75)
    assert not compared([0.9, 0.1], [0.51, 0.3]).passed  # the same labels, by a probability too far off
    assert not compared([0.9, 0.1], [np.nan, 0.3]).passed
    values = {PROBABILITIES: np.array([[0.9, 0.25], [0.4, 0.3]], np.float32)}
    assert changed_tags(values, wanted, thresholds=thresholds) == 0.5


def test_a_file_that_finds_nothing_has_changed_everything():
    """However seldom there is something to find."""
    rare = np.zeros((5, 20), np.float32)
    rare[:, 3] = 0.9
    wanted, nothing = {PROBABILITIES: rare}, {PROBABILITIES: np.zeros_like(rare)}
    assert changed_tags(nothing, wanted, thresholds=[0.5] * 20) == 1.0
    assert changed_tags(nothing, nothing, thresholds=[0.5] * 20) is None
    masks = np.zeros((2, 20, 20), np.uint8)
    masks[:, :3, :6] = 2  # 4.5 % of the pixels
    half = masks.copy()
    half[1] = 0
    empty = {CLASS_MAP: np.zeros_like(masks)}
    assert changed_masks(empty, {CLASS_MAP: masks}) == 1.0
    assert changed_masks({CLASS_MAP: half}, {CLASS_MAP: masks}) == 0.5
    assert changed_masks(empty, empty) is None


def test_where_all_boxes_are_faint_the_likeliest_decide():
    faint, other = (0.0, 0.0, 0.2, 0.2, 0.01, 0), (0.5, 0.5, 0.7, 0.7, 0.01, 0)
    assert compare_boxes(detections(faint), detections(faint), ["a"]).passed
    assert not compare_boxes(detections(other), detections(faint), ["a"]).passed


def test_nothing_to_compare_proves_nothing():
    found = compare_boxes(detections(), detections(), ["a"])
    assert (found.passed, found.equal) == (False, 0.0)


@pytest.mark.parametrize("name", [BOXES, SCORES])
def test_what_is_no_number_is_not_the_same(name):
    broken = detections(ONE)
    broken[name][:] = np.nan
    assert not compare_boxes(broken, detections(ONE), ["a"]).passed


def test_one_mask_that_is_all_wrong_is_not_lost_among_a_thousand():
    expected = np.zeros((1500, 4, 4), np.uint8)
    answered = expected.copy()
    answered[3] = 1
    found = compare_masks({CLASS_MAP: answered}, {CLASS_MAP: expected}, [str(i) for i in range(1500)])
    assert found.equal > 0.999
    assert (found.passed, found.differing) == (False, ("3",))
