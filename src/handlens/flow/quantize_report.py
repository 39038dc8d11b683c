"""quantize-report: which layers int8 hurts, and what leaving them in float gives and costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError, nearest, require
from handlens.files import write_bytes
from handlens.flow.calibration import calibration_images
from handlens.flow.export import known_target
from handlens.flow.judge import Judge
from handlens.flow.kept_float import time_files
from handlens.flow.runs import build_from, find_run
from handlens.flow.source import source_of
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.runtimes import RUNTIMES
from handlens.training.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from handlens.quantization.sensitivity import LayerError
    from handlens.quantization.simulation import Simulation
    from handlens.runtimes.int8 import Setting
    from handlens.runtimes.runtime import Runtime

IMAGES = 16
KEPT = (0, 1, 2, 4, 8, 16)  # how many of the worst layers are left in float, a row each


@shows_progress
def quantize_report(
    run: Path | str | Run,
    *,
    to: str,
    setting: str | None = None,
    data: Path | str | None = None,
    calibrate: Path | str | None = None,
    images: int = IMAGES,
    time: bool = False,
    plot: Path | str | None = None,
    model: Any = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Simulate a runtime's int8 in PyTorch, layer by layer. No file is kept, and no test image is looked at
    where there are others.

    Args:
        to: a name of RUNTIMES.
        setting: a name of its settings; None is the one that is tried first.
        data: images to measure on, labeled or not; None is the run's own validation images, or else those of
            `calibrate`.
        calibrate: as of `export`.
        images: how many of them.
        time: also have the runtime's own quantizer write a file for each number of layers left in float, and time them.
        plot: where the error of every layer is drawn, as PNG.
        model: as of `export`.

    Returns:
        "run", "task", "to", "setting", "images", "metric" (its name; None without labels), "reference" (its value in
        float), "layers": dicts of quantization.sensitivity.LayerError, the worst first, and "kept": a row for each
        number of layers left in float: "layers" (their number), "signal_db", "changed", "score", "extra_bytes",
        "multiply_adds" (fraction of all), and with `time` also "mb", "ms" and "processor_ms" (`flow.kept_float`);
        "float32": with `time` the same three of the float32 file, otherwise None.

    Raises:
        InputError: no such run, runtime or setting, there are no images, the net cannot be simulated, or the runtime
            does not take it.
    """
    require("torch", extra="train", what="quantize-report")
    from handlens.quantization.sensitivity import errors_by_layer, normalized, simulate
    from handlens.runtimes.graph import DeployGraph
    from handlens.training.optim import keep_freed_memory

    run = find_run(run, report=report)
    runtime = RUNTIMES[known_target(to)]
    chosen = setting_of(runtime, setting)
    if images < 1:
        raise InputError(f"--images must be at least 1, got {images}.")
    net = build_from(run, model)
    keep_freed_memory()
    calibration = calibration_images(run, None if calibrate is None else Path(calibrate))
    judge = Judge(run, net, data=data, otherwise=calibration, images=images, report=report)
    report.say(
        f"Simulating int8 as {runtime.name} rounds ({chosen.name}), calibrated on {len(calibration)} images, "
        f"measured on {len(judge.pixels)}."
    )
    report.progress("layers in int8", 0, None)
    simulation = simulate(net, normalized(calibration, run.preprocess), chosen.scheme)
    inputs = normalized(judge.pixels, run.preprocess)
    errors = errors_by_layer(simulation, inputs, changed=judge.changed, report=report)
    kept = list(_kept(simulation, inputs, errors, judge, report))
    whole = None
    if time:
        graph = DeployGraph(net, run.preprocess, last_step=judge.task.last_step)
        names = [[error.name for error in errors[: row["layers"]]] for row in kept]
        whole, *times = time_files(
            run, runtime, source_of(run, graph), chosen, images=calibration, kept=names, report=report
        )
        kept = [row | its for row, its in zip(kept, times, strict=True)]
    if plot is not None:
        from handlens.quantization.plot import errors_plot

        order = list(dict.fromkeys(layer.name for layer in simulation.layers))
        title = f"{run.folder.name}, {runtime.name} ({chosen.name}), {len(judge.pixels)} images"
        write_bytes(Path(plot), errors_plot(sorted(errors, key=lambda error: order.index(error.name)), title=title))
    return {
        "run": run.folder.name,
        "task": run.task,
        "to": runtime.name,
        "setting": chosen.name,
        "images": len(judge.pixels),
        "metric": None if judge.reference is None else judge.task.metric_title,
        "reference": judge.reference,
        "layers": [error.to_dict() for error in errors],
        "kept": kept,
        "float32": whole,
    }


def setting_of(runtime: Runtime, name: str | None) -> Setting:
    """
    Raises:
        InputError: the runtime has no int8, or no setting of this name.
    """
    if not runtime.int8:
        fitting = ", ".join(to for to, other in RUNTIMES.items() if other.int8)
        raise InputError(f"int8 is not available for {runtime.name}; use --to {fitting}.")
    settings = {setting.name: setting for setting in runtime.int8}
    if name is not None and name not in settings:
        raise InputError(f"{runtime.name} has no int8 setting {name!r}; {nearest(name, settings)}.")
    return runtime.int8[0] if name is None else settings[name]


def _kept(
    simulation: Simulation, inputs: Tensor, errors: list[LayerError], judge: Judge, report: Reporter
) -> Iterator[dict[str, Any]]:
    """With more and more of the worst layers in float."""
    from handlens.flow.judge import in_batches
    from handlens.quantization.sensitivity import decibels, noise_of

    def outputs(names: list[str] | None) -> list[Any]:
        simulation.keep_float(names)
        return list(in_batches(simulation, inputs))

    whole = outputs(None)
    reference = judge.together(whole)
    judge.reference = judge.score(reference)
    numbers = [number for number in KEPT if number < len(errors)]
    total = sum(error.multiply_adds for error in errors)
    for done, number in enumerate(numbers, start=1):
        report.progress("layers left in float", done, len(numbers))
        parts = outputs([error.name for error in errors[:number]])
        counts = [min(simulation.batch, len(inputs) - simulation.batch * place) for place in range(len(parts))]
        noises = [noise_of(part, base, count) for part, base, count in zip(parts, whole, counts, strict=True)]
        values = judge.together(parts)
        yield {
            "layers": number,
            "signal_db": decibels(
                sum(noise * count for noise, count in zip(noises, counts, strict=True)) / len(inputs)
            ),
            "changed": judge.changed_labels(values, reference),
            "score": judge.score(values),
            "extra_bytes": sum(error.extra_bytes for error in errors[:number]),
            "multiply_adds": sum(error.multiply_adds for error in errors[:number]) / total,
        }
