from __future__ import annotations

import os
import socket
import tempfile
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from handlens.data import open_dataset, walk
from handlens.data.formats.split_names import split_of
from handlens.data.record import Dataset
from handlens.errors import InputError

BREAD = "식빵"
NFD = unicodedata.normalize("NFD", BREAD)
assert NFD != BREAD


def write_image(path: Path, *, format: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (200, 100, 50)).save(path, format=format)
    return path


def images(root: Path, *names: str) -> Path:
    for name in names:
        write_image(root / name)
    return root


def labels(dataset: Dataset) -> dict[str, str | None]:
    return {r.id: None if r.label is None else dataset.class_names[r.label] for r in dataset.records}


def splits(dataset: Dataset) -> dict[str, str | None]:
    return {r.id: r.split for r in dataset.records}


# A folder per class


def test_a_folder_per_class_with_nested_images(tmp_path: Path) -> None:
    dataset = open_dataset(images(tmp_path, "dog/b.png", "cat/a.png", "cat/2024/may/c.png"))
    assert dataset.format == "folders"
    assert dataset.class_names == ("cat", "dog")
    assert labels(dataset) == {"cat/2024/may/c.png": "cat", "cat/a.png": "cat", "dog/b.png": "dog"}
    assert set(splits(dataset).values()) == {None}
    assert [r.id for r in dataset.records] == sorted(r.id for r in dataset.records)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Training_Set", "valid", "testing-set"), ("train2017", "validation", "test_data")],
)
def test_splits_by_folder(tmp_path: Path, train: str, validation: str, test: str) -> None:
    root = images(tmp_path, *(f"{s}/{c}/1.png" for s in (train, validation, test) for c in ("cat", "dog")))
    dataset = open_dataset(root)
    assert dataset.class_names == ("cat", "dog")
    assert splits(dataset)[f"{train}/cat/1.png"] == "train"
    assert splits(dataset)[f"{validation}/cat/1.png"] == "validation"
    assert splits(dataset)[f"{test}/dog/1.png"] == "test"


def test_kaggles_doubled_folders_and_the_one_without_classes(tmp_path: Path) -> None:
    dataset = open_dataset(
        images(
            tmp_path,
            "seg_train/seg_train/sea/1.png",
            "seg_train/seg_train/street/2.png",
            "seg_test/seg_test/sea/3.png",
            "seg_test/seg_test/street/4.png",
            "seg_pred/seg_pred/5.png",
        )
    )
    assert dataset.class_names == ("sea", "street")
    assert list(splits(dataset).values()) == ["test", "test", "train", "train"]
    assert any("seg_pred" in note and "skipped" in note for note in dataset.notes)


def test_a_folder_around_everything_is_unwrapped_and_said(tmp_path: Path) -> None:
    dataset = open_dataset(images(tmp_path, "flowers/flowers/rose/1.png", "flowers/flowers/tulip/2.png"))
    assert dataset.class_names == ("rose", "tulip")
    assert any("flowers" in note for note in dataset.notes)


def test_train_may_be_a_vehicle(tmp_path: Path) -> None:
    flat = open_dataset(images(tmp_path / "a", "bus/1.png", "car/1.png", "train/1.png"))
    assert flat.class_names == ("bus", "car", "train")
    nested = open_dataset(images(tmp_path / "b", "bus/1.png", "car/1.png", "train/steam/1.png"))
    assert nested.class_names == ("bus", "car", "train")
    assert nested.splits() == ()


def test_stray_files_are_never_classes(tmp_path: Path) -> None:
    root = images(tmp_path, "cat/1.png", "dog/1.png", "stray.png", ".hidden/1.png", "__MACOSX/cat/1.png")
    for name in ("notes.txt", "cat/Thumbs.db", "cat/._1.png", ".DS_Store", "cat/list.csv"):
        (root / name).write_text("no image")
    (root / "empty").mkdir()
    (root / "words").mkdir()
    (root / "words" / "a.txt").write_text("no image")
    dataset = open_dataset(root)
    assert dataset.class_names == ("cat", "dog")
    assert [r.id for r in dataset.records] == ["cat/1.png", "dog/1.png"]
    said = " ".join(dataset.notes)
    assert "stray.png" in said
    assert "2 (empty, words)" in said
    assert "hidden: 5" in said  # .hidden, __MACOSX, .DS_Store, ._1.png, Thumbs.db
    assert "not an image: 3" in said


