"""Results check themselves, and are drawn with the characters that people's class names have."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from handlens.fonts import font_file, label_font
from handlens.palette import colors
from handlens.results import Boxes, Classes, Mask, Tags


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


def tags(*values: float, thresholds: tuple[float, ...] = (0.5, 0.2, 0.9)) -> Tags:
    return Tags(np.array(values, np.float32), ("a", "b", "c"), thresholds)


def test_labels_are_those_that_reach_their_own_threshold():
    result = tags(0.5, 0.75, 0.89)
    assert result.labels == ("b", "a")
    assert result.top(2) == [("c", pytest.approx(0.89)), ("b", 0.75)]
    assert result.caption() == "b 75 %, a 50 %"
    assert result.columns(2) == ["labels", "class", "probability", "class2", "probability2"]
    assert result.rows(1) == [["b|a", "c", "0.890000"]]
    assert result.to_dict(1)["labels"] == [{"class": "b", "probability": 0.75}, {"class": "a", "probability": 0.5}]
    nothing = tags(0.1, 0.1, 0.1)
    assert (nothing.labels, nothing.caption(), nothing.rows(1)[0][0]) == ((), "no label", "")
    image = np.zeros((60, 200, 3), np.uint8)
    assert result.draw(image).shape[0] > 60


@pytest.mark.parametrize(
    ("values", "thresholds"),
    [
        ((0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.5, 0.5, 0.5), (0.5,)),
        ((1.5, 0, 0), (0.5,) * 3),
        ((float("nan"), 0, 0), (0.5,) * 3),
    ],
)
def test_what_are_no_probabilities_of_labels_is_refused(values, thresholds):
    with pytest.raises(ValueError, match="probabilities"):
        tags(*values, thresholds=thresholds)


def test_drawing_leaves_the_image_as_it_is_and_adds_a_band():
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


def boxes(*rows: tuple[float, ...], height: int = 100, width: int = 200) -> Boxes:
    """(left, top, right, bottom, label, score) each."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(int), table[:, 5], ("빵", "cup"), height, width)


def test_boxes_are_written_as_the_formats_have_them():
    result = boxes((20, 10, 60, 50, 1, 0.75), (0, 0, 200, 100, 0, 0.5))
    assert result.to_dict()["boxes"][0] == {"class": "cup", "score": 0.75, "box": [20, 10, 60, 50]}
    assert next(row["category_id"] for row in result.to_coco(7, [1, 13, 90])) == 13
    assert result.to_coco(7)[0] == {"image_id": 7, "category_id": 2, "bbox": [20, 10, 40, 40], "score": 0.75}
    assert result.to_yolo() == [
        "1 0.200000 0.300000 0.200000 0.400000 0.750000",
        "0 0.500000 0.500000 1.000000 1.000000 0.500000",
    ]
    assert len(boxes()) == len(boxes().to_coco(1)) == len(boxes().to_yolo()) == 0


def test_boxes_from_a_detector_are_cut_sorted_and_freed_of_padding():
    table = np.array(
        [[150, 50, 250, 120], [-20, -20, -5, 30], [0, 0, 0, 0], [5, 5, 9, 9], [10, 10, 20, 20]], np.float32
    )
    scores = np.array([0.5, 0.9, 0.0, 0.1, 0.8])
    made = Boxes.clipped(table, np.arange(5) % 2, scores, ("a", "b"), height=100, width=200, threshold=0.2)
    assert made.boxes.tolist() == [[10, 10, 20, 20], [150, 50, 200, 100]]
    assert made.labels.tolist() == [0, 0]
    assert made.scores.tolist() == pytest.approx([0.8, 0.5])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, 201, 50, 0, 0.5)], "box 0 must lie in 200 x 100"),
        ([(9, 0, 9, 50, 0, 0.5)], "box 0"),
        ([(0, float("nan"), 9, 50, 0, 0.5)], "box 0"),
        ([(0, 0, 9, 9, 2, 0.5)], "got 2 in row 0"),
        ([(0, 0, 9, 9, 0, 1.5)], "got 1.5 in row 0"),
        ([(0, 0, 9, 9, 0, 0.1), (0, 0, 9, 9, 0, 0.2)], "must fall"),
    ],
)
def test_boxes_that_cannot_be_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        boxes(*rows)


