from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.decode import decode
from handlens.data.labels.mask_files import MaskCoding, read_mask
from handlens.data.record import Dataset
from handlens.errors import InputError
from handlens.palette import IGNORE
from label_images import BREAD, NFD, mask, said, text, write_image

NUMBERS = np.array([[0, 1, 2], [2, 1, 0]])
PLAIN = MaskCoding()


def read(dataset: Dataset, id: str) -> list[list[int]]:
    (record,) = [record for record in dataset.records if record.id == id]
    assert record.label is not None and dataset.kind.coding is not None
    height, width = decode(record.path).shape[:2]
    return read_mask(record.label, dataset.kind.coding, size=(height, width)).tolist()


def pairs(root: Path, *stems: str, values: object = NUMBERS, mode: str = "L") -> Path:
    height, width = np.asarray(values).shape[:2]
    for stem in stems:
        write_image(root / "images" / f"{stem}.jpg", width=width, height=height)
        mask(root / "masks" / f"{stem}.png", values, mode=mode)
    return root


# One mask


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_numbers_come_as_they_are_stored(tmp_path: Path, mode: str) -> None:
    indices = read_mask(mask(tmp_path / "a.png", NUMBERS, mode=mode), PLAIN, size=(2, 3))
    assert indices.dtype == np.uint8
    assert indices.tolist() == NUMBERS.tolist()


def test_one_bit(tmp_path: Path) -> None:
    path = mask(tmp_path / "a.png", np.eye(3, dtype=int), mode="1")
    assert read_mask(path, PLAIN, size=(3, 3)).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(("bits", "row"), [(2, bytes([0b00011011])), (4, bytes([0x01, 0x23]))])
