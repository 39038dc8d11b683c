"""Tables in which an image may have several labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.labels.tags import tag_targets
from handlens.data.split import folds, split_dataset
from handlens.errors import InputError
from handlens.samples.bakery_set import write_bakery
from label_images import of_level


def write(folder: Path, table: str, *, images: int = 4, yaml: str = "") -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    if yaml:
        (folder / "handlens.yaml").write_text(yaml, encoding="utf-8")
    return folder


def labels(folder: Path) -> list[tuple[str, ...]]:
    dataset = open_dataset(folder)
    assert dataset.task == "tag"
    assert all(record.label is not None for record in dataset.records)
    return [tuple(dataset.class_names[tag] for tag in record.label) for record in dataset.records]


@pytest.mark.parametrize(
    ("table", "yaml"),
    [
        ("file,labels\n0.png,b|a\n1.png,a\n2.png,\n3.png,c | b | b\n", ""),
        ("image,tags\n0.png,a;b\n1.png,a\n2.png,\n3.png,b;c\n", ""),
        ("file;label\n0.png;b|a\n1.png;a\n2.png;\n3.png;c|b\n", ""),
        ("file,labels\n0.png,a b\n1.png,a\n2.png,\n3.png,b c\n", "csv: {separator: ' '}\n"),
        ('file,labels\n0.png,"a, b"\n1.png,a\n2.png,\n3.png,"b,c"\n', "csv: {separator: ','}\n"),
        ("file,what\n0.png,a/b\n1.png,a\n2.png,\n3.png,b/c\n", "csv: {label: what, separator: /}\n"),
        ("file,a,b,c\n0.png,1,1,0\n1.png,1,0,0\n2.png,0,0,0\n3.png,0,1,1\n", ""),
        ("file,a,b,c\n0.png,1.0,True,0\n1.png,1,0,0\n2.png,0,0.0,0\n3.png,false,1,1\n", ""),
        ("file,age,a,b,c\n0.png,1,1,1,0\n1.png,1,1,0,0\n2.png,0,0,0,0\n3.png,1,0,1,1\n", "csv: {labels: [a, b, c]}\n"),
    ],
)
def test_every_layout_reads_the_same(tmp_path, table, yaml):
    folder = write(tmp_path, table, yaml=yaml)
    assert labels(folder) == [("a", "b"), ("a",), (), ("b", "c")]
    targets = tag_targets(open_dataset(folder).records, 3)
    np.testing.assert_array_equal(targets, [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]])


def test_one_1_in_each_row_is_one_label_unless_told(tmp_path):
    table = "file,a,b\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,1\n"
    dataset = open_dataset(write(tmp_path / "guessed", table))
    assert (dataset.task, [record.label for record in dataset.records]) == ("classify", [0, 1, 0, 1])
    assert "one 1 in each row" in " ".join(dataset.notes)
    assert labels(write(tmp_path / "told", table, yaml="csv: {labels: [a, b]}\n")) == [("a",), ("b",)] * 2


def test_a_bar_in_a_name_can_be_kept(tmp_path):
    dataset = open_dataset(write(tmp_path, "file,label\n0.png,a|b\n1.png,c\n", images=2, yaml="csv: {separator: ''}\n"))
    assert (dataset.task, dataset.class_names) == ("classify", ("a|b", "c"))


def test_names_are_nfc_mapped_and_merged(tmp_path):
    table = "file,labels\n0.png,빵|a\n1.png,\u1108\u1161\u11bc\n2.png,b\n3.png,a|b\n"
    folder = write(tmp_path, table, yaml="class_names: {b: a}\n")
    assert labels(folder) == [("a", "빵"), ("빵",), ("a",), ("a",)]


@pytest.mark.parametrize(
    ("table", "yaml", "message"),
    [
        (
            "file,a,b\n0.png,1,0\n1.png,2,1\n",
            "csv: {labels: [a, b]}\n",
            "line 3 of labels.csv has '2' in the column 'a'",
        ),
        ("file,a,b\n0.png,1,0\n1.png,,1\n", "csv: {labels: [a, b]}\n", "has '' in the column 'a'; 0 or 1"),
        ("file,a,b\n0.png,1,0\n1.png,1,1\n", "csv: {labels: [a, d]}\n", "no column 'd'; it has file, a, b"),
        ("file,a,b\n0.png,0,0\n1.png,0,0\n", "", "none of the 2 images in .* has a label"),
        ("file,labels\n0.png,a|b\n1.png,d\n", "class_names: [a, b]\n", "class 'd' is not among class_names"),
        ("file,labels\n0.png,a|b\n0.png,a\n1.png,b\n", "", "line 3 of labels.csv contradicts an earlier line"),
        ("file,labels\n,a|b\n1.png,b\n", "", "line 2 of labels.csv has no file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, table, yaml, message):
    with pytest.raises(InputError, match=message):
        open_dataset(write(tmp_path, table, images=2, yaml=yaml))


def test_the_audit_counts_each_label_and_names_what_cannot_be_learned(tmp_path):
    table = "file,labels,split\n0.png,a|b,train\n1.png,a,train\n2.png,a,train\n3.png,a|c,test\n"
    found = audit(open_dataset(write(tmp_path, table)))
    assert found.class_counts == {"train": {"a": 3, "b": 1, "c": 0}, "test": {"a": 1, "b": 0, "c": 1}}
    codes = {finding.code: finding.message for finding in found.findings}
    assert "every training image has a" in codes["class_of_all"]
    assert "no training image of c" in codes["class_without_labels"]
    assert not of_level(found, "error")


def test_the_fingerprint_follows_the_labels(tmp_path):
    one = write(tmp_path / "one", "file,labels\n0.png,a|b\n1.png,b\n2.png,\n3.png,a\n")
    other = write(tmp_path / "other", "file,labels\n0.png,a|b\n1.png,b\n2.png,a\n3.png,a\n")
    again = write(tmp_path / "again", "file,labels\n0.png,b|a\n1.png,b\n2.png,\n3.png,a\n")
    prints = [audit(open_dataset(folder)).fingerprint() for folder in (one, other, again)]
    assert prints[0] == prints[2] != prints[1]


def test_a_split_keeps_rare_labels_on_both_sides(tmp_path):
    rare = {3, 17, 31, 44}
    rows = [f"{n}.png,{'common|' if n % 2 else 'common|other|'}{'rare' if n in rare else ''}" for n in range(50)]
    dataset = open_dataset(write(tmp_path, "\n".join(["file,labels", *rows]) + "\n", images=50))
    made = split_dataset(dataset, validation=0.25, test=0.25, seed=0)
    place = dataset.class_names.index("rare")
    held = {split: sum(place in record.label for record in made.part(split)) for split in made.splits()}
    assert held == {"train": 2, "validation": 1, "test": 1}
    fold_of = folds(dataset.records, dataset.kind, count=4, seed=0)
    assert sorted(fold_of[[place in record.label for record in dataset.records]]) == [0, 1, 2, 3]


def test_one_label_each_is_a_case_of_several(tmp_path):
    dataset = open_dataset(write(tmp_path, "file,label\n0.png,b\n1.png,a\n", images=2))
    several = open_dataset(dataset.root, task="tag")
    assert (several.task, [record.label for record in several.records]) == ("tag", [(1,), (0,)])


def test_the_sample_names_what_is_seen(tmp_path):
    write_bakery(tmp_path / "tags", task="tag", per_class=2, test_per_class=1, size=64, seed=3)
    write_bakery(tmp_path / "boxes", task="detect", per_class=2, test_per_class=1, size=64, seed=3)
    tagged, boxed = open_dataset(tmp_path / "tags"), open_dataset(tmp_path / "boxes")
    assert tagged.class_names == boxed.class_names
    assert tagged.splits() == ("train", "test")
    for one, other in zip(tagged.records, boxed.records, strict=True):
        assert one.id == other.id
        assert set(one.label) == {box.label for box in other.label}
