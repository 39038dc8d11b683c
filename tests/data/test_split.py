from __future__ import annotations

import random
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlens.data.labels.boxes import Box, BoxLabels
from handlens.data.labels.classes import ClassLabels
from handlens.data.labels.mask_files import MaskCoding
from handlens.data.labels.masks import MaskLabels
from handlens.data.record import Dataset, Record, Split
from handlens.data.split import folds, split_dataset
from handlens.errors import InputError


def record(id: str, target: int | None, *, split: Split | None = None, group: str | None = None) -> Record:
    return Record(path=Path(id), id=id, label=target, split=split, group=group)


def dataset(records: list[Record]) -> Dataset:
    classes = 1 + max((r.label for r in records if r.label is not None), default=-1)
    names = tuple(f"c{i:03}" for i in range(classes))
    return Dataset(root=Path(), format="folders", class_names=names, records=tuple(records))


def classes_of(sizes: list[int], *, split: Split | None = None) -> list[Record]:
    return [record(f"{split}/c{c}/{i}.jpg", c, split=split) for c, n in enumerate(sizes) for i in range(n)]


def counts(data: Dataset, part: Split) -> dict[int | None, int]:
    return dict(Counter(r.label for r in data.part(part)))


def split_by_id(data: Dataset) -> dict[str, Split | None]:
    return {r.id: r.split for r in data.records}


@pytest.mark.parametrize(
    ("size", "train", "validation", "test"),
    [(1, 1, 0, 0), (2, 1, 1, 0), (3, 1, 1, 1), (10, 6, 2, 2), (100, 70, 15, 15)],
)
def test_every_size_of_class(size: int, train: int, validation: int, test: int) -> None:
    data = split_dataset(dataset(classes_of([size, 40])))
    found = tuple(counts(data, part).get(0, 0) for part in ("train", "validation", "test"))
    assert found == (train, validation, test)
    assert [counts(data, part)[1] for part in ("train", "validation", "test")] == [28, 6, 6]


def test_numbers_of_images_in_total() -> None:
    data = split_dataset(dataset(classes_of([10, 30, 60, 1])), validation=10, test=7)
    assert (len(data.part("validation")), len(data.part("test"))) == (10, 7)
    assert counts(data, "validation") == {0: 1, 1: 3, 2: 6}
    assert counts(data, "train")[3] == 1


def test_nothing_asked_nothing_taken() -> None:
    data = split_dataset(dataset(classes_of([5, 5])), validation=0, test=0.0)
    assert data.splits() == ("train",)


def test_the_seed_decides_and_the_order_does_not() -> None:
    records = classes_of([50, 50])
    shuffled = random.Random(1).sample(records, len(records))
    one = split_by_id(split_dataset(dataset(records)))
    assert one == split_by_id(split_dataset(dataset(shuffled)))
    assert one != split_by_id(split_dataset(dataset(records), seed=1))


def test_the_same_on_every_system() -> None:
    """Written down once: another machine, Python or NumPy gives the same. macOS spells ids in NFD."""
    ids = [f"식빵/{i}.jpg" for i in range(8)]
    expected = {"식빵/2.jpg": "validation", "식빵/6.jpg": "test"}
    for form in ("NFC", "NFD"):
        spelled = [record(unicodedata.normalize(form, id), 0) for id in ids]  # type: ignore[arg-type]
        taken = {unicodedata.normalize("NFC", id): s for id, s in split_by_id(split_dataset(dataset(spelled))).items()}
        assert {id: split for id, split in taken.items() if split != "train"} == expected


def test_a_file_name_that_is_not_unicode() -> None:
    broken = b"c/\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    assert len(split_dataset(dataset([record(broken, 0), record("c/2.jpg", 0)])).part("validation")) == 1


