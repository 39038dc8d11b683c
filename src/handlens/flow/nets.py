"""models, summary, cost: the nets of the catalogue as tables."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from handlens.errors import InputError, require
from handlens.flow.counting import channels_of, classes_of, cost_of, count, counted, one_image_ms, shadow
from handlens.flow.runs import build_from
from handlens.reporter import QUIET, Reporter
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS
from handlens.training.run import open_run

COLUMNS = ("name", "task", "size", "classes", "parameters", "multiply_adds", "weights", "converts_to", "about")


def models(*, task: str | None = None, sort: str = "name", report: Reporter = QUIET) -> list[dict[str, Any]]:
    """The catalogue: a row per net, counted for the classes and the size it was published with.

    Args:
        task: models of this one alone, a name of TASKS.
        sort: a key of the rows, numbers ascending.

    Raises:
        InputError: no such task or key.
    """
    require("torch", extra="train", what="the list of models")
    from handlens.models import CATALOGUE

    listed = list(dict.fromkeys(entry.models for entry in TASKS.values()))
    if task is not None and task not in listed:
        raise InputError(f"unknown task {task!r}; available: {', '.join(listed)}.")
    if sort not in COLUMNS:
        raise InputError(f"unknown column {sort!r}; available: {', '.join(COLUMNS)}.")
    chosen = {name: entry for name, entry in CATALOGUE.items() if task in (None, entry.task)}
    rows = []
    for done, (name, entry) in enumerate(chosen.items(), start=1):
        cost = cost_of(name, size=entry.image_size)
        values = (
            name,
            entry.task,
            entry.image_size,
            classes_of(name),
            cost.parameters,
            cost.multiply_adds,
            ", ".join(entry.weights),
            ", ".join(to for to, runtime in RUNTIMES.items() if not runtime.refuses(name)),
            entry.about,
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        report.progress("counting", done, len(chosen))
    return sorted(rows, key=lambda row: row[sort])


def summary(
    name: Path | str,
    *,
    size: int | None = None,
    num_classes: int | None = None,
    split: int = 1,
    strips: int = 1,
    report: Reporter = QUIET,
    **options: Any,
) -> dict[str, Any]:
    """A net layer by layer; `models.cost` says what is counted and how.

    Args:
        name: of the catalogue, or a run folder.
        size: side of the image; None is the published one, or the run's.
        num_classes: None is what it was published for, or trained for.
        split, strips: at most so many parts of an expansion, strips of the first blocks (models.split).
        options: of the net, as `build` takes them; a run has its own.

    Returns:
        {"name", "height", "width", "parts", "strip_blocks", "weight_bytes"} and the fields of models.cost.Cost.

    Raises:
        InputError: no such net, run or option, or a size that it does not take.
    """
    require("torch", extra="train", what="summary")
    from handlens.models import CATALOGUE

    report.progress("counting", 0, None)
    name = str(name)
    if name not in CATALOGUE and Path(name).is_dir():
        if num_classes is not None or options:
            raise InputError(f"{name} is a run, whose classes and width stay as they were trained.")
        run = open_run(Path(name))
        height, width = (run.preprocess.height, run.preprocess.width) if size is None else (size, size)
        net, channels = build_from(run), run.preprocess.channels
    else:
        published = CATALOGUE[name].image_size if name in CATALOGUE else 224
        height = width = published if size is None else size
        net = shadow(name, size=height, num_classes=num_classes, **options)
        channels = channels_of(net)
    found = count(net, name, height=height, width=width, channels=channels, split=split, strips=strips)
    return {
        "name": name,
        "height": height,
        "width": width,
        "parts": dict(found.lean.parts),
        "strip_blocks": found.lean.strip_blocks,
        **asdict(found.cost),
        "weight_bytes": found.cost.weight_bytes(),
    }


def cost_table(
    name: str,
    *,
    sizes: Sequence[int] | None = None,
    widths: Sequence[float] | None = None,
    split: int = 1,
    strips: int = 1,
    latency: bool = False,
    precision: Literal["fp32", "auto"] = "auto",
    report: Reporter = QUIET,
    **more: Any,
) -> list[dict[str, Any]]:
    """The table of the MobileNet papers: multiply-adds by width and size, beside what the authors print.

    Args:
        sizes: sides of the image; None is all that are published, or the net's own where none are.
        widths: None is all that are published, or the net as it is where none are.
        split, strips: at most so many parts of an expansion, strips of the first blocks (models.split).
        latency: also time one image on this machine, in the engine that `predict` runs.
        precision: of the engine: "auto" is bf16 where the processor computes in it.
        more: options of the net, as `build` takes them.

    Returns:
        a row per width and size: "width" (None of a net that has no such option), "size", "parameters",
        "multiply_adds", "published_millions", "difference" (ours in millions minus theirs), "published_top1" (percent),
        "ram_kB" (maps in int8 as TFLite Micro plans them), "padding_kB" (of it, for copies that are padded), "split"
        and "ram_whole_kB" (None where not asked for), and with `latency` "ms" (milliseconds per image),
        "published_pixel1_ms"; None where nothing is published.

    Raises:
        InputError: no such net, or a width or size that it does not take.
    """
    require("torch", extra="train", what="cost")
    from handlens.models import CATALOGUE
    from handlens.models.published import PUBLISHED

    if name not in CATALOGUE and Path(name).is_dir():
        run = shlex.quote(name)
        raise InputError(
            f"cost counts models of the catalog; of a run, see handlens summary {run}, or handlens cost {run} --int8."
        )
    published = PUBLISHED.get(name, {})
    if sizes is None:
        own_size = [CATALOGUE[name].image_size] if name in CATALOGUE else [224]  # `build` names the nearest
        sizes = sorted({size for of_width in published.values() for size in of_width}, reverse=True) or own_size
    chosen: Sequence[float | None] = list(widths) if widths else sorted(published, reverse=True) or [None]
    own = _own_width(name)
    rows: list[dict[str, Any]] = []
    for width in chosen:
        options = more if width is None else more | {"width": width}
        for size in sizes:
            report.progress("timing" if latency else "counting", len(rows), len(chosen) * len(sizes))
            cost = cost_of(name, size=size, **options)
            smaller = None
            if split != 1 or strips != 1:
                smaller = counted(name, size=size, split=split, strips=strips, **options)
            needs = smaller.cost if smaller else cost
            theirs = published.get(1.0 if width is None else width, {}).get(size)
            row = {
                "width": own if width is None else width,
                "size": size,
                "parameters": cost.parameters,
                "multiply_adds": cost.multiply_adds,
                "published_millions": theirs and theirs.millions,
                "difference": theirs and round(cost.multiply_adds / 1e6 - theirs.millions, 1),
                "published_top1": theirs and theirs.top1,
                "ram_kB": needs.arena_numbers / 1e3,
                "padding_kB": needs.padding_numbers / 1e3,
                "split": smaller and str(smaller.lean),
                "ram_whole_kB": smaller and cost.arena_numbers / 1e3,
            }
            if latency:
                row["ms"] = one_image_ms(name, size=size, precision=precision, split=split, strips=strips, **options)
                row["published_pixel1_ms"] = theirs and theirs.pixel1_ms
            rows.append(row)
    report.progress("timing" if latency else "counting", len(rows), len(rows))
    return rows


def _own_width(name: str) -> float | None:
    """The width multiplier that a net has by itself; None where it has no such option."""
    from handlens.models import CATALOGUE

    parameter = inspect.signature(CATALOGUE[name].constructor).parameters.get("width") if name in CATALOGUE else None
    return None if parameter is None else parameter.default
