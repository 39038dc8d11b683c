from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as pycoco

from handlens.data import open_dataset
from handlens.data.formats.coco_source import class_mask
from handlens.data.labels.boxes import BoxLabels
from handlens.data.outlines import frame, render
from handlens.errors import InputError
from handlens.palette import IGNORE
from label_images import BREAD, NFD, found, said, text, without_area, write_image

# pycocotools 2.0.11 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

DOG, CAT = {"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}


def annotation(image: int, category: int, *box: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), **more}


def instances(
    path: Path, files: dict[int, str], *annotations: dict[str, Any], categories: tuple[dict[str, Any], ...] = (DOG, CAT)
) -> Path:
    content = {
        "images": [{"id": id, "file_name": name, "width": 40, "height": 30} for id, name in files.items()],
        "annotations": [{"id": number, **item} for number, item in enumerate(annotations, start=1)],
        "categories": list(categories),
    }
    return text(path, json.dumps(content))


def one(root: Path, *annotations: dict[str, Any]) -> Path:
    write_image(root / "a.jpg")
    instances(root / "instances.json", {7: "a.jpg"}, *annotations)
    return root


def test_categories_by_id_and_boxes_as_corners(tmp_path: Path) -> None:
    dataset = open_dataset(one(tmp_path, annotation(7, 18, 1.5, 2, 10, 20), annotation(7, 3, 0.1, 0.2, 0.2, 0.1)))
    assert (dataset.format, dataset.task, dataset.class_names) == ("coco", "detect", ("cat", "dog"))
    assert found(dataset) == {"a.jpg": [("dog", 1.5, 2, 11.5, 22), ("cat", 0.1, 0.2, 0.3, 0.3)]}


def test_crowd_area_and_ignore_are_kept(tmp_path: Path) -> None:
    root = one(
        tmp_path,
        annotation(7, 18, 0, 0, 10, 10, area=37.5),
        annotation(7, 18, 0, 0, 10, 10, area=100, iscrowd=1),
        annotation(7, 18, 0, 0, 10, 10, ignore=1),
    )
    (record,) = open_dataset(root).records
    assert [(b.area, b.crowd, b.difficult) for b in record.label or ()] == [
        (37.5, False, False),
        (None, True, False),
        (None, False, True),
    ]


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (
            ("annotations/instances_train2017.json", "train2017/1.jpg"),
            ("annotations/instances_val.json", "val/1.jpg"),
        ),
        (("a/instances_train.json", "images/train/1.jpg"), ("a/instances_val.json", "images/val/1.jpg")),
        (("train/_annotations.coco.json", "train/1.jpg"), ("valid/_annotations.coco.json", "valid/1.jpg")),
    ],
)
def test_a_file_per_split(tmp_path: Path, train: tuple[str, str], validation: tuple[str, str]) -> None:
    for category, (file, image) in ((18, train), (3, validation)):
        write_image(tmp_path / image)
        instances(tmp_path / file, {1: "1.jpg"}, annotation(1, category, 0, 0, 9, 9))
    text(tmp_path / "annotations/captions_train2017.json", '{"images": [], "annotations": [{"caption": "a"}]}')
    dataset = open_dataset(tmp_path)
    assert found(dataset) == {train[1]: [("dog", 0, 0, 9, 9)], validation[1]: [("cat", 0, 0, 9, 9)]}
    assert {r.id: r.split for r in dataset.records} == {train[1]: "train", validation[1]: "validation"}
    assert any("captions" in note for note in said(dataset))


def test_file_names_with_folders_backslashes_and_other_unicode(tmp_path: Path) -> None:
    for name in ("images/x/1.jpg", "images/y/1.jpg", f"images/{BREAD}.jpg"):
        write_image(tmp_path / name)
    names = {1: "D:\\work\\x\\1.jpg", 2: "/home/me/y/1.jpg", 3: f"{NFD}.jpg"}
    instances(tmp_path / "labels.json", names, *(annotation(n, 3, 0, 0, n, n) for n in names))
    assert found(open_dataset(tmp_path, format="coco")) == {
        "images/x/1.jpg": [("cat", 0, 0, 1, 1)],
        "images/y/1.jpg": [("cat", 0, 0, 2, 2)],
        f"images/{BREAD}.jpg": [("cat", 0, 0, 3, 3)],
    }
    instances(tmp_path / "labels.json", {1: "1.jpg"}, annotation(1, 3, 0, 0, 1, 1))
    with pytest.raises(InputError, match=r"may be images/x/1\.jpg or images/y/1\.jpg; give file_name a folder"):
        open_dataset(tmp_path, format="coco")


