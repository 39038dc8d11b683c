from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from handlens.data import open_dataset
from handlens.data.config import DataConfig, read_config
from handlens.errors import InputError


def write(folder: Path, text: str) -> Path:
    (folder / "handlens.yaml").write_text(text, encoding="utf-8")
    return folder


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def test_everything_at_once(tmp_path: Path) -> None:
    text = """
format: csv
label_pattern: '(?P<label>[^.]+)'
csv: {path: list.csv, file: f, label: l, split: s, group: g}
class_names: {n1: 식빵}
ignore: ['old/*']
groups: '^(?P<group>[^/]+)/'
"""
    config = read_config(write(tmp_path, text))
    assert config.csv is not None
    assert (config.format, config.csv.group, config.class_names) == ("csv", "g", {"n1": "식빵"})


def test_nothing_is_needed(tmp_path: Path) -> None:
    assert read_config(tmp_path) == DataConfig.model_validate({})
    assert read_config(write(tmp_path, "# only a comment\n")) == DataConfig.model_validate({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("formt: csv", "no key 'formt'; the closest match is 'format'"),
        ("csv: {colum: x, labl: y}", "no key 'csv.colum'"),
        ("csv: {labl: y}", "the closest match is 'label'"),
        ("format: folder", "format 'folder' is not known; the closest match is 'folders'"),
        ("ignore: old", r"ignore = 'old' is not accepted: should be a valid list"),
        ("ignore: [1]", r"ignore\.0 = 1 .* put it in quotes"),
        ("class_names: [no, yes]", r"class_names\.0 = False .* put it in quotes"),  # YAML's no is a bool
        ("label_pattern: '(?P<label>'", "not a regular expression"),
        ("label_pattern: '[a-z]+'", "needs a group named label"),
        ("groups: '[a-z]+'", "needs a group named group"),
        ("- a\n- b", "got a list"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "handlens.yaml" in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"other\.yaml does not exist"):
        read_config(tmp_path, path=tmp_path / "other.yaml")
    (tmp_path / "handlens.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"handlens\.yaml is not utf-16 at byte 2"):
        read_config(tmp_path)


def test_class_names_map_and_merge(tmp_path: Path) -> None:
    root = write(folders(tmp_path, "n1/a.png", "n2/a.png", "n3/a.png"), "class_names: {n1: cat, n2: cat, n3: dog}")
    dataset = open_dataset(root)
    assert dataset.class_names == ("cat", "dog")
    assert [r.label for r in dataset.records] == [0, 0, 1]


def test_a_list_of_class_names_is_all_that_is_allowed(tmp_path: Path) -> None:
    root = folders(tmp_path, "cat/a.png", "dog/a.png")
    assert open_dataset(write(root, "class_names: [dog, cat, eel]")).class_names == ("cat", "dog", "eel")
    with pytest.raises(InputError, match="'dog' is not among class_names"):
        open_dataset(write(root, "class_names: [cat, dogs]"))


def test_ignored_folders_and_files_are_counted(tmp_path: Path) -> None:
    root = folders(tmp_path, "cat/a.png", "cat/b_thumb.png", "dog/a.png", "old/c.png", "dog/old/d.png")
    dataset = open_dataset(write(root, "ignore: [old/, '*_thumb.png']"))
    assert [r.id for r in dataset.records] == ["cat/a.png", "dog/a.png"]
    assert any("ignored by handlens.yaml: 3" in note for note in dataset.notes)


def test_groups_come_from_the_path(tmp_path: Path) -> None:
    root = folders(tmp_path, "cat/p1_a.png", "cat/p1_b.png", "dog/p2_a.png", "dog/x.png")
    dataset = open_dataset(write(root, r"groups: '(?P<group>p\d+)_'"))
    assert [r.group for r in dataset.records] == ["p1", "p1", "p2", None]
    assert any("each its own group: 1" in note for note in dataset.notes)
