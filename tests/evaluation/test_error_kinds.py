"""The kinds of a detector's errors, on cases made by hand: one for each kind and for each border between two."""

from __future__ import annotations

import pytest

from handlens.data.labels.boxes import Box
from handlens.evaluation.detection import operating_point
from handlens.evaluation.error_kinds import KINDS, error_kinds
from scenes import answer, cat, random_scenes

CAT, DOG = 0, 1


def of(boxes, objects, threshold=0.5):
    """The kinds that are there."""
    return {kind: count for kind, count in error_kinds([boxes], [objects], threshold).items() if count}


@pytest.mark.parametrize(
    ("boxes", "objects", "expected"),
    [
        pytest.param([(100, 100, 200, 200, CAT, 0.9)], [cat(100, 100, 200, 200)], {}, id="right"),
        pytest.param([], [cat(100, 100, 200, 200)], {"missed": 1}, id="nothing found"),
        pytest.param([(100, 100, 200, 200, CAT, 0.4)], [cat(100, 100, 200, 200)], {"missed": 1}, id="below threshold"),
        pytest.param(
            [(100, 100, 200, 200, DOG, 0.9)], [cat(100, 100, 200, 200)], {"wrong_class": 1}, id="of another class"
        ),
        pytest.param(
            [(160, 100, 260, 200, CAT, 0.9)], [cat(100, 100, 200, 200)], {"poorly_placed": 1}, id="IoU of a quarter"
        ),
        pytest.param(
            [(160, 100, 260, 200, DOG, 0.9)],
            [cat(100, 100, 200, 200)],
            {"both": 1, "missed": 1},
            id="IoU of a quarter, of another class",
        ),
        pytest.param(
            [(100, 100, 200, 200, CAT, 0.9), (102, 100, 202, 200, CAT, 0.8)],
            [cat(100, 100, 200, 200)],
            {"duplicate": 1},
            id="found twice",
        ),
        pytest.param(
            [(400, 400, 500, 500, CAT, 0.9)],
            [cat(100, 100, 200, 200)],
            {"background": 1, "missed": 1},
            id="where nothing is",
        ),
        pytest.param([(400, 400, 500, 500, CAT, 0.9)], [], {"background": 1}, id="in an empty image"),
        pytest.param(
            [(185, 100, 285, 200, CAT, 0.9)],  # IoU 15 / 185 = 0.08
            [cat(100, 100, 200, 200)],
            {"background": 1, "missed": 1},
            id="hardly touching",
        ),
        pytest.param(
            [(100, 100, 200, 200, CAT, 0.9), (100, 100, 200, 200, DOG, 0.8)],
            [cat(100, 100, 200, 200)],
            {"wrong_class": 1},
            id="found, and once more as another class",
        ),
        pytest.param(
            [(100, 100, 200, 200, CAT, 0.9)],
            [cat(100, 100, 200, 200, difficult=True)],
            {},
            id="a difficult object",
        ),
        pytest.param([], [cat(100, 100, 200, 200, crowd=True)], {}, id="a crowd"),
        pytest.param(
            [(100, 100, 200, 200, DOG, 0.9), (300, 300, 400, 400, CAT, 0.9), (310, 300, 410, 400, CAT, 0.7)],
            [cat(100, 100, 200, 200), cat(300, 300, 400, 400), cat(450, 450, 550, 550)],
            {"wrong_class": 1, "duplicate": 1, "missed": 1},
            id="several in one image",
        ),
    ],
)
def test_each_kind(boxes: list[tuple[float, ...]], objects: list[Box], expected: dict[str, int]) -> None:
    assert of(answer(*boxes), objects) == expected


def test_every_wrong_box_is_of_one_kind() -> None:
    predictions, truths = random_scenes(3)
    for threshold in (0.1, 0.5, 0.8):
        kinds = error_kinds(predictions, truths, threshold)
        point = operating_point(predictions, truths, predictions[0].names, threshold)
        assert sum(kinds.values()) - kinds["missed"] == point["count"] - point["right"]
        assert 0 < kinds["missed"] <= point["objects"] - point["right"]
        assert list(kinds) == list(KINDS)


def test_counts_are_those_of_both_images() -> None:
    first, second = answer((400, 400, 500, 500, CAT, 0.9)), answer((100, 100, 200, 200, DOG, 0.9))
    objects = [cat(100, 100, 200, 200)]
    both = error_kinds([first, second], [[], objects], 0.5)
    assert both["background"] == 1 and both["wrong_class"] == 1
    with pytest.raises(ValueError, match="zip"):
        error_kinds([first], [], 0.5)
