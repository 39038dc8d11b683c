from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.record import Record
from handlens.errors import InputError
from label_images import BREAD, NFD, found, mask, said, text, without_area, write_image


def object_xml(name: str, *corners: object, difficult: object = 0) -> str:
    values = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{values}</bndbox></object>"


def annotated(root: Path, stem: str, *objects: str, width: int = 40, height: int = 30) -> Path:
    write_image(root / "JPEGImages" / f"{stem}.jpg", width=width, height=height)
    text(root / "Annotations" / f"{stem}.xml", f"<annotation><filename>x</filename>{''.join(objects)}</annotation>")
    return root


def lists(root: Path, **stems: str) -> Path:
    for name, listed in stems.items():
        text(root / "ImageSets/Main" / f"{name}.txt", listed)
    return root


def test_corners_count_from_1_and_lie_inside(tmp_path: Path) -> None:
    """The whole image is 1, 1, 40, 30 in VOC, its first pixel 1, 1, 1, 1 (the Development Kit, section 8)."""
    root = annotated(tmp_path, "a", object_xml("dog", 1, 1, 40, 30), object_xml("cat", 11.5, 3, 12.25, 3))
    dataset = open_dataset(root)
    assert (dataset.format, dataset.task, dataset.class_names) == ("voc", "detect", ("cat", "dog"))
    assert found(dataset) == {"JPEGImages/a.jpg": [("dog", 0, 0, 40, 30), ("cat", 10.5, 2, 12.25, 3)]}
    assert any("1-based, last pixel included" in note for note in said(dataset))
    text(root / "handlens.yaml", "voc: {corners: edges}")
    assert found(open_dataset(root)) == {"JPEGImages/a.jpg": [("dog", 1, 1, 40, 30)]}  # the cat has no height
    text(root / "handlens.yaml", "voc: {corners: edge}")
    with pytest.raises(InputError, match=r"voc\.corners = 'edge'"):
        open_dataset(root)


