"""What is drawn lies where the data says, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from handlens.drawing import DARK, with_boxes, with_difference, with_legend, with_mask
from handlens.palette import IGNORE, colors

NAMES = ("background", "호밀빵", "bun")


def test_a_mask_is_blended_class_by_class():
    image = np.full((20, 30, 3), 100, np.uint8)
    image.flags.writeable = False
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 10:20], mask[:, 20:], mask[0] = 1, 2, IGNORE
    drawn = with_mask(image, mask, NAMES)
    assert (drawn[1:, :10] == 100).all()  # "background" is left as it is
    for index, columns in ((1, slice(10, 20)), (2, slice(20, 30))):
        expected = 50 + colors(3)[index] / 2
        np.testing.assert_allclose(drawn[1:, columns], np.broadcast_to(expected, (19, 10, 3)), atol=1)
    assert (drawn[0] == 25).all()
    assert drawn.dtype == np.uint8


def test_the_first_class_is_drawn_unless_it_is_the_background():
    drawn = with_mask(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), ("sky", "road"))
    np.testing.assert_allclose(drawn[0, 0], colors(1)[0] / 2, atol=1)


def test_a_box_is_a_frame_and_a_name():
    image = np.full((100, 120, 3), 128, np.uint8)
    drawn = with_boxes(image, [(40, 40, 80, 90)], [2], [NAMES[2]])
    assert (image == 128).all()
    color = colors(3)[2]
    assert (drawn[40:90, 40] == color).all()  # the box's first and last column and row
    assert (drawn[40:90, 79] == color).all()
    assert (drawn[40, 40:80] == color).all()
    assert (drawn[89, 40:80] == color).all()
    assert (drawn[43:87, 43:77] == 128).all()  # the object itself is not painted over
    changed = np.flatnonzero((drawn != 128).any(axis=(1, 2)))
    assert (changed[0], changed[-1]) == (40 - 14, 90)  # the name above, one dark line below


def test_a_name_that_would_lie_over_another_moves_that_of_the_smaller_box():
    image = np.full((200, 200, 3), 128, np.uint8)
    one = with_boxes(image, [(50, 50, 150, 150)], [1], [NAMES[1]])
    both = with_boxes(image, [(52, 52, 60, 60), (50, 50, 150, 150)], [2, 1], [NAMES[2], NAMES[1]])
    assert np.array_equal(one[:50], both[:50])  # the large one's name, and no second one on it
    assert (both[62:64, 53:55] == colors(3)[2]).all()  # that is below its box
    assert (both[52, 52:60] == colors(3)[2]).all()  # but its frame, on top


@pytest.mark.parametrize(
    "box", [(-20, -20, 300, 300), (0, 0, 0, 0), (80, 90, 10, 20), (119.6, 99.7, 120, 100), (500, 500, 600, 600)]
)
def test_any_box_can_be_drawn(box: tuple[float, ...]):
    assert with_boxes(np.zeros((100, 120, 3), np.uint8), [box], [1], [NAMES[1]]).shape == (100, 120, 3)


def test_no_boxes_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    assert np.array_equal(with_boxes(image, [], [], []), image)


def test_a_legend_has_a_square_per_class_in_as_many_rows_as_needed():
    sheet = np.zeros((50, 200, 3), np.uint8)
    drawn = with_legend(sheet, {0: "background", 1: "호밀빵", 2: "bun"})
    assert (drawn[:50] == 0).all()
    assert drawn.shape[1] == 200
    for index in (1, 2):
        assert (drawn[50:] == colors(3)[index]).all(axis=2).sum() == 15 * 15
    longer = with_legend(sheet, {index: f"bread number {index}" for index in range(12)})
    assert longer.shape[0] > drawn.shape[0] + 5 * 20
    assert np.array_equal(with_legend(sheet, {}), sheet)


def test_a_name_that_is_wider_than_the_image_is_not_cut():
    small = np.full((20, 40, 3), 200, np.uint8)
    drawn = with_legend(small, {0: "a sourdough bread with seeds"})
    assert np.array_equal(drawn[:20, :40], small)
    assert drawn.shape[1] > 40 and (drawn[20:, -8:] == 255).all()  # the text ends before the edge
    dark = np.flatnonzero((drawn[20:] < 100).all(axis=2).any(axis=0))
    assert dark.max() > 100
    fitting = with_legend(np.full((20, 200, 3), 200, np.uint8), {0: "a sourdough bread with seeds"})
    assert fitting.shape[1] == 200  # smaller letters were enough


def test_wrong_inputs_are_named():
    image = np.zeros((10, 12, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(9, 12\)"):
        with_mask(image, np.zeros((9, 12), np.uint8), NAMES)
    with pytest.raises(ValueError, match="class 3"):
        with_mask(image, np.full((10, 12), 3, np.uint8), NAMES)
    with pytest.raises(ValueError, match="1, 0 and 0"):
        with_boxes(image, [(0, 0, 5, 5)], [], [])


def test_bands_do_not_show(monkeypatch):
    """A large image is drawn on band by band."""
    from handlens import drawing

    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    low = generator.uniform(-10, 190, (40, 2))
    boxes = np.concatenate([low, low + generator.uniform(1, 120, (40, 2))], axis=1)
    labels, texts = list(generator.integers(0, 5, 40)), [f"name {number}" for number in range(40)]
    whole = drawing.with_boxes(image, boxes, labels, texts)
    assert (whole != image).any()
    monkeypatch.setattr(drawing, "BAND", 37)
    np.testing.assert_array_equal(drawing.with_boxes(image, boxes, labels, texts), whole)


def test_a_difference_is_red_where_classes_are_others():
    image = np.full((2, 3, 3), 100, dtype=np.uint8)
    truth = np.array([[0, 1, 2], [IGNORE, 1, 1]], dtype=np.uint8)
    predicted = np.array([[0, 2, 2], [0, 1, 0]], dtype=np.uint8)
    drawn = with_difference(image, truth, predicted)
    assert (drawn[:, :, 0] > drawn[:, :, 1].astype(int) + 80).tolist() == [[False, True, False], [False, False, True]]
    assert tuple(drawn[1, 0]) == DARK and tuple(drawn[0, 0]) == (178, 178, 178)
    with pytest.raises(ValueError, match="same size"):
        with_difference(image, truth, predicted[:1])
