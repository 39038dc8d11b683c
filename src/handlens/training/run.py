"""The run folder: the only thing passed between commands. Reading one does not import torch."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from handlens.errors import InputError
from handlens.files import write_json, write_text
from handlens.preprocess import Preprocess
from handlens.reading.files import check_file, sha256_of
from handlens.reading.parsed import read_json
from handlens.reading.text import read_text
from handlens.runtimes import RUNTIMES, runtime_of
from handlens.training.model_info import ModelInfo, from_metadata

MODEL, WEIGHTS, RECIPE, METRICS = "model.json", "model.safetensors", "recipe.yaml", "metrics.csv"
DATA, DATA_CONFIG = "data.json", "data-config.yaml"
ENGINE_FOLDER, GOLDEN = "engine/", "golden"
ENGINE = f"{ENGINE_FOLDER}model.xml"
STARTED: dict[str, type] = {
    "root": str,
    "format": str,
    "machine": dict,
    "splits": dict,
    "fingerprint": str,
    "fingerprints": dict,
}  # what data.json must have, and of which type
LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.safetensors"


@dataclass(frozen=True)
class Run:
    """A finished run, checked when opened.

    Attributes:
        folder: where it lies; it may be moved and zipped. Of an exported file, the file.
        model: what model.json says, or the file's metadata.
        resizes: the file takes images of any size.
    """

    folder: Path
    model: ModelInfo
    resizes: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.model.class_names

    @property
    def task(self) -> str:
        return self.model.task

    @property
    def preprocess(self) -> Preprocess:
        return self.model.preprocess

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def engine(self) -> Path:
        return self.folder if self.folder.is_file() else self.folder / ENGINE

    @property
    def has_images(self) -> bool:
        """Whether the images that it was trained from are still where they were."""
        return self.model.data is not None and Path(self.model.data.root).exists()

    def golden(self) -> Path | None:
        """The folder of the golden images, if there are some.

        Raises:
            InputError: one changed since it was written, or is missing.
        """
        folder = self.folder / GOLDEN
        self.check(*(name for name in self.model.files if name.startswith(f"{GOLDEN}/")))
        return folder if folder.is_dir() else None

    def config(self) -> Path | None:
        """The handlens.yaml that the run was trained with, if there was one.

        Raises:
            InputError: it changed since it was written.
        """
        self.check(DATA_CONFIG)
        return kept_config(self.folder)

    def started(self) -> dict[str, Any]:
        """data.json, as `read_started`.

        Raises:
            InputError: it is missing, damaged, or changed since it was written.
        """
        self.check(DATA)
        return read_started(self.folder)

    def check(self, *names: str) -> None:
        """Compare files with the SHA-256 that model.json has for them.

        Args:
            names: inside the run folder; those that model.json does not list are not looked at.

        Raises:
            InputError: one is missing, or changed since it was written.
        """
        for name in names:
            if (digest := self.model.files.get(name)) is None:
                continue
            path = self.folder / name
            if not os.path.lexists(path):
                raise InputError(f"{path} is missing; copy the whole run folder again.")
            if sha256_of(check_file(path, "weights")) != digest:
                raise InputError(f"{path} has changed since it was written (SHA-256 differs); restore it from a copy.")

    @property
    def evaluations(self) -> Path:
        """Where evaluations on other data lie, a folder for each."""
        return Path(f"{self.folder}.evaluations") if self.folder.is_file() else self.folder / "evaluations"


def unfinished(folder: Path) -> bool:
    """Whether a training was started here and can be resumed: it has its recipe and its data, and no model yet."""
    return all((folder / name).is_file() for name in (RECIPE, DATA)) and not os.path.lexists(folder / MODEL)


def open_run(folder: Path) -> Run:
    """Open a run folder and check what it predicts with, weights and engine, against their SHA-256.

    The other files that model.json lists are checked where they are read.

    Raises:
        InputError: not a run, of another version, a file missing, or a file that changed since it was written.
    """
    if not os.path.lexists(folder / MODEL):
        if unfinished(folder):
            command = f"handlens train --resume {shlex.quote(str(folder))}"
            raise InputError(f"{folder} contains an unfinished run; finish it with: {command}")
        raise InputError(f"{folder} is not a run folder: it has no {MODEL}.")
    model = ModelInfo.from_dict(read_json(folder / MODEL), where=str(folder / MODEL))
    run = Run(folder, model)
    run.check(*(name for name in model.files if name == WEIGHTS or name.startswith(ENGINE_FOLDER)))
    return run


def open_export(path: Path) -> Run:
    """An exported file as a run: to predict and to evaluate.

    Raises:
        InputError: no runtime has this suffix; its runtime is not installed, or cannot read it; it is not ours, or
            leaves a step to the app.
    """
    runtime = runtime_of(path)
    if runtime is None:
        known = ", ".join(runtime.suffix for runtime in RUNTIMES.values())
        raise InputError(f"{path} is neither a run folder nor an exported model ({known}).")
    found = runtime.open(check_file(path, "model"), threads=1).metadata
    if found.get("suppress") is False:
        raise InputError(
            f"{path} leaves non-maximum suppression to the app; export with --suppress to predict with it."
        )
    return Run(path, from_metadata(found, where=str(path)), resizes=bool(found.get("resizes")))


def read_started(folder: Path) -> dict[str, Any]:
    """data.json: what the run is trained on, as it was when training started.

    Raises:
        InputError: it is missing or damaged.
    """
    value = read_json(folder / DATA, "annotations")
    wrong = [
        key for key, kind in STARTED.items() if not isinstance(value, dict) or not isinstance(value.get(key), kind)
    ]
    if wrong:
        raise InputError(f"{folder / DATA} has no valid {wrong[0]}; restore the file from a copy of the run.")
    parts = value["splits"]
    if not all(isinstance(ids, list) and all(isinstance(id, str) for id in ids) for ids in parts.values()):
        raise InputError(f"{folder / DATA} has no valid splits; restore the file from a copy of the run.")
    return dict(value)


def kept_config(folder: Path) -> Path | None:
    """The handlens.yaml that the run was trained with, kept because it may lie elsewhere or change."""
    path = folder / DATA_CONFIG
    return path if path.is_file() else None


def files_of_run(folder: Path) -> list[str]:
    """What a training leaves for good. Not listed: what can be made again, and what is only to resume."""
    golden = sorted(path.relative_to(folder).as_posix() for path in (folder / GOLDEN).glob("*"))
    return [name for name in (WEIGHTS, RECIPE, DATA, DATA_CONFIG, METRICS) if (folder / name).is_file()] + golden


def digests(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """`ModelInfo.files` of these."""
    return {name: sha256_of(folder / name) for name in files}


def write_model_json(folder: Path, model: ModelInfo) -> Run:
    """Write model.json: last of all, for its presence says that the run is whole, and again where something changed."""
    write_json(folder / MODEL, model.to_dict())
    return Run(folder, model)


@contextlib.contextmanager
def locked(folder: Path, *, patience: float = 0) -> Iterator[None]:
    """One writer at a time. The lock is the operating system's, so a killed process leaves none behind.

    Args:
        patience: seconds to wait for another.

    Raises:
        InputError: another process is writing this run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock", timeout=patience).acquire()
    except Timeout:
        raise InputError(f"{folder} is being written by another process; wait for it, or use another --out.") from None
    with lock:
        yield


def append_metrics(folder: Path, row: dict[str, Any]) -> None:
    """Add one epoch to metrics.csv, or replace it where a resumed run repeats it. Nothing else is lost."""
    path = folder / METRICS
    rows = [old for old in read_metrics(folder) if int(old["epoch"]) != int(row["epoch"])]
    rows.append({key: str(value) for key, value in row.items()})
    rows.sort(key=lambda entry: int(entry["epoch"]))
    columns = list(dict.fromkeys(key for entry in rows for key in entry))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, values as text; empty where there is none yet."""
    path = folder / METRICS
    if not path.is_file():
        return []
    rows = list(csv.DictReader(io.StringIO(read_text(path, "table"), newline="")))
    if any(None in row or None in row.values() or not row.get("epoch", "").isdecimal() for row in rows):
        raise InputError(f"{path} is damaged: a row does not fit its header; restore it from a copy, or remove it.")
    return rows
