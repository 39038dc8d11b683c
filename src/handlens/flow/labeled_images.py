"""Labeled images to measure a run on: its own test split, or other data, with the labels as the run's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from handlens.data.record import Split
from handlens.errors import InputError
from handlens.reading.files import sha256_of
from handlens.training.run import DATA, Run

if TYPE_CHECKING:
    from handlens.data.labels.kind import Kind
    from handlens.data.record import Dataset, Record


@dataclass(frozen=True)
class TestImages:
    """Labeled images to measure a run on, their labels as indices into the run's classes.

    Attributes:
        split: "test" or "validation"; "all" where the data has none.
        kind: of the labels.
        own: they are of the data that the run was trained from.
        missing: ids of the run's own split that are no longer there.
        notes: sentences for people.
        summary: one line about the data.
    """

    records: tuple[Record, ...]
    split: str
    root: Path
    kind: Kind
    own: bool
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    summary: str


def test_images(
    run: Run,
    data: Path | str | None,
    *,
    format: str | None,
    config: Path | None,
    prefer: Literal["test", "validation"] = "test",
    count_learned: bool = True,
) -> TestImages:
    """What a run is measured on: as `evaluate` says of its `data`.

    Args:
        prefer: the split, where the data has one of this name. Of data that is not the run's own, "validation" takes
            the training split where there is no other, and the test split only where there is nothing else.
        count_learned: a note says how many of the images the run was trained on, where the data is not its own.

    Raises:
        InputError: no data, no labels, labels for another task, or a class that the run does not know.
    """
    from handlens.data import open_dataset

    trained_on = None if run.model.data is None else run.model.data.root
    asked = trained_on if data is None else data
    if asked is None:
        raise InputError(f"{run.folder.name} is a model without data; give DATA.")
    root = Path(asked)
    own = data is None or (trained_on is not None and root.resolve() == Path(trained_on))
    started = run.started() if own or (run.folder / DATA).is_file() else {"splits": {}}
    if own:  # read as for training
        format, config = format or started["format"], config or run.config()
    dataset = open_dataset(root, format=format, config=config, task=run.task)
    notes: list[str] = []
    split, missing = "all", []
    records: Sequence[Record] = dataset.records
    if own:
        split = next((name for name in (prefer, "test") if started["splits"].get(name)), "validation")
        if split == "validation":
            how = "" if run.model.mode == "head" else ", which were used to choose the best epoch"
            notes.append(f"There is no test split: evaluated on the validation images{how}.")
        found = {record.id: record for record in dataset.records}
        records = [found[id] for id in started["splits"].get(split, []) if id in found]
        missing = [id for id in started["splits"].get(split, []) if id not in found]
        notes += _changes(records, missing, split, root, started["fingerprints"].get(split))
    else:
        notes += [remark.message for remark in dataset.remarks]
        wanted: tuple[Split, ...] = ("test",) if prefer == "test" else ("validation", "train", "test")
        for name in wanted:
            if name in dataset.splits():
                split, records = name, dataset.part(name)
                break
        learned = learned_from(run, started)
        known = sum(record.path.resolve() in learned for record in records)
        if known and count_learned:
            notes.append(
                f"{known} of these {len(records)} images were used for training: they do not measure generalization."
            )
    records = [record for record in records if record.labeled]
    if not records:
        raise InputError(f"{root} has no labeled images to evaluate on.")
    index = run_classes(dataset, run, notes)
    kind = dataset.kind
    records = [replace(record, label=kind.relabeled(record.label, index)) for record in records]
    return TestImages(
        tuple(records), split, root, kind.renumbered(index), own, tuple(missing), tuple(notes), dataset.summary()
    )


def learned_from(run: Run, started: Mapping[str, Any]) -> set[Path]:
    """The files that a run was trained on, or whose results chose its epoch or its thresholds.

    Args:
        started: its data.json.
    """
    # A head learns from the validation images too where there is a test split to measure it on.
    spared = run.model.mode == "head" and not started["splits"].get("test")
    parts = ("train",) if spared else ("train", "validation")
    root = Path("" if run.model.data is None else run.model.data.root)
    return {root / id for part in parts for id in started["splits"].get(part, [])}


def _changes(
    records: Sequence[Record], missing: Sequence[str], split: str, root: Path, fingerprint: str | None
) -> list[str]:
    """What has happened to a split since the run was started."""
    from handlens.data.findings import contents_fingerprint

    if missing:
        count = len(missing) + len(records)
        return [f"{len(missing)} of the {count} {split} images are no longer in {root}, for example {missing[0]}."]
    there = {record.id: sha256_of(record.path) for record in records}
    if contents_fingerprint(there) != fingerprint:
        return [f"Some of the {split} images in {root} have changed since the run was started."]
    return []


def run_classes(dataset: Dataset, run: Run, notes: list[str]) -> dict[int, int]:
    """The data's class index -> the run's: matched by name; numbers that are no names are the run's own indices."""
    names = run.class_names
    if set(dataset.class_names) <= set(names):
        return {i: names.index(name) for i, name in enumerate(dataset.class_names)}
    if not any(name.isdecimal() for name in names) and all(
        name.isdecimal() and int(name) < len(names) for name in dataset.class_names
    ):
        notes.append("The labels are numbers: read as class indices of the model.")
        return {i: int(name) for i, name in enumerate(dataset.class_names)}
    unknown = [name for name in dataset.class_names if name not in names]
    raise InputError(
        f"the data has classes that the model was not trained on: {', '.join(unknown[:5])}; "
        f"the model has {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}."
    )