@pytest.mark.parametrize("gray", [0, 128, 255])
def test_boxes_are_drawn_on_a_copy_and_show_on_any_background(gray):
    image = np.full((100, 200, 3), gray, np.uint8)
    drawn = boxes((120, 60, 160, 90, 1, 0.9), (20, 40, 80, 80, 0, 0.5), (0, 0, 200, 100, 1, 0.3)).draw(image)
    assert (image == gray).all()
    assert drawn.shape == image.shape
    for left, top, right, bottom, label in ((120, 60, 160, 90, 1), (20, 40, 80, 80, 0)):
        around = drawn[top + 10, left - 3 : left + 4].astype(int)
        assert np.abs(around - gray).max() > 90  # an edge that is seen
        assert (drawn[bottom - 2, left + 8] == colors(2)[label]).all()
        assert (drawn[(top + bottom) // 2 + 5, (left + right) // 2] == gray).all()  # the inside stays
    with pytest.raises(ValueError, match=r"got \(100, 100, 3\)"):
        boxes().draw(image[:, :100])


def mask(classes: list[list[int]] | np.ndarray, names: tuple[str, ...] = ("background", "빵", "cup")) -> Mask:
    return Mask(np.array(classes, np.uint8), names)


def test_areas_are_pixels_and_shares_of_the_image():
    assert mask([[0, 2, 2, 255]]).to_dict() == {
        "width": 4,
        "height": 1,
        "areas": [
            {"class": "cup", "pixels": 2, "share": 0.5},
            {"class": "background", "pixels": 1, "share": 0.25},
        ],
    }
    assert mask([[0, 2, 2, 255]]).pixels().tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (np.zeros((2, 2, 1), np.uint8), ("a",), r"\(H, W\) uint8"),
        (np.zeros((2, 2), int), ("a",), "int64"),
        (np.zeros((0, 2), np.uint8), ("a",), r"\(0, 2\)"),
        (np.full((1, 1), 3, np.uint8), ("a", "b", "c"), "got 3"),
        (np.zeros((1, 1), np.uint8), (), "got 0"),
        (np.zeros((1, 1), np.uint8), ("a",) * 256, "got 256"),
    ],
)
def test_masks_that_cannot_be_are_refused(classes, names, message):
    with pytest.raises(ValueError, match=message):
        Mask(classes, names)


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.full((2, 2, 2), 1.5), np.full((2, 2, 2), np.nan)])
def test_probabilities_of_a_mask_are_checked(wrong):
    Mask(np.zeros((2, 2), np.uint8), ("a", "b"), np.full((2, 2, 2), 0.5, np.float32))
    with pytest.raises(ValueError, match="probabilities must"):
        Mask(np.zeros((2, 2), np.uint8), ("a", "b"), wrong.astype(np.float32))


def test_a_mask_as_png_is_indices_for_programs_and_colors_for_people():
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    classes[0, 0] = 255
    image = Image.open(BytesIO(mask(classes).png()))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), classes)
    shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown[classes == 1], np.tile(colors(3)[1], (4, 1)))
    assert shown[0, 0].tolist() == [224, 224, 192]


def test_a_class_keeps_its_color_whether_or_not_others_are_there():
    names = tuple("abcdefghij")
    alone = Image.open(BytesIO(mask(np.full((4, 4), 7), names).png())).convert("RGB")
    every = Image.open(BytesIO(mask([list(range(10))], names).png())).convert("RGB")
    fewer = Image.open(BytesIO(mask([[7]], names[:8]).png())).convert("RGB")
    assert alone.getpixel((0, 0)) == every.getpixel((7, 0)) == fewer.getpixel((0, 0))


def test_a_mask_is_drawn_over_a_copy_with_a_legend_of_what_is_there():
    image = np.full((60, 160, 3), 200, np.uint8)
    classes = np.zeros((60, 160), np.uint8)
    classes[:, 80:120], classes[:, 120:] = 1, 255
    drawn = mask(classes).draw(image)
    assert (image == 200).all()
    assert (drawn[:60, :80] == 200).all()  # background
    assert (drawn[:60, 120:] < 60).all()  # nothing is said of it
    np.testing.assert_allclose(drawn[30, 100], (colors(3)[1].astype(int) + 200) / 2, atol=1)
    legend = drawn[60:].reshape(-1, 3)
    assert (legend == colors(3)[1]).all(axis=1).sum() > 50  # its swatch
    assert not (legend == colors(3)[2]).all(axis=1).any()  # no cup is there
    assert legend.min() < 60  # its name
    assert mask(np.zeros((60, 160))).draw(image).shape == image.shape  # background alone needs no legend
    with pytest.raises(ValueError, match=r"got \(60, 100, 3\)"):
        mask(classes).draw(image[:, :100])


def test_a_long_legend_has_rows_as_wide_as_the_image():
    names = tuple(f"class {index}" for index in range(40))
    drawn = mask(np.arange(40).repeat(160).reshape(40, 160), names).draw(np.zeros((40, 160, 3), np.uint8))
    assert drawn.shape[1] == 160
    assert drawn.shape[0] > 40 + 40 * 12
