from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from torchvision.datasets import VOCDetection, VOCSegmentation

from handlens.data import open_dataset
from handlens.data.convert import convert
from handlens.data.formats.write_masks import voc_palette
from handlens.data.labels.boxes import Box, BoxLabels
from handlens.data.labels.mask_files import MaskCoding, read_mask
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Dataset, Record, Split
from handlens.errors import InputError
from label_images import BREAD, mask, text, write_image

open_whole = partial(open_dataset, whole=True)
Known = dict[str, tuple[tuple[Box, ...] | None, Split | None]]


def known(dataset: Dataset) -> Known:
    """Everything but where the files lie."""
    return {record.path.name: (record.label, record.split) for record in dataset.records}


def images(root: Path, *boxes: tuple[Box, ...], split: Split | None = None) -> Dataset:
    records = []
    for number, found in enumerate(boxes):
        path = root / "in" / f"{number}.jpg"
        if not path.is_file():
            write_image(path)
        records.append(Record(path=path, id=f"{number}.jpg", label=found, split=split))
    return Dataset(
        root=root / "in", format="voc", class_names=("zebra", "a b", BREAD), records=tuple(records), kind=BoxLabels()
    )


A_BOX = Box(label=1, left=1, top=2, right=11.5, bottom=22.25)

edges = st.lists(st.integers(0, 400_000), min_size=2, max_size=2, unique=True).map(sorted)
boxes = st.builds(
    lambda label, x, y, crowd, difficult, area: Box(
        label=label,
        left=x[0] / 10_000,
        top=y[0] * 30 // 40 / 10_000,
        right=x[1] / 10_000,
        bottom=max(y[1] * 30 // 40, y[0] * 30 // 40 + 1) / 10_000,
        crowd=crowd,
        difficult=difficult,
        area=area,
    ),
    st.integers(0, 2),
    edges,
    edges,
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(2000, 9000).map(float),
)


@given(found=st.lists(st.lists(boxes, max_size=4).map(tuple), min_size=1, max_size=3), data=st.data())
@settings(max_examples=40, deadline=None)
def test_reading_what_was_written_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[Box, ...]], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("any")
    dataset = images(root, (A_BOX,), *found, split=data.draw(st.sampled_from([None, "train", "validation"])))
    here = [box for boxes in found for box in boxes]
    for to, keeps in (("coco", {"crowd", "difficult", "area"}), ("voc", {"difficult"}), ("yolo", set())):
        lost = convert(dataset, root / to, to=to)  # type: ignore[arg-type]
        again = open_whole(root / to)
        assert (again.format, again.class_names) == (to, dataset.class_names)
        plain = {"crowd": False, "difficult": False, "area": None}
        assert known(again) == {
            name: (
                tuple(replace(box, **{k: v for k, v in plain.items() if k not in keeps}) for box in boxes or ()),
                split,
            )
            for name, (boxes, split) in known(dataset).items()
        }
        marks = {mark for mark in plain if mark not in keeps and any(getattr(box, mark) for box in here)}
        assert {sentence.split(" of ")[0] for sentence in lost} == marks


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    outside = Box(label=0, left=-4, top=1, right=9, bottom=9)
    gone = Box(label=0, left=50, top=1, right=60, bottom=9)
    crowd = Box(label=0, left=1, top=1, right=2, bottom=2, crowd=True, area=0.5, difficult=True)
    dataset = images(tmp_path, (outside, gone, crowd), ())
    dataset = dataset.with_records(
        [
            *(replace(record, group="p") for record in dataset.records),
            Record(path=tmp_path / "in/unknown.jpg", id="unknown.jpg"),
            Record(path=text(tmp_path / "in/bad.jpg", "no image"), id="bad.jpg", label=()),
        ]
    )
    lost = convert(dataset, tmp_path / "yolo", to="yolo")
    assert "groups of 2 images" in lost
    assert "boxes outside their image, clipped: 2 (0.jpg, 0.jpg)" in lost
    assert {"crowd of 1 boxes", "difficult of 1 boxes", "area of 1 boxes"} <= set(lost)
    assert "skipped, no label: unknown.jpg" in lost
    assert any("bad.jpg" in sentence and "not an image" in sentence for sentence in lost)
    assert [len(boxes or ()) for boxes, _ in known(open_whole(tmp_path / "yolo")).values()] == [2, 0]
    assert "boxes of one pixel, which VOC cannot tell from a point: 1" in convert(dataset, tmp_path / "voc", to="voc")
    assert known(open_whole(tmp_path / "voc"))["0.jpg"][0] == (outside, gone)