def test_validation_comes_from_train_where_test_is_given() -> None:
    given_test = classes_of([10, 10], split="test")
    data = split_dataset(dataset(classes_of([20, 40], split="train") + given_test))
    assert {r.id for r in data.part("test")} == {r.id for r in given_test}
    assert counts(data, "validation") == {0: 3, 1: 6}
    assert any("split of the training images" in note for note in data.notes)


def test_what_is_given_is_kept() -> None:
    whole = [r for s in ("train", "validation", "test") for r in classes_of([3, 3], split=s)]  # type: ignore[arg-type]
    assert split_dataset(dataset(whole)).records == tuple(whole)
    without_test = split_dataset(dataset(whole[:12]))
    assert without_test.records == tuple(whole[:12])
    assert any("no test split" in note for note in without_test.notes)


def test_train_alone_gives_all_three() -> None:
    data = split_dataset(dataset(classes_of([20, 20], split="train")))
    assert [len(data.part(part)) for part in ("train", "validation", "test")] == [28, 6, 6]


def test_copies_in_a_given_test_folder_are_left_there() -> None:
    records = classes_of([6, 6], split="train") + classes_of([2, 2], split="test")
    pair = ("train/c0/0.jpg", "test/c0/0.jpg")
    data = split_dataset(dataset(records), together=[pair])
    assert split_by_id(data)["test/c0/0.jpg"] == "test"
    assert len(data.records) == len(records)


def test_large_groups_still_give_a_validation_set() -> None:
    records = [record(f"c{c}/p{g}/{i}.jpg", c, group=f"{c}{g}") for c in (0, 1) for g in range(4) for i in range(25)]
    data = split_dataset(dataset(records), validation=0.05, test=0.05)
    assert counts(data, "validation") == {0: 25, 1: 25}
    assert counts(data, "train") == {0: 50, 1: 50}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": -0.1}, "validation = -0.1"),
        ({"test": 1.0}, "test = 1.0"),
        ({"validation": 0.5, "test": 0.5}, "leave no training images"),
        ({"validation": 9, "test": 0}, "at most 8"),
        ({"validation": 4, "test": 5}, "test = 5 .* at most 4"),
    ],
)
def test_sizes_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_dataset(dataset(classes_of([5, 5])), **options)


def test_data_that_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"1 images have no label, for example 'x\.jpg'"):
        split_dataset(dataset([record("x.jpg", None), record("y.jpg", 0)]))
    with pytest.raises(InputError, match="none for training"):
        split_dataset(dataset(classes_of([3, 3], split="test")))
    with pytest.raises(InputError, match="give a split to all or none"):
        split_dataset(dataset([record("x.jpg", 0, split="train"), record("y.jpg", 0)]))


# What must hold for any data


@st.composite
def labeled(draw: st.DrawFn) -> tuple[list[Record], list[list[str]]]:
    count = draw(st.integers(2, 60))
    targets = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    groups = draw(st.lists(st.none() | st.integers(0, 9).map(str), min_size=count, max_size=count))
    records = [record(f"{i}.jpg", t, group=g) for i, (t, g) in enumerate(zip(targets, groups, strict=True))]
    ids = [r.id for r in records] + ["unknown.jpg"]
    together = draw(st.lists(st.lists(st.sampled_from(ids), min_size=2, max_size=4), max_size=6))
    return records, together


def assert_whole(side: dict[str, object], records: list[Record], together: list[list[str]]) -> None:
    for ids in together:
        assert len({side[id] for id in ids if id in side}) <= 1
    for group in {r.group for r in records} - {None}:
        assert len({side[r.id] for r in records if r.group == group}) == 1


@settings(max_examples=200, deadline=None)
@given(labeled(), st.integers(0, 3), st.sampled_from([0.15, 0.4]), st.randoms(use_true_random=False))
def test_split_loses_nothing_and_nothing_straddles(
    data: tuple[list[Record], list[list[str]]], seed: int, share: float, order: random.Random
) -> None:
    records, together = data
    result = split_dataset(dataset(records), validation=share, test=share, seed=seed, together=together)
    side = split_by_id(result)
    assert [r.id for r in result.records] == [r.id for r in records]
    assert set(side.values()) <= {"train", "validation", "test"}
    assert_whole(side, records, together)  # type: ignore[arg-type]
    assert set(counts(result, "train")) == {r.label for r in records}  # every class can be learnt
    shuffled = order.sample(records, len(records))
    again = split_dataset(dataset(shuffled), validation=share, test=share, seed=seed, together=together[::-1])
    assert split_by_id(again) == side