def test_missing_and_unlisted_images_are_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "other.jpg"):
        write_image(tmp_path / name)
    instances(
        tmp_path / "c.json", {1: "a.jpg", 2: "gone.jpg"}, annotation(1, 3, 0, 0, 9, 9), annotation(2, 3, 0, 0, 9, 9)
    )
    dataset = open_dataset(tmp_path)
    assert [record.id for record in dataset.records] == ["a.jpg"]
    assert "skipped, listed but not found: 1 (gone.jpg)" in said(dataset)
    assert "skipped, images that no JSON lists: 1 (other.jpg)" in said(dataset)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"none of the 2 images .* exists: 2 \(a\.jpg, gone\.jpg\)"):
        open_dataset(tmp_path)


def test_images_without_objects_and_boxes_without_width(tmp_path: Path) -> None:
    write_image(tmp_path / "b.jpg", height=1)
    write_image(tmp_path / "a.jpg")
    instances(
        tmp_path / "c.json",
        {1: "a.jpg", 2: "b.jpg"},
        annotation(2, 3, 0, 0, 40, 1),
        annotation(2, 3, 5, 0, 0, 1),
        annotation(2, 3, -9, 0, 3, 1),
    )
    dataset = open_dataset(tmp_path)
    assert found(dataset) == {"a.jpg": [], "b.jpg": [("cat", 0, 0, 40, 1), ("cat", -9, 0, -6, 1)]}
    assert without_area(dataset) == [(5, 0, 5, 1)]
    instances(tmp_path / "c.json", {1: "a.jpg", 2: "b.jpg"})
    with pytest.raises(InputError, match=r"none of the 2 images .* has a box"):
        open_dataset(tmp_path)


def test_an_outline_without_a_box_has_the_box_around_it(tmp_path: Path) -> None:
    polygon = {"image_id": 7, "category_id": 3, "segmentation": [[5, 6, 15, 6, 15, 26.5], []]}
    pixels = np.zeros((30, 40), dtype=np.uint8, order="F")
    pixels[2:9, 3:5] = 1
    coded = pycoco.encode(pixels)
    runs = {"image_id": 7, "category_id": 18, "segmentation": {"size": [30, 40], "counts": coded["counts"].decode()}}
    dataset = open_dataset(one(tmp_path, polygon, runs))
    assert found(dataset) == {"a.jpg": [("cat", 5, 6, 15, 26.5), ("dog", 3, 2, 5, 9)]}
    with pytest.raises(
        InputError, match=r"annotation 1 of .* has no bbox, and its segmentation is invalid: a polygon has 3 numbers"
    ):
        open_dataset(one(tmp_path, {**polygon, "segmentation": [[5, 6, 7]]}))
    with pytest.raises(InputError, match="its segmentation is invalid: could not convert string to float: 'x'"):
        open_dataset(one(tmp_path, {**polygon, "segmentation": [[5, 6, 7, "x", 9, 10]]}))
    with pytest.raises(InputError, match=r"annotation 1 of .* has no bbox"):
        open_dataset(one(tmp_path, {**polygon, "segmentation": [[]]}, runs))


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        ([(1, "a.jpg"), (1, "b.jpg")], [(3, "cat")], "two images of .* have the id 1"),
        ([(1, "a.jpg"), (2, "b.jpg")], [(3, "cat"), (3, "dog")], "two categories of .* have the id 3"),
        ([(1, "a.jpg"), (2, "b.jpg")], [(3, "cat"), ("x", "dog")], "numbers as ids and some have strings"),
        ([(1, "a.jpg"), (2, "b.jpg")], [(3, "cat"), ([4], "dog")], r"has id = \[4\]; a number is expected"),
    ],
)
def test_ids_that_tell_nothing_apart(
    tmp_path: Path, images: list[tuple[Any, str]], categories: list[tuple[Any, str]], message: str
) -> None:
    content = {
        "images": [{"id": id, "file_name": str(write_image(tmp_path / name).name)} for id, name in images],
        "categories": [{"id": id, "name": name} for id, name in categories],
        "annotations": [annotation(1, 3, 1, 1, 5, 5)],
    }
    text(tmp_path / "c.json", json.dumps(content))
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path)