def test_what_the_reader_left_aside_is_lost_too(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        write_image(tmp_path / "in/images" / f"{stem}.jpg")
    text(tmp_path / "in/labels/a.txt", "0 0.5 0.5 0.2 0.2 0.9\n0 0.5 0.5 0 0.2\n")
    text(tmp_path / "in/labels/b.txt", "zero")
    text(tmp_path / "in/labels/lost.txt", "0 0.5 0.5 0.2 0.2\n")
    dataset = open_whole(tmp_path / "in")
    lost = convert(dataset, tmp_path / "voc", to="voc")
    assert any("1 label cannot be used" in sentence and "b.txt is" in sentence for sentence in lost)
    assert "skipped, label files without an image: 1 (labels/lost.txt)" in lost
    assert "boxes with a confidence (not kept): 1 (images/a.jpg)" in lost
    assert "boxes inverted or without area: 1" in lost


def test_from_coco_to_coco_outlines_and_numbers_stay(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.jpg")
    polygon = [[1, 1, 9, 1, 9, 9]]
    content = {
        "images": [{"id": 70, "file_name": "b.jpg"}, {"id": 71, "file_name": "a.jpg"}],
        "categories": [{"id": 90, "name": "toast"}, {"id": 18, "name": "rye"}, {"id": 19, "name": "bun"}],
        "annotations": [
            {"id": 5, "image_id": 71, "category_id": 90, "bbox": [1, 1, 8, 8], "segmentation": polygon, "score": 0.5},
            {"id": 6, "image_id": 70, "category_id": 18, "bbox": [0, 0, 0, 8]},
            {"id": 7, "image_id": 70, "category_id": 18, "bbox": [0, 0, 9, 8], "keypoints": [1, 2, 2]},
        ],
    }
    text(tmp_path / "in/c.json", json.dumps(content))
    dataset = open_whole(tmp_path / "in")
    assert convert(dataset, tmp_path / "coco", to="coco") == ["boxes inverted or without area: 1"]
    written = json.loads((tmp_path / "coco/annotations/instances.json").read_text())
    assert {entry["id"]: entry["name"] for entry in written["categories"]} == {90: "toast", 18: "rye", 19: "bun"}
    name_of = {entry["id"]: entry["file_name"] for entry in written["images"]}
    kept = {name_of[entry["image_id"]]: entry for entry in written["annotations"]}
    assert (kept["a.jpg"]["category_id"], kept["a.jpg"]["segmentation"], kept["a.jpg"]["score"]) == (90, polygon, 0.5)
    assert (kept["b.jpg"]["category_id"], kept["b.jpg"]["keypoints"]) == (18, [1, 2, 2])
    assert open_whole(tmp_path / "coco").class_names == dataset.class_names
    assert "segmentations of boxes: 1" in convert(dataset, tmp_path / "voc", to="voc")
    text(tmp_path / "in/handlens.yaml", "class_names: {toast: white}")
    renamed = open_whole(tmp_path / "in")
    lost = convert(renamed, tmp_path / "again", to="coco")
    assert "numbers of the categories, which have other names in handlens.yaml" in lost
    assert open_whole(tmp_path / "again").class_names == renamed.class_names


def test_a_data_set_of_coco_is_opened_whole_or_refused(tmp_path: Path) -> None:
    """Its outlines would be lost without a word."""
    write_image(tmp_path / "in/a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "rye"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}],
    }
    text(tmp_path / "in/c.json", json.dumps(content))
    for to in ("voc", "coco", "masks"):
        with pytest.raises(InputError, match=r"use open_dataset\(path, whole=True\)"):
            convert(open_dataset(tmp_path / "in"), tmp_path / "out", to=to)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_category_called_background_is_the_background(tmp_path: Path) -> None:
    write_image(tmp_path / "in/a.jpg", width=3, height=1)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "rye"}, {"id": 2, "name": "background"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [0, 0, 1, 1],
                "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]],
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 2,
                "bbox": [2, 0, 1, 1],
                "segmentation": [[2, 0, 3, 0, 3, 1, 2, 1]],
            },
        ],
    }
    text(tmp_path / "in/c.json", json.dumps(content))
    convert(open_whole(tmp_path / "in"), tmp_path / "masks", to="masks")
    (record,) = (again := open_whole(tmp_path / "masks")).records
    assert again.class_names == ("background", "rye") and again.kind.coding is not None and record.label is not None
    assert read_mask(record.label, again.kind.coding, size=(1, 3)).tolist() == [[1, 0, 0]]


