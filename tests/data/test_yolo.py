from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from handlens.data import open_dataset
from handlens.errors import InputError
from label_images import BREAD, NFD, corners, found, said, text, without_area, write_image

ROW = "0 0.5 0.5 0.5 0.4\n"  # 10, 9, 30, 21 on 40 x 30


def labeled(root: Path, stem: str, rows: str = ROW, *, below: str = "", names: str = "names: [dog, cat]") -> Path:
    write_image(root / "images" / below / f"{stem}.jpg")
    text(root / "labels" / below / f"{stem}.txt", rows)
    text(root / "data.yaml", names)
    return root


def test_fractions_become_pixels(tmp_path: Path) -> None:
    """By hand: 40 x 30, center 20, 15, size 20 x 12."""
    dataset = open_dataset(labeled(tmp_path, "a", f"{ROW}1 0.25 0.5 0.1 1\n\n"))
    assert (dataset.format, dataset.task, dataset.class_names) == ("yolo", "detect", ("dog", "cat"))
    assert found(dataset) == {"images/a.jpg": [("dog", 10, 9, 30, 21), ("cat", 8, 0, 12, 30)]}


@pytest.mark.parametrize(
    "names", ["names: [dog, cat]", "names: {0: dog, 1: cat}", "nc: 2\nnames:\n  1: cat\n  0: dog\n"]
)
def test_names_as_list_or_mapping(tmp_path: Path, names: str) -> None:
    assert open_dataset(labeled(tmp_path, "a", names=names)).class_names == ("dog", "cat")


def test_names_from_classes_txt_from_handlens_yaml_and_from_nowhere(tmp_path: Path) -> None:
    root = labeled(tmp_path, "a", ROW + ROW.replace("0", "2", 1))
    (root / "data.yaml").unlink()
    dataset = open_dataset(root)
    assert dataset.class_names == ("0", "2")  # a stray 120 would make 118 classes that nothing is in
    assert any("named after the numbers found" in note for note in said(dataset))
    text(root / "handlens.yaml", "class_names: [x, b, a]")
    assert open_dataset(root).class_names == ("x", "b", "a")
    (root / "handlens.yaml").unlink()
    text(root / "labels/classes.txt", f"one\ntwo\n{NFD}\n")
    assert open_dataset(root).class_names == ("one", "two", BREAD)
    text(root / "labels/classes.txt", f"one\n\n{NFD}\n")  # a line is a number, an empty one too
    assert found(open_dataset(root))["images/a.jpg"][1][0] == BREAD


def test_folders_that_are_missing_are_said(tmp_path: Path) -> None:
    root = labeled(tmp_path, "a", names="path: .\ntrain: images/train2017\nval: images/val2017\nnames: [dog]")
    dataset = open_dataset(root)
    assert (
        "data.yaml names 2 (images/train2017, images/val2017), which do not exist; splits are taken from folder names"
        in said(dataset)
    )
    assert dataset.splits() == ()


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_splits_by_folder_where_the_yamls_are_missing(tmp_path: Path, layout: str) -> None:
    for part in ("train", "valid"):
        write_image(tmp_path / layout.format(part) / "1.jpg")
        text(tmp_path / layout.format(part).replace("images", "labels") / "1.txt", ROW)
    text(tmp_path / "data.yaml", "train: ../elsewhere/train\nval: ../elsewhere/valid\nnames: [dog]")
    dataset = open_dataset(tmp_path)
    assert dataset.splits() == ("train", "validation")
    assert any("splits are taken from folder names" in note for note in said(dataset))


