"""What layers that stay in float cost in a runtime's own file: bytes and milliseconds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.flow.source import one_sentence
from handlens.reporter import Reporter
from handlens.runtimes.source import Source
from handlens.timing.contender import Contender
from handlens.timing.race import race

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlens.runtimes.int8 import Setting
    from handlens.runtimes.runtime import Runtime
    from handlens.training.run import Run

ROUNDS = 10


def time_files(
    run: Run,
    runtime: Runtime,
    source: Source,
    setting: Setting,
    *,
    images: NDArray[np.uint8],
    kept: Sequence[Sequence[str]],
    report: Reporter,
) -> list[dict[str, Any]]:
    """Write the float32 file, and one in int8 for each choice of layers that stay in float, and time them in turn:
    one image, one thread.

    Args:
        images: (N, height, width, C) uint8, for calibration.
        kept: names of layers, one choice after the other.

    Returns:
        {"mb" (10^6 bytes), "ms" (median), "processor_ms"} of the float32 file, then of each choice.

    Raises:
        InputError: the packages for it are not installed, the runtime cannot take the model, or a file does not run.
    """
    preprocess = source.preprocess
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    total = len(kept) + 1
    with tempfile.TemporaryDirectory(prefix="handlens-kept") as scratch:
        paths = [Path(scratch) / str(place) / f"model{runtime.suffix}" for place in range(total)]
        for path in paths:
            path.parent.mkdir()
        whole, *others = paths
        report.say(f"Writing {total} files for {runtime.name}.")
        report.progress("writing files", 0, total)
        with one_sentence(run, runtime):
            runtime.convert(source, whole, report=report)
        for place, (path, names) in enumerate(zip(others, kept, strict=True), start=1):
            report.progress("writing files", place, total)
            with one_sentence(run, runtime):
                runtime.quantize(source, whole, path, images=images, setting=setting, keep_float=names, report=report)
        sizes = [sum(file.stat().st_size for file in runtime.files(path)) / 1e6 for path in paths]
        contenders = [Contender(path.parent.name, runtime.runner, path, shape) for path in paths]
        rows, failed = race(contenders, threads=[1], batches=[1], rounds=ROUNDS, report=report)
    if failed:
        raise InputError(failed[0].reason)
    by_name = {row.name: row for row in rows}
    found = [by_name[contender.name] for contender in contenders]
    return [
        {"mb": size, "ms": row.median_ms, "processor_ms": row.processor_ms}
        for size, row in zip(sizes, found, strict=True)
    ]