def test_a_byte_order_mark_and_a_stray_json(tmp_path: Path) -> None:
    root = one(tmp_path, annotation(7, 3, 0, 0, 9, 9))
    path = root / "instances.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert open_dataset(root).format == "coco"
    path.unlink()
    text(root / "meta.json", '{"images": 12, "annotations": "see the paper", "categories": ["none"]}')
    assert open_dataset(root).format == "flat"


def test_a_size_that_is_not_the_images_is_kept_for_the_audit(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", width=30, height=40)
    instances(tmp_path / "c.json", {1: "a.jpg"}, annotation(1, 3, 0, 0, 9, 9))
    kind = open_dataset(tmp_path).kind
    assert isinstance(kind, BoxLabels)
    assert kind.stated_sizes == {"a.jpg": (40, 30)}


def test_two_categories_of_one_name_are_merged_and_said(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    names = ({"id": 0, "name": "cells"}, {"id": 1, "name": "cells"}, {"id": 2, "name": "wbc"})
    boxes = [annotation(1, id, 0, 0, 1 + id, 9) for id in range(3)]
    instances(tmp_path / "c.json", {1: "a.jpg"}, *boxes, categories=names)
    dataset = open_dataset(tmp_path)
    assert [box[0] for box in found(dataset)["a.jpg"]] == ["cells", "cells", "wbc"]
    assert "class cells has 2 numbers (0, 1) and was merged" in said(dataset)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"category_id": 5}, "annotation 1 of .* has category 5, which is not listed"),
        ({"image_id": 5}, "annotation 1 of .* is about image 5"),
        ({"bbox": [1, 2, 3]}, r"bbox \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, None]}, "bbox"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    root = one(tmp_path, annotation(7, 18, 0, 0, 9, 9) | changed)
    with pytest.raises(InputError, match=message):
        open_dataset(root)


def test_wrong_files(tmp_path: Path) -> None:
    root = one(tmp_path, annotation(7, 18, 0, 0, 9, 9))
    content = json.loads((root / "instances.json").read_text())
    (root / "instances.json").write_text(json.dumps(content)[:-9])
    with pytest.raises(InputError, match="not valid JSON"):
        open_dataset(root)
    del content["images"][0]["file_name"]
    (root / "instances.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"image 1 of .* has no file_name"):
        open_dataset(root)
    one(root, annotation(7, 18, 0, 0, 9, 9))
    instances(root / "instances_2.json", {1: "b.jpg"}, categories=({"id": 18, "name": "wolf"},))
    with pytest.raises(InputError, match=r"category 18 is 'dog', and 'wolf' in .*instances_2\.json"):
        open_dataset(root)
    with pytest.raises(InputError, match="no COCO instances JSON"):
        open_dataset(write_image(tmp_path / "x/a.jpg").parent, format="coco")


# Outlines


def expected(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    return pycoco.decode(pycoco.merge(pycoco.frPyObjects(polygons, height, width))).astype(bool)


coordinates = st.one_of(
    st.integers(-6, 40).map(float), st.floats(-6, 40, width=32), st.sampled_from([0.0, 30.0, 0.1, 29.9])
)
polygon = st.lists(coordinates, min_size=6, max_size=16).map(lambda numbers: numbers[: len(numbers) // 2 * 2])


@given(polygons=st.lists(polygon, min_size=1, max_size=3), height=st.integers(1, 30), width=st.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_polygons_are_those_of_pycocotools(polygons: list[list[float]], height: int, width: int) -> None:
    assert np.array_equal(render(polygons, size=(height, width)), expected(polygons, height, width))


def test_a_large_polygon() -> None:
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = 150 + 60 * np.cos(7 * angles)
    star = np.stack([320 + radius * np.cos(angles), 240 + radius * np.sin(angles)], axis=1).ravel().tolist()
    ours = render([star], size=(480, 640))
    assert 50_000 < ours.sum() < 120_000
    assert np.array_equal(ours, expected([star], 480, 640))


def as_text(pixels: np.ndarray) -> dict[str, Any]:
    """Run lengths as JSON holds them."""
    packed = pycoco.encode(pixels)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


@given(data=st.data(), height=st.integers(1, 20), width=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_run_lengths_of_both_kinds_are_those_of_pycocotools(data: st.DataObject, height: int, width: int) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    pixels = np.asfortranarray(np.array(bits, dtype=np.uint8).reshape(height, width))
    assert np.array_equal(render(as_text(pixels), size=(height, width)), pixels.astype(bool))
    down_columns = pixels.ravel(order="F")
    edges = np.flatnonzero(np.diff(down_columns)) + 1
    counts = np.diff([0, *edges, len(down_columns)]).tolist()
    runs = {"size": [height, width], "counts": [0, *counts] if down_columns[0] else counts}
    assert np.array_equal(pycoco.decode(pycoco.frPyObjects(runs, height, width)), pixels)
    assert np.array_equal(render(runs, size=(height, width)), pixels.astype(bool))


def test_long_runs() -> None:
    """Numbers of several characters, and negative differences."""
    pixels = np.zeros((700, 900), dtype=np.uint8, order="F")
    pixels[3:690, 5:800] = 1
    pixels[100:300, 200:210] = 0
    assert np.array_equal(render(as_text(pixels), size=(700, 900)), pixels.astype(bool))


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1.0, 2.0, 3.0, 4.0]], "has 4 numbers"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]], "has 7 numbers"),
        ([[[1, 2], [3, 4], [5, 6], [1, 2], [3, 4], [5, 6]]], "one list of alternating"),
        ([[1.0, 2.0, 3.0, 1e9, 5.0, 6.0]], r"a point at 1e\+09"),  # of which the evaluator would walk every pixel
        ([[1.0, 2.0, 3.0, float("nan"), 5.0, 6.0]], "a point at nan"),
        ([[1.0, 2.0, 3.0, float("inf"), 5.0, 6.0]], "a point at inf"),
        ([[1, 2, 3, 10**400, 5, 6]], "more than 300 digits"),
        ([[1.0, 2.0, 3.0, "x", 5.0, 6.0]], "could not convert string to float: 'x'"),
        ([[1.0, 2.0, 3.0, None, 5.0, 6.0]], "a point at nan"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "float"),
        ({"size": [3, 3], "counts": [9]}, r"for \[3, 3\] pixels"),
        ({"size": [4, 4], "counts": [9]}, "cover 9 pixels of 16"),
        ({"size": [4, 4], "counts": [18, -2]}, "whole numbers, and none is below 0"),
        ({"size": [4, 4], "counts": [9.5, 6.5]}, "whole numbers"),
        ({"size": [4, 4], "counts": [9, "x"]}, "whole numbers"),
        ({"size": [4, 4], "counts": None}, "NoneType"),
        ({"size": [4, 4], "counts": "zz"}, "'z' is not valid"),
        ({"size": [4, 4], "counts": "P"}, "run lengths are wrong: .*early end"),
        ({"size": [4, 4], "counts": "34"}, "decoded 7 pixels but expected 16"),
        ({"size": [4, 4], "counts": "PPPPPPPPPPPPPPPPPPPPPPPPPPPP"}, "run lengths are wrong"),
        ({"size": [4, 4]}, "counts"),
        ({"counts": [16]}, "size"),
        ({"size": None, "counts": [16]}, "NoneType"),
    ],
)
def test_wrong_outlines_are_one_sentence(outline: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"annotation None: its segmentation is invalid: .*{message}") as caught:
        class_mask([annotation(1, 3, 0, 0, 1, 1, segmentation=outline)], size=(4, 4), index={3: 1})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [[100_000, 100_000], [0, 5], ["a", 3], [2.0, 2.0], [3]])