def test_gray_of_few_bits_is_not_spread(tmp_path: Path, bits: int, row: bytes) -> None:
    """Made by the PNG specification: Pillow gives 0, 85, 170, 255 for the numbers 0 to 3 in 2 bits."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )
    with Image.open(path) as image:
        assert np.asarray(image).max() > 3
    assert read_mask(path, PLAIN, size=(1, 4)).tolist() == [[0, 1, 2, 3]]


def test_a_remap_never_wraps(tmp_path: Path) -> None:
    """uint8 minus 1 makes 255 of 0; a table of what is meant refuses it."""
    coding = MaskCoding(values={1: 0, 2: 1, 3: IGNORE})
    path = mask(tmp_path / "a.png", [[1, 2, 3]])
    assert read_mask(path, coding, size=(1, 3)).tolist() == [[0, 1, 255]]
    with pytest.raises(InputError, match=r"a\.png has the value 0 in 2 pixels, which belongs to no class"):
        read_mask(mask(tmp_path / "a.png", [[0, 0, 3]]), coding, size=(1, 3))


@given(
    stored=hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 400)),
    table=st.dictionaries(st.integers(0, 400), st.integers(0, 255), min_size=1),
)
@settings(max_examples=60, deadline=None)
def test_every_number_goes_through_the_table(
    tmp_path_factory: pytest.TempPathFactory, stored: np.ndarray, table: dict[int, int]
) -> None:
    path = mask(tmp_path_factory.getbasetemp() / "table.png", stored, mode="I;16")
    expected = [[table.get(value) for value in row] for row in stored.tolist()]
    if any(value is None for row in expected for value in row):
        with pytest.raises(InputError, match="no class"):
            read_mask(path, MaskCoding(values=table), size=stored.shape)
    else:
        assert read_mask(path, MaskCoding(values=table), size=stored.shape).tolist() == expected


def test_colors(tmp_path: Path) -> None:
    coding = MaskCoding(colors={(255, 0, 0): 0, (0, 0, 255): 1, (0, 0, 0): IGNORE})
    path = mask(tmp_path / "a.png", [[[255, 0, 0], [0, 0, 255], [0, 0, 0]]], mode="RGB")
    assert read_mask(path, coding, size=(1, 3)).tolist() == [[0, 1, 255]]
    mask(path, [[[255, 0, 0], [0, 0, 254], [0, 0, 254]]], mode="RGB")  # blended by an editor
    with pytest.raises(InputError, match=r"color \(0, 0, 254\) in 2 pixels"):
        read_mask(path, coding, size=(1, 3))
    palette = mask(tmp_path / "p.png", [[3, 4]], mode="P")
    of_palette = MaskCoding(colors={(252, 3, 7): 5, (251, 4, 7): 6})
    assert read_mask(palette, of_palette, size=(1, 2)).tolist() == [[5, 6]]


def test_wrong_masks_are_named(tmp_path: Path) -> None:
    good = mask(tmp_path / "good.png", NUMBERS)
    with pytest.raises(InputError, match=r"gone\.png is missing"):
        read_mask(tmp_path / "gone.png", PLAIN, size=(2, 3))
    with pytest.raises(InputError, match=r"good\.png is 3 x 2 pixels but its image is 2 x 3"):
        read_mask(good, PLAIN, size=(3, 2))
    with pytest.raises(InputError, match=r"rgb\.png is in colors .* value per pixel"):
        read_mask(mask(tmp_path / "rgb.png", np.zeros((2, 3, 3)), mode="RGB"), PLAIN, size=(2, 3))
    with pytest.raises(InputError, match=r"a\.jpg is a JPEG"):
        read_mask(write_image(tmp_path / "a.jpg"), PLAIN, size=(30, 40))
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"cut\.png is damaged"):
        read_mask(tmp_path / "cut.png", PLAIN, size=(2, 3))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"text\.png is not an image"):
        read_mask(tmp_path / "text.png", PLAIN, size=(2, 3))
    transparent = Image.new("RGBA", (3, 2), (255, 0, 0, 9))
    transparent.save(tmp_path / "clear.png")
    with pytest.raises(InputError, match="transparent"):
        read_mask(tmp_path / "clear.png", MaskCoding(colors={(255, 0, 0): 1}), size=(2, 3))


def test_a_mask_of_one_row(tmp_path: Path) -> None:
    path = mask(tmp_path / "a.png", [[4, 255, 4]])
    assert read_mask(path, PLAIN, size=(1, 3)).tolist() == [[4, 255, 4]]


# Folders


@pytest.mark.parametrize(
    ("image", "mask_path"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("images/{}.jpg", "labels/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("images/train/{}.jpg", "masks/train/{}.png"),
        ("train/images/{}.jpg", "train/masks/{}.png"),
        ("images/{}.jpg", "annotations/trimaps/{}.png"),
        ("images/{}.jpg", "masks/{}_mask.png"),
        ("{}.jpg", "{}_mask.png"),
        ("{}.jpg", "{}_seg.png"),
    ],
)
def test_layouts(tmp_path: Path, image: str, mask_path: str) -> None:
    for stem in ("a.b", "c", BREAD):
        write_image(tmp_path / image.format(stem), width=3, height=2)
        mask(tmp_path / mask_path.format(NFD if stem == BREAD else stem), NUMBERS)  # macOS wrote the masks
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task, dataset.class_names) == ("masks", "segment", ("0", "1", "2"))
    assert [r.id for r in dataset.records] == [image.format(stem) for stem in ("a.b", "c", BREAD)]
    assert all(r.label is not None and r.label.is_file() and "_" not in r.path.stem for r in dataset.records)
    assert dataset.splits() == (("train",) if "train" in image else ())
    assert read(dataset, image.format(BREAD)) == NUMBERS.tolist()


@pytest.mark.parametrize("companion", ["{}annot/1.png", "{}_labels/1_L.png", "{} masks/1.png"])
def test_companions_of_splits(tmp_path: Path, companion: str) -> None:
    """CamVid as SegNet's authors and others hand it out: train/ and trainannot/; one stem stands in two splits."""
    for part, value in (("train", 0), ("val", 1), ("test", 2)):
        write_image(tmp_path / part / "1.jpg", width=1, height=1)
        mask(tmp_path / companion.format(part), [[value]])
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.splits()) == ("masks", ("train", "validation", "test"))
    assert [read(dataset, f"{part}/1.jpg") for part in ("train", "val", "test")] == [[[0]], [[1]], [[2]]]


