"""A contact sheet of any data set, broken images included."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handlens
from handlens.errors import InputError
from handlens.palette import colors
from handlens.samples.bakery_set import write_bakery


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bakery(tmp_path_factory.mktemp("m") / "b", task="segment", per_class=1, test_per_class=1, size=64)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bakery(tmp_path_factory.mktemp("d") / "b", task="detect", per_class=1, test_per_class=1, size=64)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_every_task_has_its_sheet(data: Path, masks: Path, boxes: Path, tmp_path: Path):
    for name, folder in (("classify", data), ("segment", masks), ("detect", boxes)):
        sheet = handlens.show(folder, out=tmp_path / f"{name}.png", count=4)
        assert sheet == tmp_path / f"{name}.png"
        height, width = pixels(sheet).shape[:2]
        assert min(height, width) >= 640  # two rows of two
    legend = pixels(tmp_path / "detect.png")[-200:]
    assert any((legend == color).all(axis=2).sum() >= 200 for color in colors(10))


def test_the_same_seed_shows_the_same_images(boxes: Path, tmp_path: Path):
    first, again, other = (
        pixels(handlens.show(boxes, out=tmp_path / f"{name}.png", count=3, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_split_alone_and_more_than_there_are(boxes: Path, tmp_path: Path):
    told: list[int] = []
    reporter = handlens.Reporter(progress=lambda what, done, total: told.append(total or 0))
    handlens.show(boxes, out=tmp_path / "a.jpg", count=50, split="test", report=reporter)
    assert set(told) == {10}
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "JPEG"
    with pytest.raises(InputError, match="'validation'; it has train, test"):
        handlens.show(boxes, out=tmp_path / "b.png", split="validation")
    with pytest.raises(InputError, match=r"b\.gif"):
        handlens.show(boxes, out=tmp_path / "b.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg"]


def test_what_cannot_be_read_is_a_gray_tile(masks: Path, tmp_path: Path):
    folder = shutil.copytree(masks, tmp_path / "data")
    (folder / "images" / "train" / "0001.jpg").write_bytes(b"no image")
    with Image.open(folder / "masks" / "train" / "0002.png") as mask:
        mask.resize((30, 30)).save(folder / "masks" / "train" / "0002.png")
    sheet = pixels(handlens.show(folder, out=tmp_path / "sheet.png", count=20, split="train"))
    gray = (sheet == 224).all(axis=2).sum()
    assert gray == pytest.approx(2 * 320 * 320, rel=0.02)


def test_the_data_is_left_as_it_was(boxes: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in boxes.rglob("*") if path.is_file()}
    handlens.show(boxes, out=tmp_path / "a.png", count=2)
    assert {path: path.read_bytes() for path in boxes.rglob("*") if path.is_file()} == before


def test_a_sheet_never_lands_among_the_images(boxes: Path):
    before = {path: path.read_bytes() for path in boxes.rglob("*") if path.is_file()}
    image = next(path for path in before if path.suffix in (".jpg", ".png"))
    for out in (image, boxes / "sheet.png"):
        with pytest.raises(InputError, match="would be read as an image; choose a path outside"):
            handlens.show(boxes, out=out)
    assert {path: path.read_bytes() for path in boxes.rglob("*") if path.is_file()} == before


def test_a_caption_says_how_many_it_leaves_out():
    from handlens.tasks.tiles import caption_of

    assert caption_of(["rye", "bun", "toast", "bagel"]) == "rye, bun,\ntoast, bagel"
    assert caption_of(["rye", "bun", "toast", "bagel", "pretzel"]) == "rye, bun,\ntoast, +2 more"
