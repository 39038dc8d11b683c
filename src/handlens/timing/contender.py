"""The side of a benchmark that starts a contender's process and tells it when to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlens.errors import InputError
from handlens.runtimes.alone import OPTIONS, environment
from handlens.runtimes.runtime import UNREADABLE

SCRIPT = Path(__file__).with_name("contender_script.py")
SOURCES = Path(__file__).resolve().parents[2]
MOST_THREADS = 1024


@dataclass(frozen=True)
class Contender:
    """What is timed.

    Attributes:
        name: in tables.
        runner: a file with a class Model, as each runtime has one.
        model: what it opens.
        shape: (height, width, channels) of an image.
        precision: handed to the runner.
        alone: its process can import neither handlens nor what lies in PYTHONPATH, and begins with empty caches.
        informs: it is left out where it computes in the same precision as another of its name: only "auto" can say.
    """

    name: str
    runner: Path
    model: Path
    shape: tuple[int, int, int]
    precision: str = "fp32"
    alone: bool = True
    informs: bool = False


@dataclass(frozen=True)
class Turn:
    """
    Attributes:
        seconds: of each run of one batch.
        processor: seconds of processor time of all runs together, on all cores.
        peak_mb: memory of the process at most so far, 10^6 bytes; None where the system does not say.
    """

    seconds: tuple[float, ...]
    processor: float
    peak_mb: float | None


class Started:
    """A contender's process, after its first answer.

    Args:
        threads: that it may use.
        scratch: a folder for what it caches.

    Attributes:
        first: seconds from the start of the process to its first answer.
        runtime, precision: what computes, and in what, in its own words.
        peak_mb: as in Turn, after the first answer.

    Raises:
        InputError: it cannot read the model, or it died; with what it said last.
    """

    def __init__(self, contender: Contender, *, threads: int, scratch: Path) -> None:
        self.contender, self.threads = contender, threads
        shape = map(str, contender.shape)
        isolated = OPTIONS if contender.alone else []
        command = [sys.executable, *isolated, str(SCRIPT), str(contender.runner), str(contender.model)]
        # ONNX Runtime leaves a device identifier in the user's cache.
        homes = {name: str(scratch) for name in ("HOME", "XDG_CACHE_HOME")}
        if not contender.alone:
            search = os.pathsep.join([str(SOURCES), *sys.path])
            homes = {"PYTHONPATH": search, "TORCHINDUCTOR_CACHE_DIR": str(scratch)}
        self._said = tempfile.TemporaryFile("w+", errors="replace", encoding="utf-8")  # noqa: SIM115 - closed by close
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [*command, contender.precision, str(threads), *shape],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=(environment() if contender.alone else os.environ) | homes,
        )
        described = self._answer()
        self.first = time.perf_counter() - begin
        self.runtime, self.precision = described["runtime"], described["precision"]
        self.peak_mb = described["peak_mb"]

    def take(self, *, batch: int, count: int) -> Turn:
        """Run a batch of so many images so many times, after one run that is not timed.

        Raises:
            InputError: it died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{batch} {count}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        answer = self._answer()
        return Turn(tuple(answer["seconds"]), answer["processor"], answer["peak_mb"])

    def close(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:  # it was gone before it was told something
                continue
        self._process.wait()
        self._said.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> InputError:
        code = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        self.close()
        name = self.contender.name
        if code < 0:
            return InputError(f"{name} was killed by signal {-code}; usually it ran out of memory.")
        last = lines[-1] if lines else f"it ended with exit code {code}"
        return InputError(last if code == UNREADABLE else f"{name} could not run: {last}")