def test_one_name_in_two_folders(tmp_path: Path) -> None:
    names = ("x/1.jpg", "y/1.JPG", "y/1.png", "z/1_2.jpg")
    records = [
        Record(path=write_image(tmp_path / "in" / name), id=name, label=(replace(A_BOX, label=number),))
        for number, name in enumerate(names)
    ]
    dataset = Dataset(
        root=tmp_path / "in", format="voc", class_names=("0", "1", "2", "3"), records=tuple(records), kind=BoxLabels()
    )
    lost = convert(dataset, tmp_path / "voc", to="voc")
    again = open_whole(tmp_path / "voc")
    assert {r.path.name: r.label[0].label for r in again.records if r.label} == {
        "1.jpg": 0,
        "1_2.JPG": 1,
        "1_3.png": 2,
        "1_2_2.jpg": 3,
    }
    assert lost == ["names: 3 (y/1.JPG, y/1.png, z/1_2.jpg) were taken and got a numeric suffix"]


def test_images_are_copied_and_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = images(tmp_path, (A_BOX,), (A_BOX,))
    target = tmp_path / "out"
    target.mkdir()
    convert(dataset, target, to="coco")
    copy = target / "images/0.jpg"
    assert copy.read_bytes() == (tmp_path / "in/0.jpg").read_bytes()
    assert not copy.is_symlink() and copy.stat().st_nlink == 1
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        convert(dataset, target, to="coco")
    with pytest.raises(InputError, match="would be read as part of it"):
        convert(dataset, tmp_path / "in/coco", to="coco")

    calls = []

    def full_disk(source: Path, copy: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        Path(copy).write_bytes(b"")

    monkeypatch.setattr("shutil.copyfile", full_disk)
    with pytest.raises(OSError, match="No space"):
        convert(dataset, tmp_path / "new", to="yolo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    dataset = images(tmp_path, (A_BOX,), (A_BOX,))
    with pytest.raises(InputError, match="'coca' is not known; the closest match is 'coco'"):
        convert(dataset, tmp_path / "x", to="coca")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="with boxes cannot be written as masks; use voc or coco or yolo"):
        convert(dataset, tmp_path / "x", to="masks")
    first, second = dataset.records
    with pytest.raises(InputError, match="1 of the 2 images"):
        convert(dataset.with_records([replace(first, split="train"), second]), tmp_path / "x", to="voc")
    classes = Dataset(root=tmp_path / "in", format="folders", class_names=("a",), records=(replace(first, label=None),))
    with pytest.raises(InputError, match="with classes cannot be written as voc; there is nothing"):
        convert(classes, tmp_path / "x", to="voc")
    assert not (tmp_path / "x").exists()


def test_masks_to_voc_and_to_pairs(tmp_path: Path) -> None:
    values = np.array([[0, 7, 9], [9, 0, 255]])
    records = []
    for stem, split in (("a", "train"), (BREAD, "validation")):
        path = write_image(tmp_path / f"in/images/{stem}.jpg", width=3, height=2)
        stored = mask(tmp_path / f"in/masks/{stem}.png", values)
        records.append(Record(path=path, id=stem, label=stored, split=split))  # type: ignore[arg-type]
    coding = MaskCoding(values={0: 1, 7: 0, 9: 255, 255: 255})
    dataset = Dataset(
        root=tmp_path / "in",
        format="masks",
        class_names=("sky", "bread"),
        records=tuple(records),
        kind=MaskLabels(coding),
    )
    for to, format in (("voc", "voc-masks"), ("masks", "masks")):
        assert convert(dataset, tmp_path / to, to=to) == []  # type: ignore[arg-type]
        again = open_whole(tmp_path / to)
        assert (again.format, again.class_names, again.splits()) == (format, ("sky", "bread"), ("train", "validation"))
        for record in again.records:
            assert record.label is not None and again.kind.coding is not None
            indices = read_mask(record.label, again.kind.coding, size=(2, 3))
            assert indices.tolist() == [[1, 0, 255], [255, 1, 255]]
    ((_, target),) = VOCSegmentationFolder(tmp_path / "voc")
    assert np.asarray(target).tolist() == [[1, 0, 255], [255, 1, 255]]
    with pytest.raises(InputError, match="with masks cannot be written as coco; use voc or masks"):
        convert(dataset, tmp_path / "x", to="coco")


def VOCSegmentationFolder(folder: Path) -> VOCSegmentation:  # noqa: N802
    """torchvision's reader; it wants VOCdevkit/VOC2012 above."""
    devkit = folder.parent / "VOCdevkit"
    devkit.mkdir()
    folder.rename(devkit / "VOC2012")
    return VOCSegmentation(str(folder.parent), year="2012", image_set="train")


def test_the_palette_is_vocs() -> None:
    """Rows of VOClabelcolormap as published: background, aeroplane, bicycle, bird, tvmonitor, border."""
    palette = voc_palette()
    assert palette[[0, 1, 2, 3, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_outlines_become_masks(tmp_path: Path) -> None:
    write_image(tmp_path / "in/a.jpg", width=8, height=4)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 4}],
        "categories": [{"id": 5, "name": "bread"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 5,
                "bbox": [0, 0, 2, 2],
                "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]],
            },
            {"id": 2, "image_id": 1, "category_id": 5, "bbox": [6, 2, 2, 2], "segmentation": []},
        ],
    }
    text(tmp_path / "in/c.json", json.dumps(content))
    lost = convert(open_whole(tmp_path / "in"), tmp_path / "out", to="masks")
    assert "objects without a segmentation, their boxes ignored: 1" in lost
    again = open_whole(tmp_path / "out")
    assert again.class_names == ("background", "bread")
    (record,) = again.records
    assert record.label is not None and again.kind.coding is not None
    expected = np.zeros((4, 8), dtype=int)
    expected[:2, :2], expected[2:, 6:] = 1, 255
    assert read_mask(record.label, again.kind.coding, size=(4, 8)).tolist() == expected.tolist()


