"""The exports of a run that its gate has let through and that are still what they were then."""

from __future__ import annotations

from collections.abc import Iterator
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
    proved = (_proved(run, said) for said in _reports(run))
    return sorted((one for one in proved if one is not None), key=_plain_first)


def has_report(run: Run, *, to: str, precision: str) -> bool:
    """Whether an export to this runtime in this precision was let through once, whatever has become of its file."""
    return any(
        said["to"] == to and _precision(said) == precision and said.get("passed") is True for said in _reports(run)
    )


def _reports(run: Run) -> Iterator[dict[str, Any]]:
    """What the parity reports in <run>/exports say; what is none is left out."""
    for report in sorted((run.folder / "exports").glob("*.parity.json")):
        try:
            said = read_json(report)
        except InputError:  # half a file of another program's
            continue
        if is_report(said):
            yield said


def _precision(said: dict[str, Any]) -> str:
    computed = said["rows"][0]["precision"]
    return computed if computed in (INT8, FP16) else "fp32"


def _plain_first(proved: Proved) -> tuple[int, str, int]:
    """Files in parts or strips have longer names; they need less memory, and are slower."""
    return list(RUNTIMES).index(proved.runtime.name), proved.precision, len(proved.path.name)


def _proved(run: Run, said: dict[str, Any]) -> Proved | None:
    folder = run.folder / "exports"
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
    return Proved(path, runtime, _precision(said), "".join(files[file.name] for file in runtime.files(path)))