def test_masks_by_suffix_of_some_images(tmp_path: Path) -> None:
    for stem in "abcdef":
        write_image(tmp_path / f"{stem}.jpg", width=3, height=2)
    for stem in "ab":
        mask(tmp_path / f"{stem}_mask.png", NUMBERS)
    dataset = open_dataset(tmp_path)
    assert (dataset.format, len(dataset.records)) == ("masks", 2)
    (remark,) = dataset.remarks
    assert (remark.code, remark.files) == ("without_label", ("c.jpg", "d.jpg", "e.jpg", "f.jpg"))


def test_classes_called_mask_below_images(tmp_path: Path) -> None:
    for name in ("images/mask/1.jpg", "images/mask/2.jpg", "images/no_mask/1.jpg", "images/no_mask/3.jpg"):
        write_image(tmp_path / name)
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.class_names) == ("folders", ("mask", "no_mask"))


def test_paired_by_stem_and_orphans_named(tmp_path: Path) -> None:
    """By position in two sorted lists, b would get the mask of c."""
    root = pairs(tmp_path, "a")
    for stem, value in (("b", 1), ("d", 2)):
        write_image(root / "images" / f"{stem}.jpg", width=1, height=1)
        mask(root / "masks" / f"{stem}.png", [[value]])
    write_image(root / "images/orphan.jpg")
    mask(root / "masks/c.png", [[7]])
    dataset = open_dataset(root)
    assert [(r.path.stem, r.label.stem) for r in dataset.records if r.label] == [("a", "a"), ("b", "b"), ("d", "d")]
    assert read(dataset, "images/b.jpg") == [[1]]
    assert "skipped, images without a mask: 1 (images/orphan.jpg)" in said(dataset)
    assert "skipped, a mask without an image: 1 (masks/c.png)" in said(dataset)


