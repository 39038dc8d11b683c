"""bench: one model in every runtime, or several files, timed side by side."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handlens.errors import InputError, check_numbers, nearest
from handlens.files import write_bytes
from handlens.flow.device import input_shape, printed_row
from handlens.flow.engines import measure_engines
from handlens.flow.runs import build_from, find_run
from handlens.flow.source import one_sentence, source_of
from handlens.machine import cores, describe
from handlens.reading.files import read_bytes
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.runtimes import RUNTIMES, runtime_of
from handlens.runtimes.runtime import Runtime
from handlens.tasks import TASKS
from handlens.timing import pytorch
from handlens.timing.contender import MOST_THREADS, Contender
from handlens.timing.race import Failed, Measured, race
from handlens.training.proved import Proved, proved_files
from handlens.training.run import Run

LARGEST_BATCH = 1024


@shows_progress
def bench(
    models: Path | str | Run | Sequence[Path | str | Run] = (),
    *,
    engines: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    batches: Sequence[int] = (1, 8),
    rounds: int = 10,
    others: Sequence[Contender] = (),
    read: Sequence[Path | str] = (),
    plot: Path | str | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Time a model in every installed runtime and in PyTorch, or exported files, all in turn in one run.

    Args:
        models: run folders, names of pretrained models, or exported files, one or several. Of a run: its engine, its
            proved exports, and what it takes a while to convert into a temporary folder; PyTorch, eager and compiled.
        engines: of runs, names of RUNTIMES, or "pytorch" or "compile"; None is all that are installed. One that is
            named here has its converter installed where it is missing.
        threads: how many a contender may use, each of them; None is 1 and one per core.
        batches: images in one run.
        rounds: turns of each.
        others: further contenders, of yours.
        read: files of what benchmark programs printed on a device; "-" is standard input (`flow.device`).
        plot: a PNG to write.

    Returns:
        {"machine", "rounds", "reference" (what "faster" compares with), "rows" (one per contender, threads and batch:
        `timing.race.Measured`), "left_out" (names and reasons), "predict" (a row for each file that `predict` can take,
        of runs that have exports: `flow.engines.measure_engines`)}. What the last says is remembered on this machine.

    Raises:
        InputError: no such model or engine, nothing that can run, or a number out of range.
    """
    asked = [models] if isinstance(models, (str, Path, Run)) else list(models)
    numbers = check_numbers(sorted({1, cores()}) if threads is None else threads, "threads", MOST_THREADS)
    sizes = check_numbers(batches, "batch", LARGEST_BATCH)
    check_numbers([rounds], "rounds", 10_000)
    known = [*RUNTIMES, *pytorch.ENGINES]
    for name in engines or ():
        if name not in known:
            raise InputError(f"unknown engine {name!r}; {nearest(name, known)}.")
    machine = describe()
    printed = [printed_row(_text_of(source), source=str(source)) for source in read]
    if not asked and not others:
        if not printed:
            raise InputError("bench needs models to time: run folders, names of pretrained models, or exported files.")
        return _result(machine, [], printed, [], [], rounds=0, reference=None, plot=plot)
    with tempfile.TemporaryDirectory(prefix="handlens-bench") as scratch:
        contenders: list[Contender] = []
        predicted: list[dict[str, Any]] = []
        left_out: list[Failed] = []
        for place, model in enumerate(asked):
            run = find_run(model, exported=True, report=report)
            alike = sum(_path(other).name == run.folder.name for other in asked) > 1
            name = str(run.folder) if alike else run.folder.name
            if run.folder.is_file():
                contenders.append(_of_file(run, name, engines))
                continue
            folder = Path(scratch) / str(place)
            folder.mkdir()
            title = f"{name} " if len(asked) > 1 else ""
            made, missing = _of_run(run, engines, folder=folder, title=title, report=report)
            contenders += made
            left_out += missing
            if engines is None or set(engines) & set(RUNTIMES):
                predicted += [{"run": name} | row for row in measure_engines(run, report=report)]
        contenders += others
        if not contenders:
            raise InputError(left_out[0].reason if left_out else "there is nothing to time.")
        _say(contenders, machine, report)
        plain = [entry.name for entry in contenders if entry.name.endswith(pytorch.EAGER_NAME)]
        reference = plain[0] if plain else contenders[0].name
        rows, failed = race(
            contenders, threads=numbers, batches=sizes, rounds=rounds, reference=reference, report=report
        )
    left_out += failed
    return _result(machine, rows, printed, left_out, predicted, rounds=rounds, reference=reference, plot=plot)


def _result(
    machine: dict[str, Any],
    rows: Sequence[Measured],
    printed: Sequence[dict[str, Any]],
    left_out: Sequence[Failed],
    predicted: Sequence[dict[str, Any]],
    *,
    rounds: int,
    reference: str | None,
    plot: Path | str | None,
) -> dict[str, Any]:
    result = {
        "machine": machine,
        "rounds": rounds,
        "reference": reference,
        "rows": [*(asdict(row) for row in rows), *printed],
        "left_out": [asdict(entry) for entry in left_out],
        "predict": list(predicted),
    }
    if plot is not None:
        from handlens.timing.plot import bench_plot

        write_bytes(Path(plot), bench_plot(result))
    return result


