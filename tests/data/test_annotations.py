"""The audit of masks and boxes: every fault is found, named, left out of training, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from numpy.typing import ArrayLike
from PIL import Image

from handlens.data.check import audit
from handlens.data.findings import Audit, Finding
from handlens.data.labels.boxes import Box, BoxLabels
from handlens.data.labels.mask_files import MaskCoding
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Dataset, Record, Split
from handlens.palette import IGNORE
from handlens.reading.parsed import read_json
from label_images import of_level

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "check.json"
NAMES = ("background", "bun", "rye")


def save_image(path: Path, seed: int, *, exif: Image.Exif | None = None) -> Path:
    """60 wide, 40 high; no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((60, 40)).save(path, exif=exif or Image.Exif())
    return path


def save_mask(path: Path, pixels: ArrayLike) -> Path:
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def stripes(*, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Half background, a quarter of each bread."""
    mask = np.zeros(shape, np.uint8)
    mask[:, shape[1] // 2 : 3 * shape[1] // 4] = 1
    mask[:, 3 * shape[1] // 4 :] = 2
    return mask


def masked(root: Path, masks: dict[str, Path | None], *, split: Split | None = None) -> Dataset:
    records = [
        Record(path=save_image(root / f"{id}.png", number), id=id, label=mask, split=split)
        for number, (id, mask) in enumerate(masks.items())
    ]
    return Dataset(root=root, format="masks", class_names=NAMES, records=tuple(records), kind=MaskLabels(MaskCoding()))


def boxed(root: Path, images: dict[str, tuple[Box, ...] | None], *, split: Split | None = None) -> Dataset:
    records = [
        Record(path=save_image(root / f"{id}.png", number), id=id, label=boxes, split=split)
        for number, (id, boxes) in enumerate(images.items())
    ]
    return Dataset(root=root, format="yolo", class_names=("bun", "rye"), records=tuple(records), kind=BoxLabels())


def box(left: float, top: float, right: float, bottom: float, *, label: int = 0, crowd: bool = False) -> Box:
    return Box(label=label, left=left, top=top, right=right, bottom=bottom, crowd=crowd)


def found(result: Audit) -> dict[str, Finding]:
    assert len({finding.code for finding in result.findings}) == len(result.findings)
    return {finding.code: finding for finding in result.findings}


def checked_json(result: Audit) -> dict[str, object]:
    value: dict[str, object] = json.loads(json.dumps(result.to_dict()))
    jsonschema.validate(value, read_json(SCHEMA))
    return value


def test_pixels_are_counted_per_class_and_split(tmp_path: Path):
    half_ignored = stripes()
    half_ignored[:20] = IGNORE
    masks = {"a": stripes(), "b": half_ignored, "c": np.zeros((40, 60))}
    data = masked(tmp_path, {id: save_mask(tmp_path / f"{id}_m.png", pixels) for id, pixels in masks.items()})
    splits: tuple[Split, ...] = ("train", "train", "test")
    data = data.with_records([replace(r, split=s) for r, s in zip(data.records, splits, strict=True)])
    result = audit(data)
    assert result.to_dict()["class_pixels"] == {
        "train": {"background": 1800, "bun": 900, "rye": 900},
        "test": {"background": 2400, "bun": 0, "rye": 0},
    }
    assert result.to_dict()["ignored_pixels"] == {"train": 1200, "test": 0}
    assert result.class_counts["train"] == dict.fromkeys(NAMES, 2)  # images in which the class is seen
    assert result.imbalance == 2
    assert found(result)["few_images"].level == "warning"
    assert not of_level(result, "error")
    assert result.usable() == data
    assert checked_json(result)["class_pixels"] == result.to_dict()["class_pixels"]


def test_masks_that_cannot_be_used_are_named_and_left_out(tmp_path: Path):
    wrong_value, one_more = stripes(), stripes()
    wrong_value[3, :7] = 9
    one_more[0, 0] = 3  # three classes: 0 to 2
    (tmp_path / "text_m.png").write_text("no image")
    cut = (save_mask(tmp_path / "cut_m.png", np.random.default_rng(0).integers(0, 3, (40, 60)))).read_bytes()
    (tmp_path / "cut_m.png").write_bytes(cut[: len(cut) // 2])
    Image.new("RGB", (60, 40), (1, 1, 1)).save(tmp_path / "rgb_m.png")
    masks: dict[str, Path | None] = {
        "cut": tmp_path / "cut_m.png",
        "good": save_mask(tmp_path / "good_m.png", stripes()),
        "gone": tmp_path / "gone_m.png",
        "none": None,
        "one_more": save_mask(tmp_path / "one_more_m.png", one_more),
        "rgb": tmp_path / "rgb_m.png",
        "size": save_mask(tmp_path / "size_m.png", stripes(shape=(41, 60))),
        "text": tmp_path / "text_m.png",
        "turned": save_mask(tmp_path / "turned_m.png", stripes(shape=(60, 40))),
        "unseen": save_mask(tmp_path / "unseen_m.png", np.full((40, 60), IGNORE)),
        "value": save_mask(tmp_path / "value_m.png", wrong_value),
    }
    result = audit(masked(tmp_path, masks))
    assert [(mask["file"], mask["fault"]) for mask in result.to_dict()["bad_masks"]] == [
        ("cut", "mask_unreadable"),
        ("gone", "mask_missing"),
        ("one_more", "mask_values"),
        ("rgb", "mask_values"),
        ("size", "mask_size"),
        ("text", "mask_unreadable"),
        ("turned", "mask_size"),
        ("value", "mask_values"),
    ]
    reasons = {mask["file"]: mask["reason"] for mask in result.to_dict()["bad_masks"]}
    assert all(f"{id}_m.png" in reason and reason.endswith(".") for id, reason in reasons.items())
    assert "7 pixels of class 9" in reasons["value"]
    assert "1 pixels of class 3" in reasons["one_more"]
    assert result.to_dict()["all_ignored"] == ["unseen"]
    codes = found(result)
    assert {codes[c].level for c in ("mask_missing", "mask_size", "mask_values", "mask_unreadable", "all_ignored")} == {
        "warning"
    }
    assert codes["without_label"].files == ("none",)
    assert codes["mask_size"].files == ("size", "turned")
    assert "41" in codes["mask_size"].message
    assert [record.id for record in result.usable().records] == ["good", "none"]
    assert result.to_dict()["class_pixels"]["all"] == {
        "background": 1200,
        "bun": 600,
        "rye": 600,
    }
    assert not of_level(result, "error")
    checked_json(result)


def test_masks_of_which_none_can_be_used_stop_training(tmp_path: Path):
    result = audit(masked(tmp_path, {"a": tmp_path / "a_m.png", "b": tmp_path / "b_m.png"}))
    assert [finding.code for finding in of_level(result, "error")] == ["no_usable_mask"]
    assert "a_m.png" in of_level(result, "error")[0].message
    ignored = save_mask(tmp_path / "i.png", np.full((40, 60), IGNORE))
    assert [f.code for f in of_level(audit(masked(tmp_path, {"a": ignored})), "error")] == ["no_usable_mask"]
    one = save_mask(tmp_path / "one.png", np.ones((40, 60)))
    assert [f.code for f in of_level(audit(masked(tmp_path, {"a": one})), "error")] == ["one_class"]


def test_a_class_without_a_pixel_is_a_warning(tmp_path: Path):
    mask = np.minimum(stripes(), 1)
    result = audit(masked(tmp_path, {"a": save_mask(tmp_path / "a_m.png", mask)}))
    assert "rye" in found(result)["class_without_labels"].message
    assert result.imbalance is None


def test_boxes_that_are_wrong_are_named_one_by_one(tmp_path: Path):
    result = audit(
        boxed(
            tmp_path,
            {
                "good": (box(0, 0, 60, 40), box(5, 5, 20, 20), box(5, 5, 20, 20, label=1), box(40, 10, 60.9, 40.9)),
                "bad": (
                    box(10, 10, 30, 30),
                    box(30, 10, 10, 30),  # 1: right of left
                    box(10, 30, 30, 10),  # 2: below top
                    box(10, 10, 10, 30),  # 3: no width
                    box(50, 10, 70, 30),  # 4: half of it outside
                    box(70, 10, 90, 30),  # 5: all of it
                    box(10, 10, 30, 30.5),  # 6: the first again
                    box(2, 2, 2.5, 20),  # 7: 0.5 of 60 pixels wide
                    box(10, 10, 30, 30, label=1),  # 8: the same place, another class
                    box(10, 10, 30, 30, crowd=True),  # 9: a crowd is no duplicate
                ),
                "empty": (),
                "unknown": None,
            },
        )
    )
    assert [(fault.id, fault.place, fault.kind) for fault in result.dataset.kind.faults(result)] == [
        ("bad", 1, "inverted"),
        ("bad", 2, "inverted"),
        ("bad", 3, "empty"),
        ("bad", 4, "outside"),
        ("bad", 5, "outside"),
        ("bad", 6, "duplicate"),
        ("bad", 7, "tiny"),
    ]
    assert [fault.share for fault in result.dataset.kind.faults(result) if fault.kind == "outside"] == [0.5, 1.0]
    codes = found(result)
    for code in ("box_inverted", "box_empty", "box_outside", "box_duplicate", "box_tiny"):
        assert (codes[code].level, codes[code].files) == ("warning", ("bad",))
    assert "2 boxes in 1 image" in codes["box_outside"].message
    assert "100 %" in codes["box_outside"].message
    assert (codes["background"].level, codes["background"].files) == ("note", ("empty",))
    assert codes["without_label"].files == ("unknown",)
    assert result.class_counts == {"all": {"bun": 12, "rye": 2}}
    kept = {record.id: record.label for record in result.usable().records}
    bad = result.dataset.records[1].label
    assert bad is not None
    assert kept["bad"] == (bad[0], bad[4], bad[7], bad[8], bad[9])
    assert kept["empty"] == ()
    assert kept["unknown"] is None
    assert checked_json(result)["box_faults"][3]["share_outside"] == 0.5  # type: ignore[index]


def test_boxes_and_masks_are_of_the_upright_image(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # 60 x 40 as stored, 40 x 60 as seen
    path = save_image(tmp_path / "turned.jpg", 1, exif=exif)
    upright = Record(path=path, id="upright", label=save_mask(tmp_path / "u.png", stripes(shape=(60, 40))))
    stored = Record(path=path, id="stored", label=save_mask(tmp_path / "s.png", stripes()))
    data = Dataset(
        root=tmp_path, format="masks", class_names=NAMES, records=(upright, stored), kind=MaskLabels(MaskCoding())
    )
    assert [(mask["file"], mask["fault"]) for mask in audit(data).to_dict()["bad_masks"]] == [("stored", "mask_size")]
    upright = Record(path=path, id="upright", label=(box(0, 0, 40, 60),))
    stored = Record(path=path, id="stored", label=(box(0, 0, 60, 40),))
    data = Dataset(root=tmp_path, format="voc", class_names=("bun",), records=(upright, stored), kind=BoxLabels())
    assert [(fault["file"], fault["fault"]) for fault in audit(data).to_dict()["box_faults"]] == [("stored", "outside")]


def test_no_box_at_all_stops_training(tmp_path: Path):
    result = audit(boxed(tmp_path, {"a": (), "b": ()}))
    assert [finding.code for finding in of_level(result, "error")] == ["no_boxes"]


def test_few_and_unbalanced_boxes_are_warned_of_and_one_class_is_enough(tmp_path: Path):
    many = tuple(box(x, y, x + 8, y + 8) for x in range(0, 48, 8) for y in range(0, 32, 8))
    result = audit(boxed(tmp_path, {"a": (*many, box(1, 1, 20, 20, label=1))}))
    assert result.imbalance == 24
    assert "more boxes of rye" in found(result)["imbalance"].message
    assert "rye 1" in found(result)["few_boxes"].message
    result = audit(boxed(tmp_path, {"a": many}))
    assert not of_level(result, "error")
    assert "no training box of rye" in found(result)["class_without_labels"].message


def test_the_fingerprint_covers_masks_and_boxes(tmp_path: Path):
    mask = save_mask(tmp_path / "a_m.png", stripes())
    data = masked(tmp_path, {"a": mask})
    first = audit(data).fingerprint()
    assert audit(data).fingerprint() == first
    recoded = replace(data, kind=MaskLabels(MaskCoding(values={0: 0, 1: 2, 2: 1})))
    renamed = replace(data, class_names=("background", "bun", "oat"))
    assert len({first, audit(recoded).fingerprint(), audit(renamed).fingerprint()}) == 3
    save_mask(mask, np.flip(stripes(), axis=0) + (np.arange(60) == 0))
    assert audit(data).fingerprint() != first
    boxes = boxed(tmp_path, {"a": (box(1, 2, 30, 30),)})
    moved = boxed(tmp_path, {"a": (box(1, 2, 30, 31),)})
    unknown = boxed(tmp_path, {"a": None})
    assert len({audit(one).fingerprint() for one in (boxes, moved, unknown)}) == 3


def test_any_number_of_workers_finds_the_same(tmp_path: Path):
    data = masked(tmp_path, {f"{i}": save_mask(tmp_path / f"{i}_m.png", stripes() + (i == 3)) for i in range(6)})
    assert audit(data, workers=1) == audit(data, workers=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bccd", "coco_val128"])
def test_real_boxes(shared_data: Path, name: str):
    """The counts are the data's own: by grep over its label files."""
    from handlens.data import open_dataset

    result = audit(open_dataset(shared_data / name))
    counts = result.class_counts
    assert not of_level(result, "error")
    if name == "bccd":
        assert sum(counts["train"].values()) + sum(counts["validation"].values()) + sum(counts["test"].values()) == 4886
        assert result.imbalance == pytest.approx(2381 / 209)
    else:
        assert len(result.dataset.records) == 128
        assert {fault.kind for fault in result.dataset.kind.faults(result)} == {"tiny"}


def photograph(folder: Path, name: str, *, side: int) -> Path:
    """One scene with enough to tell it from others, at any size."""
    noise = np.random.default_rng(7).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    path = folder / name
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def conflicting(dataset: Dataset) -> bool:
    return "conflicting_labels" in {finding.code for finding in audit(dataset).findings}


@pytest.mark.parametrize(
    ("second", "side", "differs"),
    [
        ("same", 96, False),
        ("same", 192, False),  # resized with its image
        ("small object of another class", 96, True),
        ("mirrored", 192, True),
    ],
)
def test_copies_of_an_image_under_different_masks_are_found(tmp_path, second, side, differs):
    base = np.zeros((96, 96), np.uint8)
    base[20:60, 50:90] = 1
    base[70:80, 5:15] = 2
    other = {"same": base, "mirrored": base[:, ::-1]}.get(second, np.where(base == 2, 1, base).astype(np.uint8))
    larger = np.asarray(Image.fromarray(other).resize((side, side), Image.Resampling.NEAREST))
    records = []
    for name, size, mask in (("a", 96, base), ("b", side, larger)):
        Image.fromarray(mask).save(tmp_path / f"{name}_m.png")
        image = photograph(tmp_path, f"{name}.png", side=size)
        records.append(Record(path=image, id=name, label=tmp_path / f"{name}_m.png"))
    kind = MaskLabels(MaskCoding())
    data = Dataset(root=tmp_path, format="masks", class_names=NAMES, records=tuple(records), kind=kind)
    assert conflicting(data) is differs


@pytest.mark.parametrize(
    ("boxes", "scale", "differs"),
    [
        ([(10, 10, 50, 60, 0)], 1, False),
        ([(10, 10, 50, 60, 0)], 2, False),
        ([(10, 10, 50, 60, 0), (10, 10, 50, 60, 0)], 1, False),  # twice: training leaves the second out
        ([(10, 10, 50, 60, 1)], 1, True),
        ([(14, 10, 54, 60, 0)], 1, True),
        ([], 1, True),
    ],
)
def test_copies_of_an_image_under_different_boxes_are_found(tmp_path, boxes, scale, differs):
    def labels(rows: list[tuple[int, ...]], scale: int) -> tuple[Box, ...]:
        return tuple(
            Box(label=label, left=a * scale, top=b * scale, right=c * scale, bottom=d * scale)
            for a, b, c, d, label in rows
        )

    one = photograph(tmp_path, "a.png", side=96)
    two = photograph(tmp_path, "b.png", side=96 * scale)
    records = (
        Record(path=one, id="a", label=labels([(10, 10, 50, 60, 0)], 1)),
        Record(path=two, id="b", label=labels(boxes, scale)),
    )
    data = Dataset(root=tmp_path, format="voc", class_names=("bun", "rye"), records=records, kind=BoxLabels())
    assert conflicting(data) is differs


def test_every_two_copies_are_compared(tmp_path):
    base = np.zeros((96, 96), np.uint8)
    base[20:60, 50:90] = 1
    records = []
    for name, mask in (("a", np.full((96, 96), 9, np.uint8)), ("b", base), ("c", 1 - base)):  # the first has no class 9
        Image.fromarray(mask).save(tmp_path / f"{name}_m.png")
        image = photograph(tmp_path, f"{name}.png", side=96)
        records.append(Record(path=image, id=name, label=tmp_path / f"{name}_m.png"))
    kind = MaskLabels(MaskCoding())
    assert conflicting(Dataset(root=tmp_path, format="masks", class_names=NAMES, records=tuple(records), kind=kind))
