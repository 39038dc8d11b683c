from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlens.data import open_dataset
from handlens.data.formats.points import point
from handlens.errors import InputError
from label_images import BREAD, NFD, found, said, text, without_area, write_image


def entry(w: object = "0.5", h: object = "0.25", center: object = "0.5,0.5", **more: str) -> dict[str, Any]:
    return {"W": w, "H": h, "Point(x,y)": center, **more}


def labeled(root: Path, *entries: Any, stem: str = "a", width: int = 640, height: int = 480) -> Path:
    write_image(root / f"{stem}.jpg", width=width, height=height)
    text(root / f"{stem}.json", json.dumps(list(entries), ensure_ascii=False))
    return root


def test_the_documents_example(tmp_path: Path) -> None:
    """0.5, 0.5 and 0.5 x 0.25 on 640 x 480 is 160, 180, 480, 300."""
    dataset = open_dataset(labeled(tmp_path, entry()))
    assert (dataset.format, dataset.task, dataset.class_names) == ("points", "detect", ("object",))
    assert found(dataset) == {"a.jpg": [("object", 160, 180, 480, 300)]}
    assert any("without a name" in note for note in said(dataset))


def test_every_entry_is_a_box_also_one_that_repeats_another(tmp_path: Path) -> None:
    dataset = open_dataset(
        labeled(tmp_path, entry(Name="rye"), entry("1", "1", Name=NFD), entry(Name="rye"), stem=BREAD)
    )
    assert found(dataset) == {
        f"{BREAD}.jpg": [("rye", 160, 180, 480, 300), (BREAD, 0, 0, 640, 480), ("rye", 160, 180, 480, 300)]
    }


@pytest.mark.parametrize(
    "written",
    [
        "0.5,0.25",
        " 0.5 , 0.25 ",
        "( 0.5, 0.25 )",
        "(0.5,0.25)",
        "Point(0.5,0.25)",
        "Point( 0.5 , 0.25 )",
        "0.5 0.25",
        "0,5;0,25",
        "0,5, 0,25",
        "0,5 0,25",
        "0,5,0,25",
        "(0,5 ; 0,25)",
        ".5,.25",
        "[0.5, 0.25]",
        "5e-1,0.25",
    ],
)
def test_points_as_people_write_them(written: str) -> None:
    assert point(written) == (0.5, 0.25)


@pytest.mark.parametrize("written", ["", "0.5", "0,5,1", "0.5,0.25,1", "a,b", "0.5,0.2.5", "1,2,3,4,5", "0.5,nan"])
def test_texts_that_are_not_two_numbers(written: str) -> None:
    with pytest.raises(ValueError, match="not"):
        point(written)


def test_keys_with_spaces_and_decimal_commas(tmp_path: Path) -> None:
    root = labeled(tmp_path, {"w": "0,5", "H ": 0.25, "Point( x, y )": "0,5;0,5"})
    assert found(open_dataset(root)) == {"a.jpg": [("object", 160, 180, 480, 300)]}


def test_what_reaches_over_the_image_is_clipped_and_said(tmp_path: Path) -> None:
    dataset = open_dataset(labeled(tmp_path, entry("0.5", "0.5", "0,0"), entry("1", "1")))
    assert found(dataset)["a.jpg"][0] == ("object", 0, 0, 160, 120)
    assert "boxes clipped by a pixel or more: 1 (a.jpg)" in said(dataset)


def test_splits_folders_and_orphans(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_image(tmp_path / part / "images/1.png", width=10, height=10)
        text(tmp_path / part / "labels/1.json", json.dumps([entry()]))
    write_image(tmp_path / "train/images/2.png")
    text(tmp_path / "test/labels/3.json", json.dumps([entry()]))
    dataset = open_dataset(tmp_path)
    assert found(dataset) == {f"{p}/images/1.png": [("object", 2.5, 3.75, 7.5, 6.25)] for p in ("test", "train")}
    assert dataset.splits() == ("train", "test")
    assert any("train/images/2.png" in note for note in said(dataset))
    assert any("test/labels/3.json" in note for note in said(dataset))


def test_images_without_objects(tmp_path: Path) -> None:
    root = labeled(labeled(tmp_path, entry()), stem="none")
    assert [record.label == () for record in open_dataset(root).records] == [False, True]
    with pytest.raises(InputError, match="has a box"):
        open_dataset(labeled(root), format="points")


def test_no_width_and_one_row(tmp_path: Path) -> None:
    dataset = open_dataset(labeled(tmp_path, entry("0", "1"), entry("1", "1"), width=8, height=1))
    assert found(dataset) == {"a.jpg": [("object", 0, 0, 8, 1)]}
    assert len(without_area(dataset)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not valid JSON"),
        ("{}", "contains a dict; a list"),
        ("[3]", "entry 1 of .* is 3"),
        ('[{"W": "1", "H": "1"}]', r"no point\(x,y\); it has W, H"),
        (json.dumps([entry(), entry("wide")]), "entry 2 of .*'wide' is not a number"),
        (json.dumps([entry(center="320,240")]), r"320\.0.*fractions of the image, 0 to 1"),
        (json.dumps([entry(center="0,5,1")]), "'0,5,1' is not two numbers"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    text(labeled(tmp_path) / "a.json", content)
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path, format="points")