def _path(model: Path | str | Run) -> Path:
    return model.folder if isinstance(model, Run) else Path(model)


def _text_of(source: Path | str) -> str:
    content = sys.stdin.buffer.read() if str(source) == "-" else read_bytes(Path(source), "settings")
    return content.decode("utf-8", "replace")  # a device's log may hold anything


def _of_file(run: Run, name: str, engines: Sequence[str] | None) -> Contender:
    runtime = runtime_of(run.folder)
    assert runtime is not None  # find_run has opened it
    if engines is not None and runtime.name not in engines:
        raise InputError(f"{name} is run by {runtime.name}, not by {', '.join(engines)}; --engines is for runs.")
    return Contender(name, runtime.runner, run.folder.resolve(), input_shape(run))


def _of_run(
    run: Run, engines: Sequence[str] | None, *, folder: Path, title: str, report: Reporter
) -> tuple[list[Contender], list[Failed]]:
    """Its engine, its proved exports, conversions for the other runtimes, and PyTorch."""
    shape = input_shape(run)
    files: dict[str, Path] = {}
    own = runtime_of(run.engine)
    assert own is not None
    files[own.name] = run.engine
    smaller: list[Proved] = []
    for proved in proved_files(run):
        if proved.precision == "fp32":
            files.setdefault(proved.runtime.name, proved.path)
        else:
            smaller.append(proved)
    left_out: list[Failed] = []
    wanted = [name for name in RUNTIMES if engines is None or name in engines]
    torch_wanted = [name for name in pytorch.ENGINES if engines is None or name in engines]
    graph = None
    if any(name not in files for name in wanted) or torch_wanted:
        graph = _graph(run, left_out)
    for name in wanted:
        if name not in files and graph is not None:
            reason = _convert(run, graph, RUNTIMES[name], folder / f"model{RUNTIMES[name].suffix}", engines, report)
            if reason is None:
                files[name] = folder / f"model{RUNTIMES[name].suffix}"
            else:
                left_out.append(Failed(f"{title}{name}", reason))
    contenders = []
    for name in wanted:
        runtime = RUNTIMES[name]
        if name in files:
            contenders += [
                Contender(f"{title}{name}", runtime.runner, files[name].resolve(), shape, precision, informs=place > 0)
                for place, precision in enumerate(runtime.precisions)
            ]
        contenders += [
            Contender(f"{title}{name} {proved.precision}", runtime.runner, proved.path.resolve(), shape)
            for proved in smaller
            if proved.runtime is runtime
        ]
    if graph is not None and torch_wanted:
        try:
            contenders += pytorch.contenders(graph, torch_wanted, folder / "module.pt", shape=shape, title=title)
        except Exception as error:  # of pickle and of torch, of many kinds, about a model of one's own
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            left_out.append(Failed(f"{title}{pytorch.EAGER_NAME}", f"the module cannot be saved: {first}"))
    return contenders, left_out


def _graph(run: Run, left_out: list[Failed]) -> Any:
    """The run's DeployGraph; None, with the reason in `left_out`, where PyTorch is not installed."""
    try:
        import torch  # noqa: F401 - asked whether it is there
    except ImportError:
        reason = "PyTorch is not installed, which converts models and is itself timed: pip install 'handlens[train]'"
        left_out.append(Failed("conversions", f"{reason}."))
        return None
    from handlens.runtimes.graph import DeployGraph

    return DeployGraph(build_from(run), run.preprocess, last_step=TASKS[run.task].last_step)


def _convert(
    run: Run, graph: Any, runtime: Runtime, path: Path, engines: Sequence[str] | None, report: Reporter
) -> str | None:
    """Write a run's model for a runtime; the reason, as a sentence, where there is none."""
    missing = runtime.missing()
    if missing is not None and (engines is None or not runtime.installed):
        return f"{runtime.name} lacks {missing}."
    report.say(f"Converting to {runtime.name}.")
    report.progress("converting", 0, None)
    try:
        with one_sentence(run, runtime):
            runtime.convert(source_of(run, graph), path, report=report)
    except (InputError, MemoryError, OSError) as error:
        return str(error) or type(error).__name__
    return None


def _say(contenders: Sequence[Contender], machine: dict[str, Any], report: Reporter) -> None:
    names = list(dict.fromkeys(contender.name for contender in contenders))
    report.say(f"Timing in turn: {', '.join(names)}.")
    if machine["load"] is not None and machine["load"] > 0.5 * (os.cpu_count() or 1):
        report.say(
            f"This machine is busy (load {machine['load']:g} on {machine['cores']} cores): times are inflated; compare "
            "their ratios."
        )
