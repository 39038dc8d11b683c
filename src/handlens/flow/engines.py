"""Which of its files a run is predicted with fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handlens.errors import InputError, ParityError
from handlens.machine import cores
from handlens.prediction.engines import Speed, candidates, faster, keep_ranking, keep_speeds, known_ranking
from handlens.reporter import Reporter
from handlens.runtimes import RUNTIMES, runtime_of
from handlens.timing import stream_runner
from handlens.timing.contender import Contender
from handlens.timing.race import race
from handlens.training.run import Run, open_run

STREAM = 16  # images that follow each other in one run, per core
ROUNDS = 6
PROOF = 32  # images that an export after training is compared on


def measure_engines(run: Run, *, report: Reporter) -> list[dict[str, Any]]:
    """Time the run's engine and its proved exports in turn, as `predict` runs them, and remember it on this machine.

    Returns:
        per file {"name", "file", "int8", "runtime", "precision", "first_s" (seconds from nothing to the first
        prediction), "images_per_second"}; empty where there is nothing to choose from.
    """
    found = candidates(run)
    if len(found) == 1:
        return []
    preprocess, stream = run.preprocess, STREAM * cores()
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    runner = Path(str(stream_runner.__file__))
    contenders = [
        Contender(str(place), runner, one.path.resolve(), shape, "auto", alone=False) for place, one in enumerate(found)
    ]
    report.say("Timing the run's files as predict runs them.")
    rows, failed = race(contenders, threads=[cores()], batches=[stream], rounds=ROUNDS, report=report)
    for entry in failed:
        report.say(f"Not timed: {found[int(entry.name)].path.name}: {entry.reason}")
    speeds = {row.name: Speed(row.first_s, row.images_per_second, row.precision) for row in rows}
    described = {row.name: row for row in rows}
    # The run's own engine is the first, and stays where an export is for the same runtime.
    timed = [(one, speeds[str(place)]) for place, one in enumerate(found) if str(place) in speeds and not one.int8]
    floats = {one.runtime: speed for one, speed in reversed(timed)}
    try:
        keep_speeds(run, {found[int(name)].digest: speed for name, speed in speeds.items()})
        keep_ranking(run, floats)
    except OSError as error:
        report.say(f"predict will not know these speeds, because they cannot be kept: {error}")
    return [
        {
            "name": one.runtime,
            "file": str(one.path),
            "int8": one.int8,
            "runtime": described[str(place)].runtime,
            "precision": described[str(place)].precision,
            "first_s": speeds[str(place)].first_s,
            "images_per_second": speeds[str(place)].images_per_second,
        }
        for place, one in enumerate(found)
        if str(place) in described
    ]


def add_fastest(folder: Path, *, report: Reporter) -> None:
    """Export a run to the runtime that `handlens bench` has found to be fastest here for such a model, if it is another
    than that of the run's engine and its converter is there. `predict` then takes that file."""
    run = open_run(folder)
    ranking = known_ranking(run)
    own = runtime_of(run.engine)
    assert own is not None
    best = own.name
    for name, speed in ranking.items():
        if name in RUNTIMES and faster(speed, ranking.get(best), few=False):
            best = name
    if best == own.name or RUNTIMES[best].missing() is not None:
        return
    from handlens.flow.export import export

    report.say(f"{best} is the fastest here for such a model (handlens bench): exporting to it, for predict.")
    try:
        export(run, to=best, images=PROOF, app=False, report=report)
        known = {candidate.digest: ranking[candidate.runtime] for candidate in candidates(run) if not candidate.int8}
        keep_speeds(run, known)
    except (InputError, ParityError, RuntimeError, OSError, MemoryError) as error:  # the training is done in any case
        report.say(f"Without {best}, because {error}")
