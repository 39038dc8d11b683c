"""Which of its files a run is predicted with fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handlens.machine import cores
from handlens.prediction.engines import Speed, candidates, keep_speeds
from handlens.reporter import Reporter
from handlens.timing import stream_runner
from handlens.timing.contender import Contender
from handlens.timing.race import race
from handlens.training.run import Run

STREAM = 16  # images that follow each other in one run, per core
ROUNDS = 6


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
    rows, _ = race(contenders, threads=[cores()], batches=[stream], rounds=ROUNDS, report=report)
    speeds = {row.name: Speed(row.first_s, row.images_per_second) for row in rows}
    keep_speeds(run, {found[int(name)].digest: speed for name, speed in speeds.items()})
    described = {row.name: row for row in rows}
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