def test_every_object_is_kept_with_its_marks(tmp_path: Path) -> None:
    """Not the last one only; parts of a body (VOC 2007's heads and hands) are no objects."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    person = object_xml("person", 1, 1, 9, 9, difficult=1).replace("<bndbox>", f"{part}<bndbox>", 1)
    dataset = open_dataset(
        annotated(tmp_path, "a", person, object_xml("dog", 5, 5, 8, 8), object_xml("dog", 5, 5, 8, 8))
    )
    (record,) = dataset.records
    assert [(box.label, box.difficult) for box in record.label or ()] == [(1, True), (0, False), (0, False)]


def test_an_image_without_objects_is_kept(tmp_path: Path) -> None:
    root = annotated(annotated(tmp_path, "a"), "b", object_xml("dog", 1, 1, 2, 9))
    dataset = open_dataset(root)
    assert [record.label == () for record in dataset.records] == [True, False]
    with pytest.raises(InputError, match=r"none of the 2 images .* has a box"):
        open_dataset(annotated(root, "b"))


def test_boxes_without_area_are_dropped_and_named(tmp_path: Path) -> None:
    root = annotated(
        tmp_path,
        "a",
        object_xml("dog", 5, 5, 5, 5),
        object_xml("dog", 9, 1, 3, 4),
        object_xml("dog", 1, 1, 90, 90),
    )
    dataset = open_dataset(root)
    assert found(dataset) == {"JPEGImages/a.jpg": [("dog", 0, 0, 90, 90)]}  # over the edge: the audit's to say
    assert without_area(dataset) == [(5, 5, 5, 5), (8, 0, 3, 4)]


def test_an_image_of_one_row(tmp_path: Path) -> None:
    root = annotated(tmp_path, "a", object_xml("line", 1, 1, 40, 1), height=1)
    assert found(open_dataset(root)) == {"JPEGImages/a.jpg": [("line", 0, 0, 40, 1)]}


def test_lists_give_the_splits(tmp_path: Path) -> None:
    for stem in ("a", "b", BREAD, "d", "unlisted"):
        annotated(tmp_path, stem, object_xml("dog", 1, 1, 9, 9))
    root = lists(tmp_path, train="a 1\n", val="b -1\n", test=f"{NFD}\ngone\n", trainval="a\nb\nd\n")
    text(root / "ImageSets/Main/dog_train.txt", "b  1\n")  # VOC's lists per class
    dataset = open_dataset(root)
    assert {r.path.stem: r.split for r in dataset.records} == {
        "a": "train",
        "b": "validation",
        "d": "train",
        BREAD: "test",
    }
    assert "skipped, in no list of ImageSets/Main: 1 (JPEGImages/unlisted.jpg)" in said(dataset)
    assert "in a list of ImageSets/Main but without image or XML: 1 (gone)" in said(dataset)
    with pytest.raises(InputError, match=r"a is in train\.txt and in test\.txt"):
        open_dataset(lists(root, test="a\n"))


def test_xml_beside_images_below_splits(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write_image(tmp_path / part / "1.jpg")
        text(tmp_path / part / "1.xml", f"<annotation>{object_xml(part, 1, 1, 5, 5)}</annotation>")
    dataset = open_dataset(tmp_path)
    assert found(dataset) == {"train/1.jpg": [("train", 0, 0, 5, 5)], "valid/1.jpg": [("valid", 0, 0, 5, 5)]}
    assert dataset.splits() == ("train", "validation")
    assert "classes without a box to train on: 1 (valid)" in said(dataset)


def test_labels_without_images_and_images_without_labels(tmp_path: Path) -> None:
    root = annotated(tmp_path, "a", object_xml("dog", 1, 1, 9, 9))
    write_image(root / "JPEGImages/lonely.jpg")
    text(root / "Annotations/lost.xml", "<annotation/>")
    dataset = open_dataset(root)
    assert [record.id for record in dataset.records] == ["JPEGImages/a.jpg"]
    assert "skipped, images without XML: 1 (JPEGImages/lonely.jpg)" in said(dataset)
    assert "skipped, XML without an image: 1 (Annotations/lost.xml)" in said(dataset)


def test_one_damaged_xml_leaves_the_rest(tmp_path: Path) -> None:
    root = annotated(annotated(tmp_path, "a", object_xml("dog", 1, 1, 9, 9)), "b")
    text(root / "Annotations/b.xml", "<annotation><object>")
    dataset = open_dataset(root)
    assert [record.path.stem for record in dataset.records] == ["a"]
    (remark,) = dataset.remarks
    assert (remark.code, remark.level, remark.files) == ("label_unreadable", "warning", ("JPEGImages/b.jpg",))
    assert "1 label cannot be used, skipped with their images. The first: " in remark.message
    assert "b.xml is not XML" in remark.message
    assert any(finding.code == "label_unreadable" for finding in audit(dataset).findings)


def test_a_size_that_is_not_the_images_is_warned_of(tmp_path: Path) -> None:
    root = annotated(annotated(tmp_path, "a", object_xml("dog", 2, 2, 9, 9)), "b", object_xml("dog", 2, 2, 9, 9))
    for stem, width, height in (("a", 40, 30), ("b", 30, 40)):
        path = root / "Annotations" / f"{stem}.xml"
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        path.write_text(path.read_text().replace("<filename>", f"{size}<filename>"))
    seen = audit(open_dataset(root))
    assert seen.to_dict()["wrong_sizes"] == [{"file": "JPEGImages/b.jpg", "stated": [30, 40], "true": [40, 30]}]
    (finding,) = (finding for finding in seen.findings if finding.code == "label_size")
    assert finding.files == ("JPEGImages/b.jpg",)
    assert "b.jpg is 40 x 30 pixels (upright), its label states 30 x 40" in finding.message


def test_corners_at_0_are_warned_of(tmp_path: Path) -> None:
    root = annotated(annotated(tmp_path, "a", object_xml("dog", 0, 5, 9, 9)), "b", object_xml("dog", 1, 1, 9, 9))
    (remark,) = open_dataset(root).remarks
    assert (remark.code, remark.files, remark.lost) == ("corners_at_zero", ("JPEGImages/a.jpg",), False)
    assert "1 box has a corner at 0" in remark.message and "voc: {corners: edges}" in remark.message
    text(root / "handlens.yaml", "voc: {corners: edges}")
    assert open_dataset(root).remarks == ()


def test_a_stray_xml_hides_nothing(tmp_path: Path) -> None:
    root = annotated(tmp_path, "a", object_xml("dog", 1, 1, 9, 9))
    text(root / ".idea.xml", "<project/>")
    text(root / "AAA.xml", "<project/>")
    assert open_dataset(root).format == "voc"


def test_names_in_lists_may_end_in_a_number_or_an_extension(tmp_path: Path) -> None:
    """A second column is 1, 0 or -1; "shot 1" is a name."""
    box = object_xml("dog", 1, 1, 9, 9)
    root = tmp_path
    for stem in ("shot 1", "shot 0", "shot", "b", "c.jpg"):
        annotated(root, stem, box)
    lists(root, train="shot 1\nshot  1\n", valid="shot 0\nb.jpg -1", test="c.jpg\n")
    dataset = open_dataset(root)
    assert {record.path.stem: record.split for record in dataset.records} == {
        "shot 1": "train",
        "shot": "train",
        "shot 0": "validation",
        "b": "validation",
        "c.jpg": "test",
    }


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation><object>", r"a\.xml is not XML"),
        ("<kml/>", r"a\.xml begins with <kml>"),
        ("<annotation><object/></annotation>", r"object 1 of .*a\.xml has no name"),
        ("<annotation><object><name>x</name></object></annotation>", "has xmin = ''"),
        (f"<annotation>{object_xml('x', 1, 'two', 3, 4)}</annotation>", "ymin = 'two'"),
        (f"<annotation>{object_xml('x', 1, 'nan', 3, 4)}</annotation>", "ymin = nan"),
    ],
)
def test_wrong_xml_is_named(tmp_path: Path, xml: str, message: str) -> None:
    text(annotated(tmp_path, "a") / "Annotations/a.xml", xml)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path, format="voc")


def test_a_class_that_is_not_in_the_list(tmp_path: Path) -> None:
    root = annotated(tmp_path, "a", object_xml("dog", 1, 1, 9, 9), object_xml("cta", 1, 1, 9, 9))
    text(root / "handlens.yaml", "class_names: [zebra, dog, cat]")
    with pytest.raises(InputError, match=r"a\.xml: class 'cta' is not among class_names .* closest match is 'cat'"):
        open_dataset(root)
    annotated(root, "a", object_xml("dog", 1, 1, 9, 9))
    assert open_dataset(root).class_names == ("zebra", "dog", "cat")  # the list's order
    text(root / "handlens.yaml", "class_names: {dog: 개}")
    assert open_dataset(root).class_names == ("개",)


# Classes per pixel


def segmented(root: Path, stem: str, values: object) -> Path:
    write_image(root / "JPEGImages" / f"{stem}.jpg", width=3, height=1)
    mask(root / "SegmentationClass" / f"{stem}.png", values, mode="P")
    mask(root / "SegmentationObject" / f"{stem}.png", values, mode="P")
    return root


def mask_of(record: Record) -> str:
    assert record.label is not None
    return record.label.parent.name


@pytest.mark.parametrize("below", [".", "VOCdevkit/VOC2012"])
def test_segmentation_class(tmp_path: Path, below: str) -> None:
    base = tmp_path / below
    segmented(segmented(segmented(base, "a", [[0, 15, 255]]), "b", [[0, 0, 1]]), "c", [[1, 1, 1]])
    write_image(base / "JPEGImages/boxes_only.jpg")
    text(base / "ImageSets/Segmentation/train.txt", "a\n")
    text(base / "ImageSets/Segmentation/val.txt", "b\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task) == ("voc-masks", "segment")
    assert [(r.path.stem, r.split, mask_of(r)) for r in dataset.records] == [
        ("a", "train", "SegmentationClass"),
        ("b", "validation", "SegmentationClass"),
    ]
    assert len(dataset.class_names) == (3 if below == "." else 21)
    assert below == "." or dataset.class_names[15] == "person"


def test_boxes_go_before_masks_unless_asked(tmp_path: Path) -> None:
    root = segmented(annotated(tmp_path, "a", object_xml("dog", 1, 1, 3, 1)), "a", [[0, 1, 255]])
    text(root / "ImageSets/Segmentation/train.txt", "a\n")
    boxes = open_dataset(root)
    assert (boxes.format, [r.path.parent.name for r in boxes.records]) == ("voc", ["JPEGImages"])
    assert open_dataset(root, format="voc-masks").task == "segment"
    (root / "SegmentationClass").rename(root / "Other")
    with pytest.raises(InputError, match="SegmentationClass is missing"):
        open_dataset(root, format="voc-masks")


def test_blood_cells(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "bccd")
    assert [len(dataset.part(split)) for split in dataset.splits()] == [205, 87, 72]
    # 4,155 RBC stand in the files (grep -c); two of them are points.
    assert dataset.class_counts() == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert len(without_area(dataset)) == 2


def test_marks_without_a_place_are_said_and_true_is_true(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    corners = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    marks = "<name>dog</name><difficult>true</difficult><truncated>1</truncated><pose>Left</pose>"
    text(tmp_path / "a.xml", f"<annotation><object>{marks}{corners}</object></annotation>")
    dataset = open_dataset(tmp_path)
    assert [box.difficult for box in dataset.records[0].label or ()] == [True]
    (remark,) = dataset.remarks
    assert (remark.code, remark.level, remark.lost, remark.files) == ("not_kept", "note", True, ("a.jpg",))
    assert "left out" not in dataset.summary()
    assert remark.message.startswith("pose, truncated of objects")


def test_masks_of_voc_name_what_else_is_there(tmp_path: Path) -> None:
    for stem in "ab":
        write_image(tmp_path / "JPEGImages" / f"{stem}.jpg")
        mask(tmp_path / "SegmentationClass" / f"{stem}.png", np.eye(30, 40))
    mask(tmp_path / "SegmentationObject/a.png", np.eye(30, 40))
    text(tmp_path / "ImageSets/Segmentation/train.txt", "a\nb\n")
    write_image(tmp_path / "elsewhere/c.jpg")
    text(tmp_path / "film.mp4", "")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, len(dataset.records)) == ("voc-masks", 2)
    for name in ("SegmentationObject/a.png", "elsewhere/c.jpg", "film.mp4"):
        assert any(name in note for note in [*dataset.notes, *(remark.message for remark in dataset.remarks)])
