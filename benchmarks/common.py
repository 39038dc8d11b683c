"""Shared by the benchmarks: locating images, storing results, comparing times.

Machines are noisy, so alternatives run in turn within one process, and ratios of medians are reported.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"


def shared_images(name: str) -> Path:
    """A folder of real images beside the project; ends the benchmark where it is absent."""
    folder = DATA / name
    if not folder.is_dir():
        sys.exit(f"skipped: the real images ../shared/data/{name} are not here")
    return folder


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line for line in lines if line.startswith("flags")), "")
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags.split()]
    return f"{model}, {os.cpu_count()} cores, {' '.join(known)}"


def store(name: str, rows: Sequence[dict[str, Any]], *, notes: Sequence[str] = ()) -> None:
    """Print the rows as a table and keep them as results/<name>-<date>.json."""
    widths = {key: max(len(key), *(len(_text(row.get(key))) for row in rows)) for key in rows[0]}
    print("  ".join(key.ljust(width) for key, width in widths.items()))
    for row in rows:
        print("  ".join(_text(row.get(key)).ljust(width) for key, width in widths.items()))
    for note in notes:
        print(note)
    today = datetime.date.today().isoformat()
    RESULTS.mkdir(exist_ok=True)
    content = {"date": today, "processor": processor(), "notes": list(notes), "rows": list(rows)}
    (RESULTS / f"{name}-{today}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def stored_before(name: str) -> list[dict[str, Any]]:
    """The rows of the newest result, each with the day on which it was measured."""
    newest = max(RESULTS.glob(f"{name}-*.json"), default=None)
    if newest is None:
        return []
    day = newest.stem.removeprefix(f"{name}-")
    return [{"measured": day} | row for row in json.loads(newest.read_text(encoding="utf-8"))["rows"]]


def interleaved(rivals: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """Call every rival once per round, in turn; the median of what each returns."""
    seen: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, measure in rivals.items():
            seen[name].append(measure())
    return {name: statistics.median(values) for name, values in seen.items()}


def handlens(*arguments: str | Path, check: bool = True, **environment: str) -> tuple[float, str]:
    """Run the command line as a user would; (seconds, standard output). With `check`, raises where it fails."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "handlens", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    seconds = time.perf_counter() - begin
    if check and done.returncode:
        raise RuntimeError(f"handlens {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return seconds, done.stdout


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