def test_class_order_does_not_depend_on_the_systems_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = images(tmp_path, "b/2.png", "b/1.png", "a/1.png", "Z/1.png", "ä/1.png")
    real = os.scandir
    asked = []

    class Turned:
        def __init__(self, path: Path, reverse: bool) -> None:
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=reverse)
            asked.append(path)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    read = []
    for reverse in (False, True):
        monkeypatch.setattr(os, "scandir", lambda path, reverse=reverse: Turned(path, reverse))
        read.append((open_dataset(root), list(walk([root]))))
    assert asked
    assert read[0] == read[1]
    assert read[0][0].class_names == ("Z", "a", "b", "ä")


def test_korean_names_in_both_forms_are_one_class(tmp_path: Path) -> None:
    root = images(tmp_path, f"train/{BREAD}/한 글.png", f"test/{NFD}/1.png", "train/cat/1.png", "test/cat/1.png")
    dataset = open_dataset(root)
    assert dataset.class_names == ("cat", BREAD)
    bread = [r for r in dataset.records if r.label == 1]
    assert len(bread) == 2
    assert all(r.path.is_file() for r in bread)  # paths stay as they were found
    assert any(NFD in str(r.path) for r in bread)
    assert any("NFC and NFD" in note for note in dataset.notes)


def test_spaces_in_paths(tmp_path: Path) -> None:
    dataset = open_dataset(images(tmp_path / "my images", "whole wheat/a b.png", "rye/c d.png"))
    assert dataset.class_names == ("rye", "whole wheat")


