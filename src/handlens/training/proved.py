"""The exports of a run that its gate has let through and that are still what they were then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlens.errors import InputError
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json
from handlens.runtimes import RUNTIMES
from handlens.runtimes.parity import is_report
from handlens.runtimes.runtime import Runtime
from handlens.training.run import WEIGHTS, Run

INT8, FP16 = "int8", "fp16"  # as a report names what is not float32


@dataclass(frozen=True)
class Proved:
    """An exported file whose parity report says that it passed.

    Attributes:
        precision: "fp32", FP16 or INT8.
        digest: SHA-256 of its files.
    """

    path: Path
    runtime: Runtime
    precision: str
    digest: str


def proved_files(run: Run) -> list[Proved]:
    """Of <run>/exports, in the order of RUNTIMES: whole models for images that are already at the model's size.

    Left out is what resizes inside or leaves non-maximum suppression to the app, what was made from other weights, and
    what has changed since its report was written.
    """
    if run.folder.is_file():
        return []
    found = []
    for report in sorted((run.folder / "exports").glob("*.parity.json")):
        try:
            said = read_json(report)
        except InputError:  # half a file of another program's
            continue
        proved = _proved(run, report.parent, said) if is_report(said) else None
        if proved is not None:
            found.append(proved)
    return sorted(found, key=_plain_first)


def _plain_first(proved: Proved) -> tuple[int, str, int]:
    """Files in parts or strips have longer names; they need less memory, and are slower."""
    return list(RUNTIMES).index(proved.runtime.name), proved.precision, len(proved.path.name)


def _proved(run: Run, folder: Path, said: dict[str, Any]) -> Proved | None:
    runtime, files = RUNTIMES.get(said["to"]), said.get("files")
    if runtime is None or said.get("passed") is not True or said.get("weights") != run.model.files.get(WEIGHTS):
        return None
    path = folder / said["file"]
    if (
        not isinstance(files, dict)
        or set(files) != {file.name for file in runtime.files(path)}
        or not said.get("whole", False)
    ):
        return None
    if any(not (folder / name).is_file() or sha256_of(folder / name) != digest for name, digest in files.items()):
        return None
    computed = said["rows"][0]["precision"]
    precision = computed if computed in (INT8, FP16) else "fp32"
    return Proved(path, runtime, precision, "".join(files[file.name] for file in runtime.files(path)))
