"""A process that has imported everything and forks itself for each command: a case costs no start of Python, may crash,
hang or take all memory, and leaves nothing behind for the next.

It reads one JSON object per line (`arguments`, `folder`, `environment`, `seconds`, `stdout`, `stderr`) and answers each
with one: `exit` (below 0: the signal that ended it; null: it had to be killed for its time), `seconds`, `megabytes`
beyond what was imported.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from typing import Any

ADDRESS_SPACE = 6 << 30  # bytes beyond what is mapped: a runaway ends in MemoryError rather than in the machine's end


def main() -> None:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import handlens.flow.bench
    import handlens.flow.evaluate
    import handlens.flow.export
    import handlens.flow.train
    import handlens.tables  # noqa: F401
    from handlens.cli import run

    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        begin, before = time.monotonic(), _resident()
        child = os.fork()
        if child == 0:
            _command(run, asked)
        killed = threading.Event()

        def kill(child: int = child, killed: threading.Event = killed) -> None:
            killed.set()
            os.killpg(child, signal.SIGKILL)

        watchdog = threading.Timer(asked["seconds"], kill)
        watchdog.start()
        _, status, used = os.wait4(child, 0)
        watchdog.cancel()
        print(
            json.dumps(
                {
                    "exit": None if killed.is_set() else os.waitstatus_to_exitcode(status),
                    "seconds": time.monotonic() - begin,
                    "megabytes": max(0, used.ru_maxrss - before) / 1024,
                }
            ),
            file=replies,
            flush=True,
        )


def _command(run: Any, asked: dict[str, Any]) -> None:
    """Run the command and end this process."""
    code = 99
    try:
        os.setpgid(0, 0)
        with open("/proc/self/statm") as file:  # noqa: PTH123 - cheap, and gone at once
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        most = mapped + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        for place, descriptor in (("stdout", 1), ("stderr", 2)):
            file = os.open(asked[place], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        code = run([os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in asked["arguments"]])
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = 98
    sys.stderr.flush()
    os._exit(code)


def _resident() -> int:
    """kB of this process now."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


if __name__ == "__main__":
    main()
