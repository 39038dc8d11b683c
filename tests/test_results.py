"""Results check themselves, and are drawn with the characters that people's class names have."""

from __future__ import annotations

import numpy as np
import pytest

from handlens.fonts import font_file, label_font
from handlens.results import Classes


def classes(*values: float, names: tuple[str, ...] = ("a", "b", "c")) -> Classes:
    return Classes(np.array(values, np.float32), names)


def test_top_is_sorted_and_ties_keep_the_order_of_the_classes():
    result = classes(0.25, 0.5, 0.25)
    assert result.top(3) == [("b", 0.5), ("a", 0.25), ("c", 0.25)]
    assert result.label == "b"
    assert result.to_dict(1) == {"class": "b", "probability": 0.5, "top": [{"class": "b", "probability": 0.5}]}


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.5, 0.6, 0.7), (-0.5, 1.0, 0.5), (float("nan"), 0.5, 0.5)])
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(ValueError, match="probabilities"):
        classes(*wrong)


def test_drawing_leaves_the_picture_as_it_is_and_adds_a_band():
    image = np.random.default_rng(0).integers(0, 255, (60, 200, 3), dtype=np.uint8)
    before = image.copy()
    drawn = classes(0.1, 0.8, 0.1).draw(image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(drawn[:60], before)
    assert drawn.shape[0] > 60
    assert drawn[60:].min() < 100  # something is written there


def test_hangul_is_drawn_with_a_font_that_has_it():
    one, other, box = ("크루아상", "바게트빵", "\U000f0000" * 4)
    font = label_font(one + other, 20)
    masks = [bytes(font.getmask(text)) for text in (one, other, box)]
    assert len(set(masks)) == 3  # missing characters would all be the same box
    assert font_file("가").name != font_file("a").name
