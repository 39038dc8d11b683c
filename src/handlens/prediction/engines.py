"""Which of a run's files `predict` runs: its engine, or a proved export that was measured to be faster here."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from handlens.errors import InputError, nearest
from handlens.files import cache_folder, write_json
from handlens.machine import describe
from handlens.reading.parsed import read_json
from handlens.reporter import QUIET, Reporter
from handlens.runtimes import RUNTIMES, open_engine, runtime_of
from handlens.runtimes.engine import Engine, Precision
from handlens.training.proved import FP16, INT8, has_report, proved_files
from handlens.training.run import WEIGHTS, Run

WORTH = 1.05  # times as fast another file must be before it takes the engine's place


@dataclass(frozen=True)
class Candidate:
    """A file that gives a run's predictions.

    Attributes:
        runtime: a name of RUNTIMES.
        int8: it is quantized.
        digest: SHA-256 of what it holds.
    """

    path: Path
    runtime: str
    int8: bool
    digest: str


@dataclass(frozen=True)
class Speed:
    """Of a candidate on this machine, as `predict` runs it.

    Attributes:
        first_s: seconds from the start of a process to the first prediction.
        images_per_second: of a long stream.
        precision: what it computed in, as `Engine.precision`.
    """

    first_s: float
    images_per_second: float
    precision: str


def candidates(run: Run) -> list[Candidate]:
    """The run's engine first, then its proved exports whose runtimes are installed."""
    own = runtime_of(run.engine)
    assert own is not None
    files = [file.relative_to(run.folder).as_posix() for file in own.files(run.engine)]
    found = [Candidate(run.engine, own.name, False, "".join(run.model.files[name] for name in files))]
    found += [
        Candidate(proved.path, proved.runtime.name, proved.precision == INT8, proved.digest)
        for proved in proved_files(run)
        if proved.runtime.installed and proved.precision != FP16  # neither PyTorch's answers nor much faster
    ]
    return found


def chosen_file(run: Run, *, engine: str | None, precision: Precision, few: bool) -> Path:
    """The file to run.

    Args:
        engine: a name of RUNTIMES; None is the fastest that was measured here (`handlens bench RUN`), else the run's
            own engine.
        few: a handful of images, for which the time to the first prediction counts more than a stream's.

    Raises:
        InputError: there is no such file, with the command that makes one; or `engine` is no runtime.
    """
    if engine is not None and engine not in RUNTIMES:
        raise InputError(f"unknown engine {engine!r}; {nearest(engine, RUNTIMES)}.")
    if run.folder.is_file():
        return _of_export(run, engine=engine, precision=precision)
    int8 = precision == "int8"
    measured = None if engine is not None else _measured(run)
    if not int8 and engine is None and not measured:
        return run.engine
    fitting = [one for one in candidates(run) if one.int8 == int8 and engine in (None, one.runtime)]
    if not fitting:
        raise InputError(_missing(run, engine=engine, int8=int8))
    known = measured or {}
    if precision == "fp32":  # "auto" was measured, and how fast bf16 is says nothing
        known = {digest: speed for digest, speed in known.items() if speed.precision == "f32"}
    best = fitting[0]
    for other in fitting[1:]:
        if faster(known.get(other.digest), known.get(best.digest), few=few):
            best = other
    return best.path


def open_chosen(
    run: Run,
    *,
    engine: str | None = None,
    precision: Precision = "auto",
    latency: bool = False,
    report: Reporter = QUIET,
) -> Engine:
    """What `chosen_file` says, open; where it is not the run's own engine, a sentence says which it is.

    Args:
        latency: tuned for a few images rather than for many.

    Raises:
        InputError: as `chosen_file`; or its runtime cannot read it.
    """
    path = chosen_file(run, engine=engine, precision=precision, few=latency)
    opened = open_engine(path, precision="auto" if precision == "int8" else precision, latency=latency)
    check_engine(run, opened, path)
    if path != run.engine:
        report.say(f"Computed by {opened.runtime} in {opened.precision}, from {path}.")
    return opened