def test_run_lengths_for_no_size_of_an_image_take_no_memory(size: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"not a valid image size|not enough values"):
        frame({"size": size, "counts": "34"})


@given(text=st.text(st.characters(min_codepoint=40, max_codepoint=125), max_size=12), long=st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_text_is_pixels_or_one_sentence(text: str, long: bool) -> None:
    runs = {"size": [4, 4], "counts": 3 * text if long else text}
    try:
        pixels = render(runs, size=(4, 4))
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert np.array_equal(pixels, pycoco.decode(runs))


def test_a_class_mask() -> None:
    """The smaller object on top; crowds and objects without outline are not counted."""
    large = annotation(1, 18, 0, 0, 8, 8, segmentation=[[0, 0, 8, 0, 8, 8, 0, 8]])
    small = annotation(1, 3, 2, 2, 2, 2, segmentation=[[2, 2, 4, 2, 4, 4, 2, 4]])
    crowd = annotation(1, 18, 6, 0, 4, 2, iscrowd=1, segmentation={"size": [10, 12], "counts": [60, 2, 58]})
    bare = annotation(1, 3, 9.5, 8, 1, 9, segmentation=[])
    mask = class_mask([small, bare, crowd, large], size=(10, 12), index={18: 2, 3: 1})
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[0:2, 6] = IGNORE
    expected[8:, 9:11] = IGNORE
    expected[:8, :8] = 2
    expected[2:4, 2:4] = 1
    assert mask.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"image_id": 8, "category_id": 5, "bbox": [0, 0, 9, 9]}, "has category 5, which is not listed"),
        ({"image_id": 8, "category_id": 18, "bbox": None}, "has the bbox None"),
        ({"image_id": 8, "category_id": 18, "segmentation": [[1, 2]]}, "a polygon has 2 numbers"),
        ({"image_id": 8, "category_id": None, "bbox": [0, 0, 9, 9]}, "has category_id = None"),
    ],
)
def test_a_damaged_annotation_leaves_the_other_images(tmp_path: Path, wrong: dict[str, Any], reason: str) -> None:
    root = one(tmp_path, annotation(7, 18, 0, 0, 9, 9))
    write_image(root / "b.jpg")
    instances(root / "instances.json", {7: "a.jpg", 8: "b.jpg"}, annotation(7, 18, 0, 0, 9, 9), wrong)
    dataset = open_dataset(root)
    assert found(dataset) == {"a.jpg": [("dog", 0, 0, 9, 9)]}
    (remark,) = dataset.remarks
    assert (remark.code, remark.files, remark.lost) == ("label_unreadable", ("b.jpg",), True)
    assert reason in remark.reasons[0]


