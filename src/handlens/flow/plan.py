"""plan: the most accurate design that a budget allows, and the designs that nothing beats."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError, require
from handlens.files import write_bytes
from handlens.flow.counting import Counted, count, counted
from handlens.flow.runs import build_from
from handlens.reporter import QUIET, Reporter
from handlens.tasks import TASKS
from handlens.training.run import open_run

if TYPE_CHECKING:
    from handlens.models.cost import Cost

UNITS = {
    "ram": {"B": 1.0, "kB": 1e3, "KB": 1e3, "KiB": 1024.0, "MB": 1e6, "MiB": 1024.0**2},
    "madds": {"k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9},
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
}
UNITS["flash"] = UNITS["ram"]
EXAMPLES = {"ram": "320kB", "flash": "1MB", "madds": "30M", "latency": "20ms"}
MOST_PARTS = 8  # of an expansion; more only add operators


@dataclass(frozen=True, kw_only=True)
class Design:
    """A model at a width and an input size.

    Attributes:
        name: of the catalogue, or the run folder.
        accuracy: percent; published top-1 on ImageNet in fp32, or a run's on its validation images.
        ram, flash: bytes in int8: maps and bookkeeping of TFLite Micro, and the file.
        latency: ms; of published designs on one big core of a Pixel 1. None where nobody says.
        split: at most so many parts of an expansion; `parts` by block. The other figures but `latency` are with it.
        misses: the budgets that it does not meet.
        best_of_its_kind: no other design is at least as accurate with no more memory and no more multiply-adds.
    """

    name: str
    width: float | None
    size: int
    accuracy: float
    multiply_adds: int
    ram: int
    flash: int
    latency: float | None
    split: int = 1
    parts: dict[str, int]
    misses: tuple[str, ...] = ()
    best_of_its_kind: bool = False


def plan(
    *,
    ram: str | None = None,
    flash: str | None = None,
    madds: str | None = None,
    latency: str | None = None,
    task: str | None = None,
    num_classes: int = 10,
    runs: Sequence[Path | str] = (),
    plot: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """The most accurate design within a budget, among the published ones or runs of one's own.

    Args:
        ram, flash, madds, latency: upper limits with their units: "320kB", "1MB", "30M", "20ms".
        task: a name of TASKS; None is the one that there are published designs for.
        num_classes: of the classifier that will be trained; the published accuracies are for 1000.
        runs: run folders, with the accuracy measured on their validation images, in place of the published designs.
        plot: where accuracy over multiply-adds and memory is drawn, as PNG.

    Returns:
        {"budget": {name: limit}, "best": a Design as a dict, "designs": all of them, best first, "train": the command
        that trains it, "export": the one that exports it}.

    Raises:
        InputError: a limit that cannot be read, no such run, a task without published designs, or no design meets the
            budget.
    """
    require("torch", extra="train", what="plan")
    given = {"ram": ram, "flash": flash, "madds": madds, "latency": latency}
    budget = {name: amount(text, name) for name, text in given.items() if text is not None}
    if runs and task is not None:
        raise InputError("--task is for published designs; a run has its own.")
    if runs and latency is not None:
        raise InputError(
            "the latency of a run is not known; `handlens cost MODEL --latency` measures it on this machine."
        )
    designs = _measured(runs, budget, report) if runs else _published(task, num_classes, budget, report)
    front = [replace(design, best_of_its_kind=_unbeaten(design, designs)) for design in designs]
    front.sort(key=lambda design: (bool(design.misses), -design.accuracy, design.multiply_adds))
    best = front[0]
    if plot is not None:
        from handlens.evaluation.plots import front_plot

        write_bytes(plot, front_plot([vars(design) for design in front], budget))
    if best.misses:
        raise InputError(_nothing(front, budget, given))
    return {
        "budget": budget,
        "best": vars(best),
        "designs": [vars(design) for design in front],
        "train": None if runs else _train(best),
        "export": _export(best, folder=str(best.name) if runs else _run_of(best)),
    }


def amount(text: str, name: str) -> float:
    """ "320kB" -> 320000.0: bytes, multiply-adds or milliseconds.

    Args:
        name: of UNITS.

    Raises:
        InputError: no number, or another unit.
    """
    units = UNITS[name]
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise InputError(
            f"--{name} must be a number above 0 with one of the units {', '.join(units)}, such as {EXAMPLES[name]}, "
            f"got {text!r}."
        )
    return float(found[1]) * units[found[2]]


def _published(task: str | None, num_classes: int, budget: dict[str, float], report: Reporter) -> list[Design]:
    from handlens.models import CATALOGUE
    from handlens.models.published import PUBLISHED

    if task is not None and task not in TASKS:
        raise InputError(f"unknown task {task!r}; available: {', '.join(TASKS)}.")
    names = [name for name in PUBLISHED if task is None or CATALOGUE[name].task == TASKS[task].models]
    if not names:
        raise InputError(
            f"no accuracies by width and input size are published for the task {task}; train a few and compare them "
            "with --run."
        )
    rows = [
        (name, width, size, published)
        for name in names
        for width, of_width in PUBLISHED[name].items()
        for size, published in of_width.items()
    ]
    designs = []
    for done, (name, width, size, published) in enumerate(rows):
        report.progress("counting", done, len(rows))
        # The published accuracies are of TensorFlow's padding.
        options: dict[str, Any] = {"num_classes": num_classes, "width": width, "padding": "same"}
        counting = partial(counted, name, size=size, **options)
        design = _design(name, width, size, published.top1, published.pixel1_ms, counting())
        designs.append(_judged(design, budget, counting))
    report.progress("counting", len(rows), len(rows))
    return designs


def _measured(runs: Sequence[Path | str], budget: dict[str, float], report: Reporter) -> list[Design]:
    designs = []
    tasks = {}
    for done, folder in enumerate(runs):
        report.progress("counting", done, len(runs))
        run = open_run(Path(folder))
        metric = TASKS[run.task].metric
        if run.model.validation is None:
            raise InputError(f"{folder} has no accuracy on validation images; give runs that were trained.")
        tasks[run.task] = folder
        preprocess = run.preprocess
        shape = {"height": preprocess.height, "width": preprocess.width, "channels": preprocess.channels}
        counting = partial(count, build_from(run), str(folder), **shape)
        accuracy = 100 * float(run.model.validation[metric])
        width = (run.model.architecture.arguments or {}).get("width")
        design = _design(str(folder), width, max(preprocess.height, preprocess.width), accuracy, None, counting())
        designs.append(_judged(design, budget, counting))
    if len(tasks) > 1:
        raise InputError(f"runs of one task can be compared, got {' and '.join(tasks)}.")
    return designs


def _design(
    name: str, width: float | None, size: int, accuracy: float, latency: float | None, found: Counted
) -> Design:
    return _with(
        Design(
            name=name,
            width=width,
            size=size,
            accuracy=accuracy,
            multiply_adds=found.cost.multiply_adds,
            ram=0,
            flash=0,
            latency=latency,
            parts={},
        ),
        found.cost,
    )


def _with(design: Design, cost: Cost) -> Design:
    return replace(design, ram=cost.ram_bytes, flash=cost.file_bytes)


def _judged(design: Design, budget: dict[str, float], counting: Callable[..., Counted]) -> Design:
    """With the budgets that it misses; split where memory alone is too much."""
    misses = _misses(design, budget)
    if misses == ("ram",):
        try:
            found = counting(split=MOST_PARTS, enough=int(budget["ram"]))
        except InputError:  # nothing to split
            return replace(design, misses=misses)
        smaller = replace(_with(design, found.cost), split=MOST_PARTS, parts=dict(found.lean.parts))
        if smaller.ram < design.ram:
            smaller = replace(smaller, split=max(smaller.parts.values()))
            return replace(smaller, misses=_misses(smaller, budget))
    return replace(design, misses=misses)


def _misses(design: Design, budget: dict[str, float]) -> tuple[str, ...]:
    needs = {"ram": design.ram, "flash": design.flash, "madds": design.multiply_adds, "latency": design.latency}
    return tuple(name for name, limit in budget.items() if (need := needs[name]) is None or need > limit)


def _unbeaten(design: Design, designs: Sequence[Design]) -> bool:
    def costs(other: Design) -> tuple[float, ...]:
        return (-other.accuracy, other.multiply_adds, other.ram)

    own = costs(design)
    return not any(
        all(a <= b for a, b in zip(costs(other), own, strict=True)) and costs(other) != own for other in designs
    )


def _nothing(designs: Sequence[Design], budget: dict[str, float], given: dict[str, str | None]) -> str:
    """Which limit is too low for every design, and what the least demanding one needs."""
    asked = ", ".join(f"--{name} {given[name]}" for name in budget)
    least = {
        "ram": (min(design.ram for design in designs), 1e3, "kB"),
        "flash": (min(design.flash for design in designs), 1e3, "kB"),
        "madds": (min(design.multiply_adds for design in designs), 1e6, "M"),
        "latency": (min((d.latency for d in designs if d.latency is not None), default=None), 1, "ms"),
    }
    needs = [
        f"{name} {least[name][0] / least[name][1]:.1f}{least[name][2]}"  # type: ignore[operator]
        for name in budget
        if least[name][0] is not None
    ]
    if all(any(name not in _misses(design, budget) for design in designs) for name in budget):
        return f"no design meets {asked} at once, though each of these alone is met by some; raise one of them."
    return f"no design meets {asked}; the least that any of the {len(designs)} needs: {', '.join(needs) or 'unknown'}."


def _train(best: Design) -> str:
    width = "" if best.width is None else f" --width {best.width:g}"
    options = f"--image-size {best.size} --option padding=same --out {_run_of(best)}"
    return f"handlens train photos --model {best.name}{width} {options}"


def _run_of(best: Design) -> str:
    """Not runs/photos, which may be there already."""
    width = "" if best.width is None else f"-{best.width:g}"
    return f"runs/{best.name}{width}-{best.size}"


def _export(best: Design, *, folder: str) -> str:
    split = f" --split {best.split}" if best.split > 1 else ""
    return f"handlens export {shlex.quote(folder)} --to litert --int8{split}"