def test_splits_by_the_yamls_folders_and_lists(tmp_path: Path) -> None:
    root = labeled(labeled(labeled(tmp_path, "1", below="first"), "2", below="second"), "3", below="second")
    text(root / "val.txt", "./images/second/2.jpg\n")
    text(root / "data.yaml", "train: images/first\nval: val.txt\ntest: [images/second]\nnames: [dog]")
    dataset = open_dataset(root, format="yolo")  # first/ and second/ may be classes as well
    assert {r.path.stem: r.split for r in dataset.records} == {"1": "train", "2": "validation", "3": "test"}
    assert "images in two splits of data.yaml, kept in the first: 1 (images/second/2.jpg)" in said(dataset)


def test_a_part_that_is_missing_and_images_of_no_part(tmp_path: Path) -> None:
    root = labeled(labeled(labeled(tmp_path, "1", below="first"), "2", below="second"), "3", below="third")
    text(root / "data.yaml", "train: images/first\nval: images/second\ntest: images/test\nnames: [dog]")
    dataset = open_dataset(root, format="yolo")
    assert {r.path.stem: r.split for r in dataset.records} == {"1": "train", "2": "validation"}
    assert [(remark.code, remark.level, remark.files) for remark in dataset.remarks] == [
        ("split_missing", "note", ()),
        ("not_listed", "warning", ("images/third/3.jpg",)),
    ]


def test_a_confidence_is_read_and_said(tmp_path: Path) -> None:
    dataset = open_dataset(labeled(tmp_path, "a", "0 0.5 0.5 0.5 0.4 0.87\n"))
    assert found(dataset) == {"images/a.jpg": [("dog", 10, 9, 30, 21)]}
    assert "boxes with a confidence (not kept): 1 (images/a.jpg)" in said(dataset)


def test_an_outline_is_read_as_the_box_around_it(tmp_path: Path) -> None:
    dataset = open_dataset(labeled(tmp_path, "a", "0 0.25 0.3 0.75 0.5 0.5 0.7\n"))
    assert found(dataset) == {"images/a.jpg": [("dog", 10, 9, 30, 21)]}
    assert "polygons, replaced by their bounding boxes: 1 (images/a.jpg)" in said(dataset)


def test_one_damaged_text_leaves_the_rest(tmp_path: Path) -> None:
    root = labeled(labeled(tmp_path, "a"), "b", "7 0.5 0.5 0.2 0.2\n")
    dataset = open_dataset(root)
    assert [record.path.stem for record in dataset.records] == ["a"]
    (remark,) = dataset.remarks
    assert (remark.code, remark.files) == ("label_unreadable", ("images/b.jpg",))


def test_empty_texts_first_and_all_of_them(tmp_path: Path) -> None:
    root = tmp_path
    for number in range(25):
        labeled(root, f"{number:02}", "")
    with pytest.raises(InputError, match=r"none of the 25 images .* has a box"):
        open_dataset(root)
    labeled(root, "z")
    dataset = open_dataset(root)
    assert (dataset.format, len(dataset.records)) == ("yolo", 26)


def test_a_hidden_yaml_is_not_read(tmp_path: Path) -> None:
    (labeled(tmp_path, "a") / "._data.yaml").write_bytes(b"\0\5\x16\7")  # macOS leaves it in archives
    assert open_dataset(tmp_path).class_names == ("dog", "cat")


def test_a_caption_beside_images_of_one_name_is_no_label(tmp_path: Path) -> None:
    for name in ("rye/1.jpg", "rye/1.png", "bun/1.jpg"):
        write_image(tmp_path / name)
    text(tmp_path / "rye/1.txt", "a dark loaf")
    assert open_dataset(tmp_path).format == "folders"