def test_a_class_that_only_test_has_is_said(tmp_path: Path) -> None:
    dataset = open_dataset(images(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"))
    assert dataset.class_names == ("a", "b", "c")
    assert "class c has no training image" in dataset.notes


def test_one_class_and_one_image_are_read(tmp_path: Path) -> None:
    dataset = open_dataset(images(tmp_path, "cat/1.png"))
    assert dataset.class_names == ("cat",)
    assert len(dataset.records) == 1


def test_broken_images_stay_in_the_list(tmp_path: Path) -> None:
    root = images(tmp_path, "cat/1.png", "dog/1.png")
    (root / "cat" / "text.jpg").write_text("not an image")
    (root / "dog" / "zero.JPG").write_bytes(b"")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    assert [r.id for r in open_dataset(root).records] == [
        "cat/1.png",
        "cat/text.jpg",
        "dog/1.png",
        "dog/gone.png",
        "dog/zero.JPG",
    ]


def test_an_image_without_extension_is_known_by_its_content(tmp_path: Path) -> None:
    root = images(tmp_path, "cat/1.png", "dog/1.png")
    write_image(root / "cat" / "download", format="JPEG")
    write_image(root / "dog" / "image.jpg_large", format="JPEG")
    write_image(root / "dog" / "raw.nef", format="TIFF")  # a camera's raw file begins like a TIFF
    (root / "dog" / "README").write_text("words")
    assert [r.id for r in open_dataset(root).records] == [
        "cat/1.png",
        "cat/download",
        "dog/1.png",
        "dog/image.jpg_large",
    ]


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    root = images(tmp_path / "data", "cat/1.png", "dog/1.png")
    outside = images(tmp_path / "elsewhere", "more/2.png")
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "itself").symlink_to(root / "itself")
    (root / "dog" / "linked").symlink_to(outside, target_is_directory=True)
    (outside / "back").symlink_to(root / "dog", target_is_directory=True)
    dataset = open_dataset(root)
    assert [r.id for r in dataset.records] == ["cat/1.png", "dog/1.png", "dog/linked/more/2.png"]
    assert dataset.class_names == ("cat", "dog")
    walked = list(islice(walk([root]), 100))
    assert 3 <= len(walked) < 100


def test_many_links_to_each_other_end(tmp_path: Path) -> None:
    for i in range(9):
        write_image(tmp_path / f"c{i}" / "1.png")
        for j in range(9):
            (tmp_path / f"c{i}" / f"to{j}").symlink_to(tmp_path / f"c{j}", target_is_directory=True)
    assert len(open_dataset(tmp_path).class_names) == 9  # following every path would take 9! steps


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    root = images(tmp_path, "cat/1.png", "dog/1.png")
    os.mkfifo(root / "cat" / "pipe.jpg")
    os.mkfifo(root / "cat" / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(Path(os.path.relpath(root)) / "cat" / "s"))
        assert len(open_dataset(root).records) == 2


# Errors


def test_what_is_no_folder_of_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        open_dataset(write_image(tmp_path / "one" / "a.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no images"):
        open_dataset(tmp_path / "empty")
    (tmp_path / "empty" / "class").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("words")
    with pytest.raises(InputError, match=r"contains no images.*a\.txt"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(InputError, match="closest match is 'folders'"):
        open_dataset(tmp_path / "one", format="folder")
    with pytest.raises(InputError, match="no class folders"):
        open_dataset(tmp_path / "one", format="folders")


def test_two_formats_that_match_name_the_option(tmp_path: Path) -> None:
    root = images(tmp_path, "cat/1.png", "dog/1.png")
    (root / "labels.csv").write_text("file,label\ncat/1.png,tabby\n")
    with pytest.raises(InputError, match=r"in 2 ways, choose one: --format folders \(classify .*; --format csv \("):
        open_dataset(root)
    assert open_dataset(root, format="csv").class_names == ("tabby",)
    assert open_dataset(root, format="folders").class_names == ("cat", "dog")


def test_a_folder_without_permission_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:  # another user may enter it, unlike pytest's
        root = images(Path(name), "cat/1.png", "dog/1.png", "eel/1.png")
        root.chmod(0o755)
        (root / "dog").chmod(0o000)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match=r"dog cannot be listed: Permission denied"):
                open_dataset(root)
            assert list(walk([root])) == [root / "cat/1.png", root / "dog", root / "eel/1.png"]
        finally:
            os.seteuid(user)
            (root / "dog").chmod(0o755)


# Labels in file names


def test_labels_are_guessed_from_file_names_and_said(tmp_path: Path) -> None:
    root = images(tmp_path, "cat.0.jpg", "cat.1.jpg", "dog_1.png", "dog_22.png", f"{NFD}-1.png", f"{BREAD}2.png")
    dataset = open_dataset(root)
    assert dataset.format == "filename"
    assert dataset.class_names == ("cat", "dog", BREAD)
    assert any("labels guessed" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "names",
    [
        ["cat.0.jpg", "cat.1.jpg", "dog.1.jpg"],  # a class of one
        ["cat.0.jpg", "cat.1.jpg"],
        ["cat.0.jpg", "cat.1.jpg", "dog.1.jpg", "dog.2.jpg", "other.jpg"],
        ["IMG_1.jpg", "IMG_2.jpg", "DSC_1.jpg", "DSC_2.jpg"],  # two cameras
        ["1.jpg", "2.jpg", "3.jpg", "4.jpg"],
    ],
)
def test_no_labels_are_guessed_where_the_rule_does_not_hold(tmp_path: Path, names: list[str]) -> None:
    dataset = open_dataset(images(tmp_path, *names))
    assert dataset.format == "flat"
    assert {r.label for r in dataset.records} == {None}


def test_kaggles_cats_and_dogs(tmp_path: Path) -> None:
    root = images(tmp_path, *(f"train/{c}.{i}.jpg" for c in ("cat", "dog") for i in range(2)), "test1/1.jpg")
    (root / "sampleSubmission.csv").write_text("id,label\n1,0\n")
    dataset = open_dataset(root)
    assert dataset.format == "filename"
    assert dataset.class_names == ("cat", "dog")
    assert set(splits(dataset).values()) == {"train"}
    assert any("names without a label: 1 in test1" in note for note in dataset.notes)


def test_a_rule_on_the_stem_from_the_configuration(tmp_path: Path) -> None:
    root = images(tmp_path, "train/a.b_cat.png", "val/c_dog.v2.jpg")
    (root / "handlens.yaml").write_text(r"label_pattern: '_(?P<label>[a-z]+)'")
    dataset = open_dataset(root)
    assert labels(dataset) == {"train/a.b_cat.png": "cat", "val/c_dog.v2.jpg": "dog"}
    assert splits(dataset) == {"train/a.b_cat.png": "train", "val/c_dog.v2.jpg": "validation"}
    write_image(root / "odd.png")
    with pytest.raises(InputError, match=r"1 file names do not match.*odd\.png"):
        open_dataset(root)


# Tables


def table(root: Path, text: str, *, encoding: str = "utf-8") -> Path:
    (root / "labels.csv").write_text(text, encoding=encoding)
    return root


def test_a_table_with_split_and_group(tmp_path: Path) -> None:
    root = table(
        images(tmp_path, "a.png", f"images/{NFD} 1.png", "images/deep/c.png"),
        f"File,Label,Split,Patient\na.png,rye,train,p1\n{BREAD} 1.png,{BREAD},test,\ndeep\\c.png,rye,Valid,p2\n\n",
        encoding="utf-8-sig",
    )
    dataset = open_dataset(root)
    assert dataset.format == "csv"
    assert dataset.class_names == ("rye", BREAD)
    assert [(r.id, r.split, r.group) for r in dataset.records] == [
        ("a.png", "train", "p1"),
        ("images/deep/c.png", "validation", "p2"),
        (f"images/{NFD} 1.png", "test", None),
    ]
    assert all(r.path.is_file() for r in dataset.records)


def test_two_columns_that_could_be_the_label(tmp_path: Path) -> None:
    root = table(images(tmp_path, "images/a.png", "images/b.png"), "file,wnid,class_index\na.png,n1,0\nb.png,n2,1\n")
    with pytest.raises(InputError, match="wnid, class_index"):
        open_dataset(root)
    (root / "handlens.yaml").write_text("csv: {label: class_index}")
    assert open_dataset(root).class_names == ("0", "1")
    (tmp_path / "other.yaml").write_text("csv: {label: wnid}")
    assert open_dataset(root, config=tmp_path / "other.yaml").class_names == ("n1", "n2")
    (root / "handlens.yaml").write_text("csv: {label: wnit}")
    with pytest.raises(InputError, match="no column 'wnit'"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\ngone.png,y\n", r"1 of the 2 files in labels\.csv are missing \(gone\.png\)"),
        ("file,label\na.png,\n", "line 2 of labels.csv has no label"),
        ("file,label\n,x\n", "line 2 of labels.csv has no file"),
        ("file,label\na.png,x\na.png,y\n", "line 3 of labels.csv contradicts"),
        ("file,label,split\na.png,x,holdout\n", "split 'holdout'"),
        ("file,label,split\na.png,x,train\nb.png,x,\n", "1 of the 2 images"),
        ("file,label\na.png,x,y\n", "line 2 of labels.csv has 3 cells, not 2"),
        ("image,words\na.png,x\n", "no column that could be the label"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    root = table(images(tmp_path, "a.png", "b.png"), text)
    with pytest.raises(InputError, match=message):
        open_dataset(root, format="csv")


def test_a_table_whose_files_are_all_missing_is_not_passed_over(tmp_path: Path) -> None:
    root = table(images(tmp_path, "a.png"), "file,label\nx.png,1\n")
    with pytest.raises(InputError, match="missing"):
        open_dataset(root)


def test_a_table_of_another_encoding_is_named(tmp_path: Path) -> None:
    root = images(tmp_path, "a.png")
    (root / "labels.csv").write_bytes(f"file,label\na.png,{BREAD}\n".encode("cp949"))
    with pytest.raises(InputError, match="not UTF-8"):
        open_dataset(root, config=_yaml(tmp_path, "csv: {path: labels.csv}"))


def test_semicolons_ids_and_repeated_lines(tmp_path: Path) -> None:
    root = table(images(tmp_path, "train/a1.png", "train/a2.png"), "id;breed\na1;pug\na2;beagle\na1;pug\n")
    dataset = open_dataset(root)
    assert labels(dataset) == {"train/a1.png": "pug", "train/a2.png": "beagle"}
    assert "lines that repeat an earlier one: 1" in dataset.notes


def test_several_tables_ask_for_one(tmp_path: Path) -> None:
    root = table(images(tmp_path, "a.png"), "file,label\na.png,x\n")
    (root / "old.csv").write_text("file,label\na.png,y\n")
    with pytest.raises(InputError, match=r"several tables \(labels\.csv, old\.csv\)"):
        open_dataset(root)
    assert open_dataset(root, config=_yaml(tmp_path, "csv: {path: old.csv}")).class_names == ("y",)


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# Without labels


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    dataset = open_dataset(images(tmp_path, "b.png", "a.png"))
    assert (dataset.format, dataset.class_names) == ("flat", ())
    assert labels(dataset) == {"a.png": None, "b.png": None}
    heap = open_dataset(images(tmp_path / "heap", "images/1.png", "images/2.png"))
    assert (heap.format, heap.class_names) == ("flat", ())
    parts = open_dataset(images(tmp_path / "parts", "train/1.png", "test/2.png"))
    assert (parts.format, parts.class_names) == ("flat", ())  # train and test are no classes
    masks = images(tmp_path / "masks", "images/1.png", "masks/1.png")
    with pytest.raises(InputError, match="is in colors"):  # nor are images and their masks
        open_dataset(masks)
    texts = images(tmp_path / "texts", "train/images/1.png", "val/images/2.png")  # labels/ full of other files
    assert (open_dataset(texts).format, open_dataset(texts).class_names) == ("flat", ())


# Walking


def test_walk_keeps_the_order_of_its_arguments_and_sorts_below(tmp_path: Path) -> None:
    root = images(tmp_path, "z/2.png", "z/10.png", "z/a/1.png", "z/a.png", "y/1.png", "one.png")
    (root / "z" / "notes.txt").write_text("words")
    found = list(walk([root / "z", root / "missing.png", root / "one.png", str(root / "y")]))
    below = [p.relative_to(root).as_posix() for p in found]
    assert below == ["z/10.png", "z/2.png", "z/a.png", "z/a/1.png", "missing.png", "one.png", "y/1.png"]
    assert [r.id for r in open_dataset(root / "z", format="flat").records] == [name[2:] for name in below[:4]]


def test_walk_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = images(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(Path(path).name), real(path))[1])
    assert next(walk([root])) == root / "a/1.png"
    assert listed == [root.name, "a"]


def test_split_names() -> None:
    assert [split_of(n) for n in ("Train", "seg_test", "val2017", "DEV", "test-set")] == [
        "train",
        "test",
        "validation",
        "validation",
        "test",
    ]
    assert [split_of(n) for n in ("trainer", "contest", "cat", "value", "")] == [None] * 5


def test_the_real_folders(shared_data: Path) -> None:
    flowers = open_dataset(shared_data / "flowers")
    assert flowers.class_names == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert (len(flowers.part("train")), len(flowers.part("test"))) == (3244, 814)
    with pytest.raises(InputError, match="wnid, class_index"):
        open_dataset(shared_data / "imagenet_val500")
