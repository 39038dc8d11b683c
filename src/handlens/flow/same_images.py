"""Runs that are compared, and the images that all of them are measured on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handlens.data.labels.finding import images as counted_images
from handlens.errors import InputError
from handlens.flow.labeled_images import TestImages, learned_from, test_images
from handlens.flow.runs import find_run
from handlens.reading.files import sha256_of
from handlens.reporter import Reporter
from handlens.runtimes import runtime_of
from handlens.training.proved import proved_files
from handlens.training.run import DATA, MODEL, Run, open_run, unfinished


@dataclass(frozen=True)
class Compared:
    """
    Attributes:
        run: what predicts.
        name: as short as it can be told from the others.
        origin: the run that an exported file was made from, or the run itself; None of a file whose run is not known.
    """

    run: Run
    name: str
    origin: Run | None

    @property
    def root(self) -> Path | None:
        """The folder of the images that it was trained on, where that is known."""
        data = None if self.origin is None else self.origin.model.data
        return None if data is None else Path(data.root)


def runs_and_data(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Split a command's arguments: the last one is the data where it exists and is no model.

    A folder that is a run is a run, whatever else lies in it; so is one whose training is not finished.
    """
    *before, last = words
    path = Path(last)
    if before and path.exists() and not _is_model(path):
        return before, path
    return list(words), None


def _is_model(path: Path) -> bool:
    if path.is_dir():
        return os.path.lexists(path / MODEL) or unfinished(path)
    return runtime_of(path) is not None


def open_compared(runs: Sequence[Path | str | Run], *, report: Reporter) -> list[Compared]:
    """
    Raises:
        InputError: fewer than two, one that is not there or is given twice, other tasks, or other classes.
    """
    opened = [find_run(run, exported=True, report=report) for run in runs]
    if len(opened) < 2:
        raise InputError(f"compare needs at least two runs, got {len(opened)}; images to compare on come after them.")
    places = [run.folder.resolve() for run in opened]
    found = []
    for run, place in zip(opened, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{run.folder} is given twice.")
        alike = sum(other.folder.resolve().name == place.name for other in opened) > 1
        found.append(Compared(run, str(run.folder) if alike else place.name, _origin(run)))
    first = found[0]
    for other in found[1:]:
        if other.run.task != first.run.task:
            raise InputError(
                f"{first.name} is for {first.run.task} and {other.name} for {other.run.task}; give runs of one task."
            )
        if other.run.class_names != first.run.class_names:
            raise InputError(f"{other.name} predicts other classes than {first.name}: {_differing(first, other)}.")
    return found


def _differing(first: Compared, other: Compared) -> str:
    ours, theirs = first.run.class_names, other.run.class_names
    missing, more = [name for name in ours if name not in theirs], [name for name in theirs if name not in ours]
    parts = [
        f"{', '.join(names[:3])}{' …' * (len(names) > 3)} only by {by}"
        for names, by in ((missing, first.name), (more, other.name))
        if names
    ]
    return "; ".join(parts) or "the same ones in another order"


def _origin(run: Run) -> Run | None:
    """Of a file in a run's exports that is still the one that passed its parity check, that run."""
    if run.folder.is_dir():
        return run
    home = run.folder.resolve().parent.parent
    if not (home / MODEL).is_file():
        return None
    try:
        found = open_run(home)
    except InputError:  # that run is damaged, which the file is not
        return None
    return found if run.folder.resolve() in [proved.path.resolve() for proved in proved_files(found)] else None


def shared_images(
    compared: Sequence[Compared], data: Path | str | None, *, format: str | None, config: Path | None
) -> TestImages:
    """The images that all are measured on: of `data`, or of the first run's own data if all were trained on it.

    Raises:
        InputError: without `data`, a run was trained on other data, or on data that is not known; or as `test_images`.
    """
    first = compared[0]
    if data is None:
        for entry in compared:
            if entry.root is None:
                raise InputError(
                    f"it is not known what {entry.name} was trained on; give labeled images that none of the runs was "
                    "trained on, with --data."
                )
            if not _same_data(first, entry):
                raise InputError(
                    f"{entry.name} was trained on {entry.root} and {first.name} on {first.root}; give labeled images "
                    "that none of the runs was trained on, with --data."
                )
    return test_images(first.origin or first.run, data, format=format, config=config, count_learned=False)


def _same_data(first: Compared, other: Compared) -> bool:
    """One folder, or a copy with the same images and labels."""
    assert first.origin is not None and other.origin is not None
    ours, theirs = first.origin.model.data, other.origin.model.data
    assert ours is not None and theirs is not None
    return Path(ours.root).resolve() == Path(theirs.root).resolve() or ours.fingerprint == theirs.fingerprint


def seen_by(entry: Compared, test: TestImages) -> frozenset[str] | None:
    """Ids of the images that a run was trained on, or whose results chose its epoch: the same files, or copies of them.

    Returns:
        None where it is not known what it was trained on, or these images are no longer there to be looked at.
    """
    origin = entry.origin
    if origin is None or origin.model.data is None or not (origin.folder / DATA).is_file():
        return None
    learned = learned_from(origin, origin.started())
    paths = {record.id: record.path.resolve() for record in test.records}
    if not any(path.is_file() for path in learned):
        return None
    sizes: dict[int, list[str]] = {}
    for id, path in paths.items():
        if path.is_file():
            sizes.setdefault(path.stat().st_size, []).append(id)
    alike = [path for path in learned if path.is_file() and path.stat().st_size in sizes]
    contents = {sha256_of(path) for path in alike}
    looked_at = {id for size in {path.stat().st_size for path in alike} for id in sizes[size]}
    copies = {id for id in looked_at if sha256_of(paths[id]) in contents}
    return frozenset(copies | {id for id, path in paths.items() if path in learned})


def notes_on_seen(compared: Sequence[Compared], seen: Sequence[frozenset[str] | None], count: int) -> list[str]:
    """Sentences about images that the comparison should not have been made on."""
    notes = []
    for entry, ids in zip(compared, seen, strict=True):
        if ids is None:
            notes.append(f"Whether {entry.name} was trained on some of these images is not known.")
        elif ids:
            notes.append(
                f"{len(ids)} of these {counted_images(count)} were used in training {entry.name} or in choosing its "
                "epoch: on them it is measured too well."
            )
    return notes


def without(test: TestImages, ids: set[str]) -> TestImages:
    """Without these images."""
    return replace(test, records=tuple(record for record in test.records if record.id not in ids))