def test_values_a_little_outside_are_clipped_and_said(tmp_path: Path) -> None:
    dataset = open_dataset(labeled(tmp_path, "a", "0 1.004 0.5 0.5 1.008\n0 0.5 0.5 0.2 0.2\n"))
    assert found(dataset)["images/a.jpg"] == [("dog", 30, 0, 40, 30), ("dog", 16, 12, 24, 18)]
    assert "fractions up to 1 % outside 0 to 1, clipped: 1 (images/a.jpg)" in said(dataset)
    assert "boxes clipped by a pixel or more: 1 (images/a.jpg)" in said(dataset)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"{ROW}0 20 15 20 12\n", r"line 2 of .*a\.txt has 20; fractions"),
        ("0 0.5 0.5 -0.2 0.2\n", "has -0.2"),
        ("0 nan 0.5 0.2 0.2\n", "has nan"),
        ("0 0.5 0.5 0.2\n", "has 4 columns"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1\n", "has 8 columns"),
        ("0,0.5,0.5,0.2,0.2\n", "numbers separated by spaces"),
        ("nan 0.5 0.5 0.2 0.2\n", "class nan; an integer"),
        ("dog 0.5 0.5 0.2 0.2\n", "'dog 0.5 0.5 0.2 0.2'; numbers"),
        ("0.5 0.5 0.5 0.2 0.2\n", "class 0.5; an integer"),
        ("7 0.5 0.5 0.2 0.2\n", r"line 1 of .*a\.txt: class 7 has no name; there are 2"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(labeled(tmp_path, "a", rows), format="yolo")


def test_images_without_objects(tmp_path: Path) -> None:
    root = labeled(labeled(tmp_path, "a"), "empty", "")
    write_image(root / "images/none.jpg")
    text(root / "labels/lost.txt", ROW)
    dataset = open_dataset(root)
    assert {r.path.stem: len(r.label or ()) for r in dataset.records} == {"a": 1, "empty": 0, "none": 0}
    assert all(record.label is not None for record in dataset.records)
    assert any("without a label file" in note and "none.jpg" in note for note in said(dataset))
    assert "skipped, label files without an image: 1 (labels/lost.txt)" in said(dataset)
    with pytest.raises(InputError, match="has a box"):
        open_dataset(labeled(root, "a", ""), format="yolo")


def test_a_box_of_no_width_is_dropped(tmp_path: Path) -> None:
    dataset = open_dataset(labeled(tmp_path, "a", f"{ROW}1 0.5 0.5 0 0.4\n"))
    assert found(dataset)["images/a.jpg"] == [("dog", 10, 9, 30, 21)]
    assert without_area(dataset) == [(20, 9, 20, 21)]


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    """A phone's photograph, stored 40 x 30 and shown 30 x 40: labels are drawn on what is shown."""
    root = labeled(tmp_path, "a")
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30)).save(root / "images/a.jpg", exif=exif)
    assert found(open_dataset(root))["images/a.jpg"] == [("dog", 7.5, 12, 22.5, 28)]