def test_entries_that_are_none(tmp_path: Path) -> None:
    root = one(tmp_path, annotation(7, 18, 0, 0, 9, 9))
    content = json.loads((root / "instances.json").read_text())
    content["annotations"] += [None, {"image_id": 99, "category_id": 18, "bbox": [0, 0, 9, 9]}]
    content["images"] += [None, {"id": 9, "file_name": None}, dict(content["images"][0])]
    text(root / "instances.json", json.dumps(content))
    dataset = open_dataset(root)
    assert found(dataset) == {"a.jpg": [("dog", 0, 0, 9, 9)]}  # listed twice with one id: the same entry
    remarks = {remark.code: remark for remark in dataset.remarks}
    assert "None, not an object" in remarks["annotation_without_image"].reasons[0]
    assert "image 99" in remarks["annotation_without_image"].reasons[1]
    assert "file_name = None" in remarks["label_unreadable"].reasons[1]


def test_an_image_listed_twice_or_with_the_id_of_another_is_left_aside(tmp_path: Path) -> None:
    for name in "abc":
        write_image(tmp_path / f"{name}.jpg")
    path = instances(
        tmp_path / "x.json", {1: "a.jpg", 2: "b.jpg", 3: "c.jpg", 4: "c.jpg"}, annotation(1, 18, 0, 0, 9, 9)
    )
    dataset = open_dataset(tmp_path)
    assert sorted(found(dataset)) == ["a.jpg", "b.jpg"]
    assert "c.jpg is listed twice" in dataset.remarks[0].reasons[0]
    content = json.loads(path.read_text())
    content["images"][3] |= {"id": 2}
    path.write_text(json.dumps(content))
    assert sorted(found(open_dataset(tmp_path))) == ["a.jpg"]


def test_a_damaged_second_file_is_named(tmp_path: Path) -> None:
    root = one(tmp_path, annotation(7, 18, 0, 0, 9, 9))
    text(root / "instances_b.json", '{"images": [], "annotations": [], "categories": [')
    dataset = open_dataset(root)
    assert sorted(found(dataset)) == ["a.jpg"]
    assert [(remark.code, remark.files) for remark in dataset.remarks] == [("json_unreadable", ("instances_b.json",))]


def test_a_box_of_null_beside_an_outline(tmp_path: Path) -> None:
    outline = {"image_id": 7, "category_id": 18, "bbox": None, "segmentation": [[5, 6, 15, 6, 15, 26]]}
    assert found(open_dataset(one(tmp_path, outline))) == {"a.jpg": [("dog", 5, 6, 15, 26)]}