def check_engine(run: Run, engine: Engine, path: Path) -> None:
    """
    Raises:
        InputError: the file was made from other weights, or for other classes or another preprocessing than model.json
            has; whoever edits one of the two gets other predictions under right names, or right ones under wrong names.
    """
    if run.folder.is_file():
        return
    ours = {
        "weights": run.model.files.get(WEIGHTS),
        "class_names": list(run.class_names),
        "preprocess": run.preprocess.to_dict(),
        "task": run.task,
    }
    for key, value in ours.items():
        if engine.metadata.get(key, value) != value:
            raise InputError(
                f"{path} has other {key.replace('_', ' ')} than model.json of {run.folder}: one of them was changed; "
                "restore the run from a copy."
            )


def keep_speeds(run: Run, speeds: dict[str, Speed]) -> None:
    """Remember what was measured here, in the cache.

    Args:
        speeds: by digest.
    """
    write_json(_record(run), {digest: asdict(speed) for digest, speed in speeds.items()})


def keep_ranking(run: Run, speeds: dict[str, Speed]) -> None:
    """Remember which runtime is fast for models like this one, in float.

    Args:
        speeds: by runtime.
    """
    write_json(_ranking(run), {name: asdict(speed) for name, speed in (known_ranking(run) | speeds).items()})


def known_ranking(run: Run) -> dict[str, Speed]:
    """By runtime, of a model of this architecture and input size that was measured here; empty where none was."""
    return _read(lambda: _ranking(run))


def _measured(run: Run) -> dict[str, Speed]:
    """By digest; empty where nothing was measured on this machine with these versions."""
    return _read(lambda: _record(run)) if WEIGHTS in run.model.files else {}


def _read(path_in: Callable[[], Path]) -> dict[str, Speed]:
    if not _records().is_dir():  # to look up versions takes longer
        return {}
    try:
        return {name: Speed(**entry) for name, entry in read_json(path_in()).items()}
    except (InputError, TypeError, AttributeError):  # there is none, or it is of another version
        return {}


def _records() -> Path:
    return cache_folder() / "engines"


def _record(run: Run) -> Path:
    return _machine() / f"{run.model.files[WEIGHTS][:16]}.json"


def _ranking(run: Run) -> Path:
    arguments = {
        name: value for name, value in (run.model.architecture.arguments or {}).items() if name != "num_classes"
    }
    shape = run.preprocess.height, run.preprocess.width, run.preprocess.channels
    key = json.dumps([run.task, run.model.architecture.name, arguments, shape], sort_keys=True, default=str)
    return _machine() / "models" / f"{_short_digest(key)}.json"


def _machine() -> Path:
    """The folder of this machine with the versions that are installed now."""
    machine = describe()
    known = {key: machine[key] for key in ("processor", "cores", "instructions")}
    return _records() / _short_digest(json.dumps([known, [_version(one.distribution) for one in RUNTIMES.values()]]))


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def faster(other: Speed | None, best: Speed | None, *, few: bool) -> bool:
    """Whether one is so much faster that it matters; not where one of them is not known."""
    if other is None or best is None:
        return False
    if few:
        return other.first_s * WORTH < best.first_s
    return other.images_per_second > best.images_per_second * WORTH


def _of_export(run: Run, *, engine: str | None, precision: Precision) -> Path:
    runtime = runtime_of(run.folder)
    assert runtime is not None
    if engine not in (None, runtime.name):
        raise InputError(f"{run.folder.name} is run by {runtime.name}, not by {engine}; give its run folder.")
    if precision == "int8" and runtime.open(run.folder, threads=1).metadata.get("precision") != INT8:
        raise InputError(f"{run.folder.name} is not int8; give its run folder, or an int8 file.")
    return run.folder


def _missing(run: Run, *, engine: str | None, int8: bool) -> str:
    kind = f"int8 file{f' for {engine}' if engine else ''}" if int8 else f"file for {engine}"
    to = engine or next(name for name, runtime in RUNTIMES.items() if runtime.int8 and not runtime.package)
    if not RUNTIMES[to].installed:
        return f"{to} is not installed: pip install 'handlens[{to}]'."
    command = f"handlens export {shlex.quote(str(run.folder))} --to {to}{' --int8' if int8 else ''}"
    if has_report(run, to=to, precision=INT8 if int8 else "fp32"):
        return (
            f"{run.folder.name} has no {kind} that is what its parity report says: it has changed, or is of other "
            f"weights; make it again with: {command}"
        )
    return f"{run.folder.name} has no verified {kind}; make one with: {command}"