def test_two_images_of_one_stem_are_not_guessed(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a")
    write_image(root / "images/a.png")
    with pytest.raises(InputError, match=r"images/a\.jpg and images/a\.png have the same name"):
        open_dataset(root)


def test_one_stem_in_two_splits(tmp_path: Path) -> None:
    for part, value in (("train", 0), ("val", 1)):
        write_image(tmp_path / part / "images/1.jpg", width=1, height=1)
        mask(tmp_path / part / "masks/1.png", [[value]])
    dataset = open_dataset(tmp_path)
    assert (read(dataset, "train/images/1.jpg"), read(dataset, "val/images/1.jpg")) == ([[0]], [[1]])
    assert dataset.splits() == ("train", "validation")


def test_classes_of_folders_are_no_masks(tmp_path: Path) -> None:
    for name in ("mask/1.jpg", "mask/2.jpg", "no_mask/1.jpg", "no_mask/3.jpg"):
        write_image(tmp_path / name)
    assert open_dataset(tmp_path).format == "folders"


# What the numbers stand for


def test_numbers_found_in_all_masks_are_the_classes(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a", values=[[0, 4]])
    pairs(root, "b", values=[[9, 255]])
    dataset = open_dataset(root)
    assert dataset.class_names == ("0", "4", "9")
    assert (read(dataset, "images/a.jpg"), read(dataset, "images/b.jpg")) == ([[0, 1]], [[2, 255]])
    assert "ignored values in masks: 255" in said(dataset)
    assert any("named after the" in note for note in said(dataset))


def test_0_and_255_are_two_classes(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a", values=[[0, 255]])
    dataset = open_dataset(root)
    assert (dataset.class_names, read(dataset, "images/a.jpg")) == (("0", "1"), [[0, 1]])
    assert "masks contain 0 and 255, read as classes 0 and 1" in said(dataset)
    text(root / "handlens.yaml", "class_names: [table, bread]")
    assert (open_dataset(root).class_names, read(open_dataset(root), "images/a.jpg")) == (("table", "bread"), [[0, 1]])
    pairs(root, "b", values=[[0, 1]])  # now 255 is what it is elsewhere
    assert read(open_dataset(root), "images/a.jpg") == [[0, 255]]


def test_a_soft_edge_between_0_and_255_takes_no_class_away(tmp_path: Path) -> None:
    """255 is what the object is, and not the number to ignore, because of one pixel of 7."""
    root = pairs(tmp_path, "a", values=[[0, 255] * 100])
    pairs(root, "b", values=[[0, 7, *[255] * 198]])
    dataset = open_dataset(root)
    assert dataset.class_names == ("0", "1") and read(dataset, "images/a.jpg") == [[0, 1] * 100]
    assert "other values in a few pixels, as from soft edges: 1 (7)" in said(dataset)
    with pytest.raises(InputError, match="has the value 7 in 1 pixels, which belongs to no class"):
        read(dataset, "images/b.jpg")


def test_one_damaged_mask_leaves_the_rest(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a", values=[[0, 1]])
    pairs(root, "b", values=[[0, 1]])
    (root / "masks/b.png").write_bytes(b"no image")
    dataset = open_dataset(root)
    assert (dataset.class_names, len(dataset.records)) == (("0", "1"), 2)
    (finding,) = (f for f in audit(dataset).findings if f.code == "mask_unreadable")
    assert finding.files == ("images/b.jpg",)


def test_a_trimap(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a", values=[[1, 2, 3]])
    text(root / "handlens.yaml", "masks: {values: {1: 0, 2: 1, 3: 2}}\nclass_names: [pet, background, border]")
    dataset = open_dataset(root)
    assert (dataset.class_names, read(dataset, "images/a.jpg")) == (("pet", "background", "border"), [[0, 1, 2]])
    text(root / "handlens.yaml", "masks: {values: {1: 0, 2: 1, 3: ignore}}")
    dataset = open_dataset(root)
    assert (dataset.class_names, read(dataset, "images/a.jpg")) == (("0", "1"), [[0, 1, 255]])
    assert "pixel values in masks: 1 is 0, 2 is 1" in said(dataset)


def test_a_number_that_no_class_has(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a", values=[[0, 1, 3, 3]])
    text(root / "handlens.yaml", "class_names: [a, b, c]")
    with pytest.raises(InputError, match=r"a\.png has the value 3 in 2 pixels"):
        read(open_dataset(root), "images/a.jpg")


def test_colors_in_the_configuration(tmp_path: Path) -> None:
    root = pairs(tmp_path, "a", values=[[[1, 2, 3], [9, 9, 9], [0, 0, 0]]], mode="RGB")
    with pytest.raises(InputError, match="give masks: colors"):
        open_dataset(root)
    text(root / "handlens.yaml", "masks: {colors: {sky: [9, 9, 9], bread: [1, 2, 3], ignore: [0, 0, 0]}}")
    dataset = open_dataset(root)
    assert (dataset.class_names, read(dataset, "images/a.jpg")) == (("sky", "bread"), [[1, 0, 255]])
    text(
        root / "handlens.yaml",
        "masks: {colors: {sky: [9, 9, 9], bread: [1, 2, 3], ignore: [0, 0, 0]}}\nclass_names: [bread, sky]",
    )
    assert read(open_dataset(root), "images/a.jpg") == [[0, 1, 255]]


def test_folders_and_suffix_in_the_configuration(tmp_path: Path) -> None:
    write_image(tmp_path / "in/x/1.jpg", width=3, height=2)
    mask(tmp_path / "out/x/1-m.png", NUMBERS)
    text(tmp_path / "handlens.yaml", "masks: {images: in, masks: out, suffix: -m}")
    assert read(open_dataset(tmp_path), "in/x/1.jpg") == NUMBERS.tolist()
    text(tmp_path / "handlens.yaml", "masks: {images: inn, masks: out}")
    with pytest.raises(InputError, match="inn is not a folder"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("masks: {value: {1: 0}}", r"no key 'masks\.value'; the closest match is 'values'"),
        ("masks: {values: {1: ignored}}", r"masks\.values = .*'ignored' is close to ignore"),
        ("masks: {values: {70000: 0}}", "70000 is not a valid pixel value"),
        ("masks: {values: {1: 255}}", "255 is not a class index"),
        ("masks: {colors: {a: [1, 2]}}", r"masks\.colors\.a = \[1, 2\]"),
        ("masks: {colors: {a: [1, 2, 256]}}", "256"),
        ("masks: {colors: {a: [1, 2, 3], b: [1, 2, 3]}}", "two classes the same color"),
        ("masks: {colors: {a: [1, 2, 3]}}\nclass_names: [b]", r"1 \(a\), not among class_names"),
        ("masks: {values: {1: 3}}\nclass_names: [a, b]", "names class 3, and class_names has 2"),
        ("masks: {values: {0: ignore}}\nclass_names: [a, b, c]", "map every value to its class"),
        ("class_names: [a, a, b]", "lists 'a' twice"),
    ],
)
def test_wrong_configurations(tmp_path: Path, yaml: str, message: str) -> None:
    text(pairs(tmp_path, "a") / "handlens.yaml", yaml)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path)


def test_shades_of_gray_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"100 different values \(0 to 99\)"):
        open_dataset(pairs(tmp_path, "a", values=np.arange(100)[None]))


def test_nothing_shares_a_name(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg")
    mask(tmp_path / "masks/b.png", NUMBERS)
    with pytest.raises(InputError, match="none of which share a name"):
        open_dataset(tmp_path, format="masks")


def test_camvid(shared_data: Path, tmp_path: Path) -> None:
    names = "sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, cyclist"
    config = text(tmp_path / "c.yaml", f"masks: {{values: {{11: ignore}}}}\nclass_names: [{names}]")
    dataset = open_dataset(shared_data / "camvid", config=config)
    assert [len(dataset.part(split)) for split in dataset.splits()] == [367, 101, 233]
    assert dataset.class_names == tuple(names.split(", "))
    record = dataset.part("test")[0]
    assert record.label is not None and dataset.kind.coding is not None
    indices = read_mask(record.label, dataset.kind.coding, size=decode(record.path).shape[:2])
    with Image.open(record.label) as image:
        stored = np.asarray(image)
    assert np.array_equal(indices, np.where(stored == 11, IGNORE, stored))
    assert (indices == IGNORE).any() and set(np.unique(indices)) <= {*range(11), IGNORE}


@pytest.mark.parametrize("folders", [("images", "masks"), ("train", "trainannot")])
def test_one_image_in_another_folder_is_named(tmp_path: Path, folders: tuple[str, str]) -> None:
    for stem in "ab":
        write_image(tmp_path / folders[0] / f"{stem}.jpg")
        mask(tmp_path / folders[1] / f"{stem}.png", np.eye(30, 40))
    for stray in ("images/lone.jpg", "extra/a.jpg"):
        write_image(tmp_path / stray)
    dataset = open_dataset(tmp_path)
    assert dataset.format == "masks"
    assert sorted(record.path.parent.name for record in dataset.records) == [folders[0]] * 2
    (remark,) = [remark for remark in dataset.remarks if remark.code == "without_label"]
    assert set(remark.files) == {"images/lone.jpg", "extra/a.jpg"}