@pytest.mark.parametrize("bad", [[[0, 0, 2, 0]], [[0, 0, 2, 0, "x", 2]], {"size": [9, 9], "counts": [81]}])
def test_a_damaged_outline_is_left_out_and_named(tmp_path: Path, bad: object) -> None:
    def entry(number: int, outline: object) -> dict[str, object]:
        return {"id": number, "image_id": number, "category_id": 5, "bbox": [0, 0, 2, 2], "segmentation": outline}

    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "in" / name, width=8, height=4)
    content = {
        "images": [{"id": n, "file_name": f, "width": 8, "height": 4} for n, f in ((1, "a.jpg"), (2, "b.jpg"))],
        "categories": [{"id": 5, "name": "bread"}],
        "annotations": [entry(1, [[0, 0, 2, 0, 2, 2, 0, 2]]), entry(2, bad)],
    }
    text(tmp_path / "in/c.json", json.dumps(content))
    lost = convert(open_whole(tmp_path / "in"), tmp_path / "out", to="masks")
    assert [sentence for sentence in lost if "b.jpg" in sentence or "annotation 2" in sentence], lost
    assert [record.path.name for record in open_whole(tmp_path / "out").records] == ["a.jpg"]


# Real data


def test_blood_cells_round_the_formats(shared_data: Path, tmp_path: Path) -> None:
    """VOC -> COCO -> YOLO -> VOC, each read by somebody else's reader as well."""
    blood = open_whole(shared_data / "bccd")
    some = blood.with_records([record for number, record in enumerate(blood.records) if number % 7 == 0])
    before = known(some)
    data = some
    for to in ("coco", "yolo", "voc"):
        lost = convert(data, tmp_path / to, to=to)  # type: ignore[arg-type]
        assert [sentence.split(" of objects")[0] for sentence in lost] == (["truncated"] if to == "coco" else [])
        data = open_whole(tmp_path / to)
        assert (data.class_names, known(data)) == (blood.class_names, before)

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "coco/annotations/instances_test.json"))
    by_name = {image["file_name"]: image["id"] for image in coco.loadImgs(coco.getImgIds())}
    for record in some.part("test"):
        annotations = coco.loadAnns(coco.getAnnIds(by_name[record.path.name]))
        assert [(a["bbox"], a["category_id"] - 1) for a in annotations] == [
            ([box.left, box.top, box.right - box.left, box.bottom - box.top], box.label) for box in record.label or ()
        ]

    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "voc").rename(tmp_path / "VOCdevkit/VOC2012")
    theirs = VOCDetection(str(tmp_path), year="2012", image_set="val")
    original = {path.stem: path for path in (shared_data / "bccd/Annotations").iterdir()}
    assert len(theirs) == len(some.part("validation"))
    for path, (_, target) in zip(theirs.images, theirs, strict=True):
        objects = target["annotation"]["object"]
        written = [tuple(o["bndbox"].values()) for o in (objects if isinstance(objects, list) else [objects])]
        published = original[Path(path).stem].read_text()
        for left, top, right, bottom in written:  # the very corners that the data set was published with
            assert f"<xmin>{left}</xmin>" in published and f"<ymax>{bottom}</ymax>" in published
            assert f"<ymin>{top}</ymin>" in published and f"<xmax>{right}</xmax>" in published


