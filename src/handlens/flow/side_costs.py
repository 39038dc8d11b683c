"""What models cost, side by side: parameters, multiply-adds, bytes, and milliseconds on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlens.errors import InputError
from handlens.flow.same_images import Compared
from handlens.reporter import Reporter
from handlens.runtimes import runtime_of
from handlens.timing.contender import Contender
from handlens.timing.race import race

ROUNDS = 5  # turns of a quarter of a second each


@dataclass(frozen=True)
class Cost:
    """Of one model; None where something is not known.

    Attributes:
        parameters, multiply_adds: of the network, per image at its input size.
        file_mb: of what predicts, 10^6 bytes.
        latency_ms: median of one image on one thread, without decoding and resizing.
    """

    parameters: int | None
    multiply_adds: int | None
    file_mb: float
    latency_ms: float | None


def costs(
    compared: Sequence[Compared], *, precision: str, latency: bool, report: Reporter
) -> tuple[list[Cost], list[str]]:
    """The cost of each, and sentences about what could not be counted or timed.

    Args:
        latency: time them, in turn, each in a process of its own.
    """
    notes: list[str] = []
    times: dict[str, float] = {}
    if latency:
        contenders = [_contender(entry, precision) for entry in compared]
        try:
            rows, failed = race(contenders, threads=[1], batches=[1], rounds=ROUNDS, report=report)
        except InputError as error:
            notes.append(f"No latency was measured: {error}")
        else:
            times = {row.name: row.median_ms for row in rows}
            notes += [f"No latency of {entry.name}: {entry.reason}" for entry in failed]
    counts: dict[Path, tuple[int, int] | None] = {}
    found = []
    for entry in compared:
        runtime = runtime_of(entry.run.engine)
        assert runtime is not None
        size = sum(path.stat().st_size for path in runtime.files(entry.run.engine))
        if entry.origin is not None and entry.origin.folder not in counts:
            counts[entry.origin.folder] = _counted(entry, notes)
        count = None if entry.origin is None else counts[entry.origin.folder]
        parameters, multiply_adds = count or (None, None)
        found.append(Cost(parameters, multiply_adds, size / 1e6, times.get(entry.name)))
    if find_spec("torch") is None:
        notes.append("Parameters and multiply-adds are counted by PyTorch: pip install 'handlens[train]'.")
    return found, notes


def _contender(entry: Compared, precision: str) -> Contender:
    run = entry.run
    runtime = runtime_of(run.engine)
    assert runtime is not None
    shape = (run.preprocess.height, run.preprocess.width, 3 if run.resizes else run.preprocess.channels)
    asked = precision if precision in runtime.precisions else runtime.precisions[0]
    return Contender(entry.name, runtime.runner, run.engine.resolve(), shape, asked)


def _counted(entry: Compared, notes: list[str]) -> tuple[int, int] | None:
    """(parameters, multiply-adds); None where PyTorch is not installed or the model cannot be built here."""
    if find_spec("torch") is None:
        return None
    from handlens.flow.counting import count
    from handlens.flow.runs import build_from

    origin = entry.origin
    assert origin is not None
    shape: dict[str, Any] = {
        "height": origin.preprocess.height,
        "width": origin.preprocess.width,
        "channels": origin.preprocess.channels,
    }
    try:
        cost = count(build_from(origin), entry.name, **shape).cost
    except InputError as error:  # for example one's own model, whose module is not here
        notes.append(f"Parameters and multiply-adds of {entry.name} are not known: {error}")
        return None
    return cost.parameters, cost.multiply_adds
