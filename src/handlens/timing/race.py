"""Contenders in turn, round after round, and what came of it."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handlens.errors import InputError
from handlens.reporter import QUIET, Reporter
from handlens.timing.contender import Contender, Started, Turn

TURN = 0.25  # seconds of one turn, about
MOST = 200  # runs in one turn
PAUSE = 0.03  # seconds between turns: threads that wait for more work keep a core busy for a while
STARTS = 3  # of a process, for its first answer
PATIENCE = 4.0  # seconds after which a process that starts slowly is not started once more

Key = tuple[int, int, int]  # contender, threads, batch


@dataclass(frozen=True)
class Measured:
    """One contender with so many threads and images per batch.

    Attributes:
        runtime, precision: in its own words.
        median_ms, p90_ms, mean_ms: of one batch: the median, the 90th percentile, the mean.
        images_per_second: by the median.
        processor_ms: processor time of one image on all cores, milliseconds; the median of the rounds.
        first_s: from the start of the process to the first answer, one image, in seconds; median of the starts.
        peak_mb: memory of the process at most, with this batch and all smaller ones, 10^6 bytes; None where the system
            does not say.
        faster: how many times as fast as the reference, median of the rounds; None without a reference.
    """

    name: str
    runtime: str
    precision: str
    threads: int
    batch: int
    runs: int
    median_ms: float
    p90_ms: float
    mean_ms: float
    images_per_second: float
    processor_ms: float
    first_s: float
    peak_mb: float | None
    faster: float | None


@dataclass(frozen=True)
class Failed:
    """
    Attributes:
        reason: a sentence.
    """

    name: str
    reason: str


def race(
    contenders: Sequence[Contender],
    *,
    threads: Sequence[int],
    batches: Sequence[int],
    rounds: int,
    reference: str | None = None,
    report: Reporter = QUIET,
) -> tuple[list[Measured], list[Failed]]:
    """Time contenders, each with each number of threads in a process of its own, all of them alive at once.

    In every round each takes a turn with each batch size, in an order that turns around from round to round.

    Args:
        batches: images in one run; runtimes whose files take one image at a time take them one after the other.
        reference: the name that `Measured.faster` compares with.

    Raises:
        InputError: not one of them could run; with the first one's reason.
    """
    failed: list[Failed] = []
    with tempfile.TemporaryDirectory() as scratch:
        running: dict[tuple[int, int], Started] = {}
        try:
            first = _start(running, contenders, threads, Path(scratch), failed, report)
            turns, peaks = _rounds(running, sorted(batches), rounds, failed, report)
            rows = _measured(running, turns, peaks, first, reference)
        finally:
            for started in running.values():
                started.close()
    if not rows:
        raise InputError(failed[0].reason if failed else "there is nothing to time.")
    return rows, failed


def _start(
    running: dict[tuple[int, int], Started],
    contenders: Sequence[Contender],
    threads: Sequence[int],
    scratch: Path,
    failed: list[Failed],
    report: Reporter,
) -> dict[tuple[int, int], list[float]]:
    """Fill `running` with processes by (contender, threads).

    Returns:
        the seconds to the first answer of each start.
    """
    first: dict[tuple[int, int], list[float]] = defaultdict(list)
    pairs = [(place, number) for place in range(len(contenders)) for number in threads]
    for again in range(STARTS):
        for done, (place, number) in enumerate(pairs):
            report.progress("starting", again * len(pairs) + done, STARTS * len(pairs))
            contender = contenders[place]
            if again and ((place, number) not in running or sum(first[place, number]) > PATIENCE):
                continue
            if any(entry.name == contender.name for entry in failed):
                continue
            home = scratch / f"{place}-{number}-{again}"
            home.mkdir()
            try:
                started = Started(contender, threads=number, scratch=home)
            except InputError as error:
                failed.append(Failed(contender.name, str(error)))
                continue
            first[place, number].append(started.first)
            if again or _known(started, running.values()):
                started.close()
            else:
                running[place, number] = started
    for key in [key for key, started in running.items() if any(f.name == started.contender.name for f in failed)]:
        running.pop(key).close()
    return first


def _known(started: Started, running: Iterable[Started]) -> bool:
    """Whether it only informs, and computes as another one of the same model does."""
    return started.contender.informs and any(
        other.contender.model == started.contender.model and other.precision == started.precision for other in running
    )


def _rounds(
    running: dict[tuple[int, int], Started],
    batches: Sequence[int],
    rounds: int,
    failed: list[Failed],
    report: Reporter,
) -> tuple[dict[Key, list[Turn]], dict[Key, float | None]]:
    """The turns, and the memory each process had taken when it met a batch size first."""
    turns: dict[Key, list[Turn]] = defaultdict(list)
    counts: dict[Key, int] = {}
    peaks: dict[Key, float | None] = {}
    keys = [(*pair, batch) for batch in batches for pair in running]
    total, done = (1 + rounds) * len(keys), 0
    for round_number in range(1 + rounds):
        # The first round says how many runs a turn takes, and finds memory and places: it does not count.
        for key in keys if round_number % 2 == 0 else reversed(keys):
            done += 1
            report.progress("timing", done, total)
            *pair, batch = key
            started = running.get((pair[0], pair[1]))
            if started is None:
                continue
            time.sleep(PAUSE)
            try:
                turn = started.take(batch=batch, count=counts.get(key, 1))
            except InputError as error:
                failed.append(Failed(started.contender.name, str(error)))
                for other in [other for other in running if other[0] == pair[0]]:
                    running.pop(other).close()
                continue
            if round_number == 0:
                counts[key] = int(np.clip(TURN / turn.seconds[0], 1, MOST))
                peaks[key] = turn.peak_mb
            else:
                turns[key].append(turn)
    return turns, peaks


def _measured(
    running: dict[tuple[int, int], Started],
    turns: dict[Key, list[Turn]],
    peaks: dict[Key, float | None],
    first: dict[tuple[int, int], list[float]],
    reference: str | None,
) -> list[Measured]:
    medians = {key: np.array([np.median(turn.seconds) for turn in taken]) for key, taken in turns.items()}
    rows = []
    for (place, threads, batch), taken in turns.items():
        started = running.get((place, threads))
        if started is None:  # it died
            continue
        seconds = np.concatenate([turn.seconds for turn in taken])
        compared = next(
            (
                medians[other, threads, batch]
                for (other, number), candidate in running.items()
                if candidate.contender.name == reference and number == threads
            ),
            None,
        )
        median = float(np.median(seconds))
        rows.append(
            Measured(
                name=started.contender.name,
                runtime=started.runtime,
                precision=started.precision,
                threads=threads,
                batch=batch,
                runs=len(seconds),
                median_ms=1000 * median,
                p90_ms=1000 * float(np.percentile(seconds, 90)),
                mean_ms=1000 * float(seconds.mean()),
                images_per_second=batch / median,
                processor_ms=1000 * float(np.median([t.processor / len(t.seconds) / batch for t in taken])),
                first_s=float(np.median(first[place, threads])),
                peak_mb=peaks[place, threads, batch],
                faster=None if compared is None else float(np.median(compared / medians[place, threads, batch])),
            )
        )
    return sorted(rows, key=lambda row: (row.threads, row.batch, row.median_ms))