def test_an_image_of_one_row_and_one_that_is_broken(tmp_path: Path) -> None:
    root = labeled(labeled(tmp_path, "broken"), "row", "0 0.5 0.5 1 1\n")
    write_image(root / "images/row.jpg", height=1)
    (root / "images/broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    dataset = open_dataset(root)
    assert [None if r.label is None else corners(r.label[0]) for r in dataset.records] == [None, (0, 0, 40, 1)]


def test_texts_beside_images_in_classes_are_no_labels(tmp_path: Path) -> None:
    for name in ("cat/1", "dog/1"):
        write_image(tmp_path / f"{name}.jpg")
        write_image(tmp_path / f"{name}.png")
        text(tmp_path / f"{name.split('/')[0]}/about.txt", "words about it")
    assert open_dataset(tmp_path).format == "folders"


def test_two_formats_that_match_ask_for_one(tmp_path: Path) -> None:
    root = labeled(tmp_path, "a")
    text(root / "annotations/a.json", '[{"W": "1", "H": "1", "Point(x,y)": "0.5,0.5"}]')
    with pytest.raises(InputError, match=r"in 2 ways, choose one: --format yolo \(detect .*; --format points \("):
        open_dataset(root)


def test_128_images_of_coco(shared_data: Path) -> None:
    root = shared_data / "coco_val128"
    dataset = open_dataset(root)
    texts = {path.stem: path.read_text().splitlines() for path in (root / "labels").iterdir()}
    assert len(dataset.records) == 128
    assert sum(dataset.class_counts().values()) == sum(map(len, texts.values())) == 898
    assert list(dataset.class_names) == list(yaml.safe_load((root / "classes.yaml").read_text())["names"].values())
    for record in dataset.records[:10]:
        with Image.open(record.path) as image:
            width, height = image.size
        for line, box in zip(texts[record.path.stem], record.label or (), strict=True):
            label, x, y, w, h = map(float, line.split())
            assert box.label == label
            assert (box.left + box.right) / 2 == pytest.approx(x * width, abs=0.01)
            assert box.bottom - box.top == pytest.approx(h * height, abs=0.01)
            assert (box.top + box.bottom) / 2 == pytest.approx(y * height, abs=0.01)
            assert box.right - box.left == pytest.approx(w * width, abs=0.01)


@pytest.mark.parametrize("first", ["\ufeff" + ROW, "damaged\n" + ROW, ""])
def test_a_strange_first_text_hides_no_labels(tmp_path: Path, first: str) -> None:
    labeled(tmp_path, "a", first)
    dataset = open_dataset(labeled(tmp_path, "b"))
    assert dataset.format == "yolo"
    assert found(dataset)["images/b.jpg"] == [("dog", 10, 9, 30, 21)]


def test_texts_in_a_folder_for_labels_that_are_all_empty(tmp_path: Path) -> None:
    root = labeled(tmp_path, "a", "")
    (root / "data.yaml").unlink()
    with pytest.raises(InputError, match=r"none of the 1 images in .* has a box"):
        open_dataset(root)


@pytest.mark.parametrize("stem", ["test", "classes", "README"])
def test_an_image_may_be_called_like_a_list(tmp_path: Path, stem: str) -> None:
    root = labeled(labeled(tmp_path, "a"), stem)
    assert found(open_dataset(root))[f"images/{stem}.jpg"] == [("dog", 10, 9, 30, 21)]
    (root / "data.yaml").unlink()
    text(root / "classes.txt", "dog\ncat\n")
    assert found(open_dataset(root))[f"images/{stem}.jpg"] == [("dog", 10, 9, 30, 21)]


def test_what_lies_elsewhere_is_read_or_named(tmp_path: Path) -> None:
    root = labeled(tmp_path, "a")
    write_image(root / "more/b.jpg")
    text(root / "more/b.txt", ROW)
    write_image(root / "drawn/a.jpg")
    text(root / "notes.txt", "taken in May\n")
    text(root / "film.mp4", "")
    dataset = open_dataset(root)
    assert set(found(dataset)) == {"images/a.jpg", "more/b.jpg"}
    assert any("drawn/a.jpg" in note for note in said(dataset))
    assert any("notes.txt" in note for note in said(dataset))
    assert any("film.mp4" in note for note in said(dataset))


def test_names_that_are_not_utf8_and_an_image_as_a_split(tmp_path: Path) -> None:
    root = labeled(tmp_path, "a", names="train: images/a.jpg\nnames: [dog]")
    assert [record.split for record in open_dataset(root).records] == ["train"]
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_bytes("Brötchen\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"classes.txt is not UTF-8"):
        open_dataset(root)


def test_lines_of_a_list_without_an_image_and_images_in_two_splits(tmp_path: Path) -> None:
    root = labeled(labeled(tmp_path, "a"), "b", names="train: train.txt\nval: images/b.jpg\nnames: [dog]")
    text(root / "train.txt", "images/a.jpg\nimages/b.jpg\nimages/gone.jpg\n")
    remarks = {remark.code: remark for remark in open_dataset(root).remarks}
    assert remarks["listed_missing"].files == ("images/gone.jpg",)
    assert (remarks["two_splits"].level, remarks["two_splits"].files) == ("warning", ("images/b.jpg",))
