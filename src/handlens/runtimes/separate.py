"""An exported model run in a process without PyTorch and without handlens."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from handlens.errors import InputError
from handlens.runtimes.alone import OPTIONS, environment
from handlens.runtimes.int8 import Kernels
from handlens.runtimes.runtime import UNREADABLE, Runtime

FASTEST = Kernels("those that are fastest here")
OUTSIDE = Path(__file__).with_name("outside.py")


def run_outside(
    model: Path,
    runtime: Runtime,
    *,
    precision: str,
    pixels: Path,
    kernels: Kernels = FASTEST,
    images: int | None = None,
    done: Callable[[int], None] = lambda images: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a model in a new process that imports its runtime and NumPy only.

    Args:
        pixels: a folder of .npy files, in each of which batches follow each other.
        kernels: other ones than are fastest here.
        images: how many of each file are run; None is all.
        done: told how many images have been run.

    Returns:
        arrays by "file/output"; and runtime (with its version), precision, latency_ms and peak_mb.

    Raises:
        InputError: the runtime cannot read the model, or cannot run it; with what it said last.
    """
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "out.npz"
        parts = (OUTSIDE, runtime.runner, model, pixels, destination, precision, kernels.option, images or sys.maxsize)
        # ONNX Runtime leaves a device identifier in the user's cache: it gets a home that is thrown away.
        homes = {"HOME": folder, "XDG_CACHE_HOME": folder}
        said: list[str] = []
        last = ""
        with subprocess.Popen(
            [sys.executable, *OPTIONS, *map(str, parts)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment() | homes | dict(kernels.environment),
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            reader = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
            reader.start()
            try:
                for line in process.stdout:
                    last = line
                    if line.startswith("done "):
                        done(int(line.removeprefix("done ")))
            except BaseException:
                process.kill()  # after Ctrl-C
                raise
            reader.join()
        errors = "".join(said).strip()
        if process.returncode == UNREADABLE:
            raise InputError(errors.splitlines()[-1] if errors else f"{model} cannot be read.")
        if process.returncode < 0:
            killed = f"{runtime.name} was killed by signal {-process.returncode} while it ran {model.name}"
            raise InputError(f"{killed}; usually it ran out of memory.")
        if process.returncode:
            logging.getLogger("handlens").debug("%s could not run %s:\n%s", runtime.name, model, errors)
            reason = errors.splitlines()[-1] if errors else f"exit code {process.returncode}"
            raise InputError(f"{runtime.name} could not run {model.name}: {reason}")
        with np.load(destination) as loaded:
            return dict(loaded), json.loads(last)
