"""One attack: what lies in the folder, the command, and what must come."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORKS = Path(__file__).with_name("forks.py")
CHECK = ("check", "{data}")
CHECK_JSON = (*CHECK, "--json")
TRAIN = (
    "train",
    "{data}",
    "--out",
    "{out}",
    *["--mode", "scratch", "--width", "0.35", "--image-size", "32", "--workers", "0"],
)
PREDICT = ("predict", "{run}", "{data}", "--json")
MEGABYTES = 1500  # beyond what is imported, and the engine's
READ_IN_FULL = 4 << 20  # bytes: larger files are compared by size and time
# Control characters reach no terminal; of those that turn text around or hide it neither.
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

Make = Callable[[Path], Any]
Verify = Callable[["Outcome"], None]


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        make: writes the data into an empty folder; {data} in the command.
        prepare: changes a copy of a run folder, which then is {run}; None: {run} is as it was trained.
        exit: codes that may come.
        says: regular expressions, each of which must be found in what is printed.
        verify: further checks.
        own_process: started as users start it, for what an interpreter decides at its start.
        inside: started in the data's folder.
    """

    name: str
    make: Make
    command: tuple[str, ...] = CHECK
    exit: tuple[int, ...] = (1, 2)
    says: tuple[str, ...] = ()
    prepare: Make | None = None
    verify: Verify | None = None
    seconds: float = 20
    megabytes: int = MEGABYTES
    environment: dict[str, str] = field(default_factory=dict)
    own_process: bool = False
    inside: bool = False


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        exit: None where it had to be killed.
        changed: files of the data that are not what they were.
    """

    case: Case
    exit: int | None
    seconds: float
    megabytes: float
    stdout: str
    stderr: str
    changed: tuple[str, ...]
    folder: Path

    def lines(self) -> list[dict[str, Any]]:
        """Of a command with JSON lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def faults(self) -> list[str]:
        """What did not hold, a sentence each."""
        case, printed = self.case, self.stdout + self.stderr
        found = []
        if self.exit is None:
            found.append(f"did not end within {case.seconds} s")
        elif self.exit < 0:
            found.append(f"ended by signal {-self.exit}")
        elif self.exit not in case.exit:
            found.append(f"exit {self.exit}, not {case.exit}")
        if "Traceback (most recent call last)" in printed:
            found.append("traceback")
        if self.megabytes > case.megabytes:
            found.append(f"took {self.megabytes:.0f} MB")
        if unsafe := UNSAFE.search(printed):
            found.append(f"printed {unsafe[0]!r}")
        if self.changed:
            found.append(f"changed {', '.join(self.changed)}")
        found += [f"does not say {pattern!r}" for pattern in case.says if not re.search(pattern, printed)]
        if case.verify is not None and not found:
            try:
                case.verify(self)
            except (AssertionError, ValueError, KeyError, IndexError, TypeError) as error:
                found.append(f"{type(error).__name__}: {str(error)[:300]}")
        return found


class Runner:
    """Runs cases, one after the other."""

    def __init__(self, run: Path) -> None:
        """
        Args:
            run: a finished run folder, which is never changed.
        """
        self.run_folder = run
        self._forks: subprocess.Popen[str] | None = None

    def __call__(self, case: Case, folder: Path) -> Outcome:
        """
        Args:
            folder: empty; the data, the run and what is printed lie in it.
        """
        data, run = folder / "data", self.run_folder
        data.mkdir()
        (folder / "tmp").mkdir()
        case.make(data)
        if case.prepare is not None:
            run = folder / "run"
            subprocess.run(["cp", "-r", self.run_folder, run], check=True)
            case.prepare(run)
        before = _contents(data)
        places = {"data": str(data), "run": str(run), "out": str(folder / "out"), "here": str(folder)}
        arguments = [word.format(**places) for word in case.command]
        environment = {
            "XDG_CACHE_HOME": str(folder / "cache"),
            "HOME": str(folder),
            "MALLOC_ARENA_MAX": "2",
            "OMP_NUM_THREADS": "1",
            **{key: value.format(**places) for key, value in case.environment.items()},
        }
        stdout, stderr = folder / "stdout", folder / "stderr"
        if case.own_process:
            done = self._in_own_process(case, arguments, environment, folder, start=data if case.inside else folder)
        else:
            done = self._in_fork(case, arguments, environment, folder, start=data if case.inside else folder)
        after = _contents(data)
        return Outcome(
            case,
            done["exit"],
            done["seconds"],
            done["megabytes"],
            stdout.read_bytes().decode(case.environment.get("PYTHONIOENCODING", "utf-8"), "backslashreplace"),
            stderr.read_bytes().decode("utf-8", "backslashreplace"),
            tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))),
            folder,
        )

    def close(self) -> None:
        if self._forks is not None:
            self._forks.communicate()  # its input ends, and so it does

    def _in_fork(
        self, case: Case, arguments: list[str], environment: dict[str, str], folder: Path, *, start: Path
    ) -> dict[str, Any]:
        if self._forks is None or self._forks.poll() is not None:
            self._forks = subprocess.Popen(
                [sys.executable, str(FORKS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._forks.stdin is not None and self._forks.stdout is not None
        asked = {
            "arguments": [os.fsencode(word).decode("utf-8", "surrogateescape") for word in arguments],
            "folder": str(start),
            "environment": environment,
            "seconds": case.seconds,
            "stdout": str(folder / "stdout"),
            "stderr": str(folder / "stderr"),
        }
        self._forks.stdin.write(json.dumps(asked) + "\n")
        self._forks.stdin.flush()
        answer: dict[str, Any] = json.loads(self._forks.stdout.readline())
        return answer

    def _in_own_process(
        self, case: Case, arguments: list[str], environment: dict[str, str], folder: Path, *, start: Path
    ) -> dict[str, Any]:
        command = [sys.executable, "-m", "handlens", *arguments]
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=start,
                    env=os.environ | environment,
                    timeout=3 * case.seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"exit": None, "seconds": case.seconds, "megabytes": 0.0}
        return {"exit": done.returncode, "seconds": 0.0, "megabytes": 0.0}


def _contents(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What every file below a folder is, by its path; nothing that could wait for ever is opened."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode) and status.st_size <= READ_IN_FULL:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[repr(str(path.relative_to(folder)))] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def has_class(outcome: Outcome, name: str) -> None:
    """Of `check --json`: to verify a Case."""
    told = json.loads(outcome.stdout)["class_names"]
    assert name in told, told