@settings(max_examples=200, deadline=None)
@given(labeled(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_folds_lose_nothing_and_nothing_straddles(
    data: tuple[list[Record], list[list[str]]], seed: int, order: random.Random
) -> None:
    records, together = data
    result = folds(records, ClassLabels(), count=2, seed=seed, together=together)
    assert result.shape == (len(records),)
    assert set(result.tolist()) <= {0, 1}
    side = dict(zip([r.id for r in records], result.tolist(), strict=True))
    assert_whole(side, records, together)
    shuffled = order.sample(records, len(records))
    again = folds(shuffled, ClassLabels(), count=2, seed=seed, together=together)
    assert dict(zip([r.id for r in shuffled], again.tolist(), strict=True)) == side


def test_folds_are_stratified() -> None:
    records = classes_of([50, 23, 4])
    result = folds(records, ClassLabels(), count=5, seed=3)
    table = np.zeros((3, 5), dtype=int)
    np.add.at(table, ([r.label for r in records], result), 1)
    assert table[0].tolist() == [10] * 5
    assert sorted(table[1].tolist()) == [4, 4, 5, 5, 5]
    assert sorted(table[2].tolist()) == [0, 1, 1, 1, 1]
    assert np.ptp(table.sum(axis=0)) <= 2


def test_folds_need_images() -> None:
    with pytest.raises(InputError, match="5 folds are not possible with 4"):
        folds(classes_of([2, 2]), ClassLabels())
    with pytest.raises(InputError, match="1 folds"):
        folds(classes_of([2, 2]), ClassLabels(), count=1)


def boxed(id: str, *labels: int) -> Record:
    boxes = tuple(Box(label=label, left=0, top=0, right=1, bottom=1) for label in labels)
    return Record(path=Path(id), id=id, label=boxes)


def test_boxes_are_stratified_by_the_rarest_class_in_the_image() -> None:
    """Every image has class 0; the ten with class 1 go to all parts as ten images of a class would."""
    records = [boxed(f"{i}.jpg", 0, 0, 1) if i < 10 else boxed(f"{i}.jpg", 0) for i in range(100)]
    records += [boxed(f"empty{i}.jpg") for i in range(20)]
    names = ("common", "rare")
    data = split_dataset(
        Dataset(root=Path(), format="voc", class_names=names, records=tuple(records), kind=BoxLabels())
    )
    shares = {part: data.class_counts(data.part(part)) for part in data.splits()}
    assert [shares[part]["rare"] for part in ("train", "validation", "test")] == [6, 2, 2]
    assert [len(data.part(part)) for part in ("train", "validation", "test")] == [82, 19, 19]
    assert [sum(not r.label for r in data.part(part)) for part in ("train", "validation", "test")] == [14, 3, 3]
    parts = folds(records, BoxLabels(), count=5)
    assert [sum(parts[i] == k for i in range(10)) for k in range(5)] == [2, 2, 2, 2, 2]
    with pytest.raises(InputError, match="1 images have no label"):
        split_dataset(data.with_records([*records, Record(path=Path("x"), id="x")]))


def test_masks_are_split_without_strata() -> None:
    records = tuple(Record(path=Path(f"{i}"), id=f"{i}", label=Path("m")) for i in range(40))
    data = split_dataset(
        Dataset(root=Path(), format="masks", class_names=("a",), records=records, kind=MaskLabels(MaskCoding()))
    )
    assert [len(data.part(part)) for part in ("train", "validation", "test")] == [28, 6, 6]