def test_coco_images_round_the_formats(shared_data: Path, tmp_path: Path) -> None:
    """80 classes, of which some have no box: YOLO -> VOC -> COCO -> YOLO."""
    first = open_whole(shared_data / "coco_val128")
    data = first
    for to in ("voc", "coco", "yolo"):
        assert convert(data, tmp_path / to, to=to) == []  # type: ignore[arg-type]
        data = open_whole(tmp_path / to)
        assert (data.class_names, known(data)) == (first.class_names, known(first))
    columns = {}
    for name in ("coco_val128", "yolo"):
        folder = (shared_data if name == "coco_val128" else tmp_path) / name / "labels"
        rows = [line.split() for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]
        columns[name] = np.array(rows, dtype=float)
    assert np.abs(columns["coco_val128"] - columns["yolo"]).max() < 2e-6  # the published texts have six digits


def test_a_damaged_mask_is_left_out_and_named(tmp_path: Path) -> None:
    for stem in "abc":
        write_image(tmp_path / "in/images" / f"{stem}.jpg")
        mask(tmp_path / "in/masks" / f"{stem}.png", np.eye(30, 40))
    dataset = open_whole(tmp_path / "in")
    (tmp_path / "in/masks/b.png").write_bytes(b"no image")
    for to in ("masks", "voc"):
        (lost,) = convert(dataset, tmp_path / to, to=to)  # type: ignore[arg-type]
        assert lost.startswith("skipped, images/b.jpg: the mask")
        assert [record.path.name for record in open_whole(tmp_path / to).records] == ["a.jpg", "c.jpg"]


def test_from_coco_to_coco_all_that_the_file_says_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_image(root / "a.jpg")
    content = {
        "info": {"year": 2026},
        "licenses": [{"id": 4, "name": "CC BY"}],
        "images": [{"id": 70, "file_name": "a.jpg", "width": 40, "height": 30, "license": 4}],
        "annotations": [
            {"id": 900, "image_id": 70, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "score": 1}
        ],
        "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
    }
    text(root / "x.json", json.dumps(content))
    dataset = open_whole(root)
    assert convert(dataset, tmp_path / "coco", to="coco") == []
    assert json.loads((tmp_path / "coco/annotations/instances.json").read_text()) == content
    (lost,) = convert(dataset, tmp_path / "yolo", to="yolo")
    assert lost == (
        "COCO fields that the format cannot store: annotations: score; images: license; "
        "categories: supercategory; file: info, licenses"
    )


def test_images_of_one_name_in_two_splits_keep_it(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / "in/images" / split / "a.jpg")
        text(tmp_path / "in/labels" / split / "a.txt", "0 0.5 0.5 0.5 0.4\n")
    dataset = open_whole(tmp_path / "in")
    for to in ("yolo", "coco"):
        assert convert(dataset, tmp_path / to, to=to) == []  # type: ignore[arg-type]
        again = open_whole(tmp_path / to)
        assert [(r.path.name, r.split) for r in again.records] == [("a.jpg", "train"), ("a.jpg", "validation")]
    (lost,) = convert(dataset, tmp_path / "voc", to="voc")  # one folder for all images
    assert lost.startswith("names: 1")
