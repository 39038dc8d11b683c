"""Fewer bits: fp16; what int8 is calibrated with, and the search for a setting of it that costs little."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from handlens.data import open_dataset, walk
from handlens.data.decode import UnreadableImageError, decode
from handlens.errors import InputError
from handlens.files import read_json
from handlens.reporter import Reporter
from handlens.runtimes.int8 import NET
from handlens.training.run import DATA, Run, kept_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.flow.gate import Gate
    from handlens.runtimes.delegation import Delegation
    from handlens.runtimes.int8 import Setting
    from handlens.runtimes.runtime import Runtime
    from handlens.runtimes.source import Source

T = TypeVar("T")
CALIBRATION = 128  # images
MEASURED = 16  # images that tell which layers hurt


def calibration_images(run: Run, folder: Path | str | None) -> NDArray[np.uint8]:
    """(N, height, width, C) uint8, at most CALIBRATION images: of a folder, or of the run's training split.

    Never of its validation or test images.

    Raises:
        InputError: there are none, or none can be read.
    """
    paths = _training_images(run) if folder is None else list(_spread(list(walk([Path(folder)])), CALIBRATION))
    found: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            found.append(run.preprocess.pixels(decode(path)))
        except UnreadableImageError:  # check names them
            continue
    if not found:
        raise InputError(f"{folder or run.folder} has no images to calibrate int8 with; give some with --calibrate.")
    return np.stack(found)


def _training_images(run: Run) -> list[Path]:
    """Spread evenly over the classes, where an image has one, and within each."""
    trained_on = run.model.data
    if trained_on is None or not Path(trained_on.root).exists():
        raise InputError(
            f"int8 is calibrated on training images, and those of {run.folder.name} are not here; give images that are "
            "like them with --calibrate FOLDER."
        )
    started = read_json(run.folder / DATA)
    dataset = open_dataset(
        Path(trained_on.root), format=started["format"], config=kept_config(run.folder), task=run.task
    )
    training = set(started["splits"].get("train", ()))
    of_class: dict[Any, list[Path]] = defaultdict(list)
    for record in dataset.records:
        if record.id in training:
            of_class[record.label if isinstance(record.label, int) else None].append(record.path)
    classes = list(_spread(list(of_class.values()), CALIBRATION))
    each = -(-CALIBRATION // max(1, len(classes)))
    rounds = zip_longest(*(_spread(paths, each) for paths in classes))
    return [path for paths in rounds for path in paths if path is not None][:CALIBRATION]


def _spread(items: Sequence[T], count: int) -> Iterator[T]:
    """At most so many of them, evenly."""
    return (items[int(i)] for i in np.linspace(0, len(items) - 1, min(count, len(items))))


def halve(runtime: Runtime, source: Source, file: Path, *, report: Reporter) -> tuple[Path, Delegation | None]:
    """The fp16 form of a float32 file, under its name in a folder beside it, and which operators are delegated."""
    report.say("Rounding weights to 16 bits.")
    folder = file.parent / "fp16"
    folder.mkdir()
    made = folder / file.name
    return made, runtime.halve(source, file, made, report=report)


def quantize(
    gate: Gate,
    runtime: Runtime,
    source: Source,
    file: Path,
    *,
    images: NDArray[np.uint8],
    max_drop: float,
    keep_float: int = 0,
) -> tuple[list[dict[str, Any]], Delegation | None]:
    """Try the runtime's settings on the validation images until one loses no more than `max_drop`; else keep the best.

    Args:
        file: a float32 file of this runtime, in whose place the int8 file is put.
        max_drop: a fraction of the metric, where there are labels.
        keep_float: how many of the layers that hurt most are left in float.

    Returns:
        the settings that were tried: setting, why, images, equal, score, reference_score, passed, size_mb, latency_ms,
        chosen, keep_float (names of layers); and which operators are delegated in the chosen one.

    Raises:
        InputError: the packages for it are not installed, or no setting gives numbers.
    """
    report = gate.report
    tried: list[dict[str, Any]] = []
    best, best_value, its_delegation = file, -np.inf, None
    for place, setting in enumerate(runtime.int8):
        report.say(f"Quantizing with {setting.name} ({setting.why}).")
        report.progress("quantizing", 0, None)
        folder = file.parent / f"setting {place}"
        folder.mkdir()
        made = folder / file.name
        kept = _worst_layers(source, setting, images, keep_float, report) if keep_float else []
        delegation = runtime.quantize(
            source, file, made, images=images, setting=setting, keep_float=kept, report=report
        )
        row = gate.compare_on_validation(made, runtime, max_drop=max_drop).rows[0]
        tried.append(
            {"setting": setting.name, "why": setting.why, "images": row.images, "equal": row.equal}
            | {"score": row.score, "reference_score": row.reference_score, "passed": row.passed}
            | {"size_mb": row.size_mb, "latency_ms": row.latency_ms, "chosen": False, "keep_float": kept}
        )
        value = row.equal if row.reference_score is None else -np.inf if row.score is None else row.score
        if value > best_value:
            best, best_value, its_delegation = made, value, delegation
            for entry in tried:
                entry["chosen"] = entry is tried[-1]
        if row.passed:
            break
    if best is file:
        raise InputError(f"int8 for {runtime.name}: no setting gave numbers.")
    for old, new in zip(runtime.files(best), runtime.files(file), strict=True):
        old.replace(new)
    return tried, its_delegation


def _worst_layers(
    source: Source, setting: Setting, images: NDArray[np.uint8], count: int, report: Reporter
) -> list[str]:
    """Names of the layers that hurt most when they alone are quantized, as `quantize-report` finds them."""
    from handlens.quantization.sensitivity import layers_that_hurt

    errors = layers_that_hurt(
        source.graph.get_submodule(NET),
        source.preprocess,
        images[:MEASURED],
        setting.scheme,
        calibration=images,
        report=report,
    )
    known = dict(source.graph.get_submodule(NET).named_modules())
    names = [error.name for error in errors if error.name in known][:count]
    report.say(f"Left in float: {', '.join(names)}.")
    return names
