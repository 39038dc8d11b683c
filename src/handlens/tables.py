"""Results as tables on a terminal. Numbers come from elsewhere; nothing is computed here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.markup import escape as escape_markup
from rich.table import Table

from handlens.data.labels.finding import counted
from handlens.figures import percent
from handlens.flow import trust_words
from handlens.names import for_terminal
from handlens.tasks import TASKS

if TYPE_CHECKING:
    from rich.console import Console

    from handlens.data.check import Audit
    from handlens.runtimes.parity import Parity, Row

NONE = "-"  # where there is no value
NUMBER = re.compile(r"-|[-+]?[\d.,]+( [%Mx])?")
NAMED = 3  # files of a finding whose sentence names none
REASONS = 5  # per finding, as many as people read
COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def escape(text: str) -> str:
    """Printed as it is: without markup, and without what a terminal acts on."""
    return escape_markup(for_terminal(text))


def print_rows(console: Console, rows: Sequence[dict[str, Any]], *, titles: Mapping[str, str] | None = None) -> None:
    """Dicts with the same keys, as a table with a header. No word and no number is cut: where the table is too wide for
    that, each row is a paragraph.

    Args:
        titles: of columns that are not called as their key, for example by a user's name.
    """
    if not rows:
        return
    keys = list(rows[0])
    texts = [[_text(value) for value in row.values()] for row in rows]
    titled = [(titles or {}).get(key, key.replace("_", " ")) for key in keys]
    columns = [[titled[place], *(row[place] for row in texts)] for place in range(len(keys))]
    widths = [max(1, *map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for text in column for word in _words(text)) for column in columns]
    room = console.width - 2 * len(keys)
    if sum(least) > room:
        for title, *others in texts:
            named = zip((column[0] for column in columns[1:]), others, strict=True)
            said = (f"{name} {text}".strip() for name, text in named if text != NONE)
            console.print(f"[bold]{escape(title)}[/bold]: {escape(', '.join(said))}")
        return
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda place: (widths[place] > least[place], widths[place]))
        widths[widest] -= 1
    table = Table(box=None, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        numbers = all(NUMBER.fullmatch(text) for text in column[1:])
        table.add_column(escape(column[0]), width=width, overflow="fold", justify="right" if numbers else "left")
    for row in texts:
        table.add_row(*map(escape, row))
    console.print(table)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """The layers of a model, then its totals."""
    rows = [
        {
            "layer": layer["name"],
            "kind": layer["kind"],
            "": layer["detail"],
            "from": ", ".join(layer["inputs"]),
            "output": " x ".join(map(str, layer["shape"])),
            "parameters": f"{layer['parameters']:,}",
            "multiply_adds": f"{layer['multiply_adds']:,}",
            "stride": layer["stride"],
            "receptive field": layer["receptive_field"],
            "padded copy": f"{layer['padded']:,}" if layer["padded"] else None,
        }
        for layer in summary["layers"]
    ]
    if not any(layer["padded"] for layer in summary["layers"]):
        rows = [{key: value for key, value in row.items() if key != "padded copy"} for row in rows]
    print_rows(console, rows)
    frozen = summary["parameters"] - summary["trainable"]
    sizes = ", ".join(f"{size / 1e6:,.2f} MB in {name}" for name, size in summary["weight_bytes"].items())
    console.print(
        f"{summary['parameters']:,} parameters, {frozen:,} frozen; {summary['statistics']:,} running statistics."
    )
    console.print(f"Weights: {sizes}.")
    console.print(f"{summary['multiply_adds']:,} multiply-adds at {summary['height']} x {summary['width']}.")
    for how, numbers, at in (
        ("operator by operator", summary["peak_numbers"], summary["peak_at"]),
        ("block by block", summary["peak_numbers_blocks"], summary["peak_at_block"]),
    ):
        console.print(f"Peak activations, {how}: {numbers:,} values, {2 * numbers / 1e3:,.0f} kB in fp16, at {at}.")
    padding = summary["padding_numbers"]
    copies = f", {padding / 1e3:,.1f} kB of them for padded copies" if padding else ""
    console.print(f"Peak activations in TFLite Micro: {summary['arena_numbers'] / 1e3:,.1f} kB in int8{copies}.")
    if summary["parts"] or summary["strip_blocks"]:
        parts = [f"{name} in {number} parts" for name, number in summary["parts"].items()]
        strips = [f"the stem and {summary['strip_blocks']} blocks in strips"] if summary["strip_blocks"] else []
        console.print(f"Split: {', '.join(strips + parts)}.")


def print_plan(console: Console, plan: dict[str, Any]) -> None:
    """The Pareto front, as far as it misses one budget at most, then the commands for the best."""
    rows = [
        {
            "model": design["name"],
            "width": design["width"],
            "size": design["size"],
            "accuracy": f"{design['accuracy']:.1f} %",
            "multiply_adds": f"{design['multiply_adds'] / 1e6:,.1f} M",
            "RAM kB": f"{design['ram'] / 1e3:,.1f}",
            "flash kB": f"{design['flash'] / 1e3:,.0f}",
            "latency ms": None if design["latency"] is None else f"{design['latency']:.1f}",
            "split": ", ".join(f"{name} in {number}" for name, number in design["parts"].items()) or None,
            "misses": ", ".join(design["misses"]) or None,
        }
        for design in plan["designs"]
        if (design["best_of_its_kind"] and len(design["misses"]) <= 1) or design == plan["best"]
    ]
    print_rows(console, rows)
    console.print(
        f"The best is first. Listed are those of {len(plan['designs'])} designs that miss one budget at most and that "
        "no other beats in accuracy, multiply-adds and RAM."
    )
    if plan["train"] is not None:
        console.print("Accuracy: as published for ImageNet; flash: with the classes that will be trained (--classes).")
    for command in (plan["train"], plan["export"]):
        if command is not None:
            console.print(f"    {escape(command)}")


def print_bench(console: Console, result: dict[str, Any]) -> None:
    """What ran where, a row per contender, threads and batch, and what could not run."""
    machine, reference = result["machine"], result["reference"]
    here = dict.fromkeys(row["runtime"] for row in result["rows"] if "device" not in row)
    if here:
        instructions = f"; {', '.join(machine['instructions'])}" if machine["instructions"] else ""
        console.print(f"{escape(machine['processor'])}, {machine['cores']} cores{instructions}")
        console.print(f"{escape(', '.join(here))}; Python {machine['python']}, {escape(machine['system'])}")
    rows = [
        {
            "": row["name"] + (f" ({row['runtime']})" if "device" in row else ""),
            "precision": row["precision"],
            "threads": row["threads"],
            "batch": row["batch"],
            "median_ms": _short(row["median_ms"]),
            "90_%_ms": _short(row["p90_ms"]),
            "mean_ms": _short(row["mean_ms"]),
            "images/s": _short(row["images_per_second"]),
            "CPU_ms/image": _short(row["processor_ms"]),
            "first_prediction_s": _short(row["first_s"]),
            "memory_MB": None if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
            "faster": None if row["faster"] is None else f"{row['faster']:.2f} x",
        }
        for row in result["rows"]
    ]
    filled = [key for key in rows[0] if any(row[key] is not None for row in rows)]
    print_rows(console, [{key: row[key] for key in filled} for row in rows])
    if reference is not None:
        console.print(f"faster: than {escape(reference)} with as many threads and images per batch.")
    if result["predict"]:
        console.print("As predict runs them. It takes another float file than the run's own if that is 5 % faster:")
        shown = [
            {
                "run": row["run"],
                "engine": f"{row['name']}{' int8' if row['int8'] else ''}",
                "file": Path(row["file"]).name,
                "precision": row["precision"],
                "first_prediction_s": _short(row["first_s"]),
                "images/s": _short(row["images_per_second"]),
            }
            for row in result["predict"]
        ]
        print_rows(console, shown)
    for entry in result["left_out"]:
        console.print(f"[yellow]left out[/] {escape(entry['name'])}: {escape(entry['reason'])}")


def print_device_commands(console: Console, found: Sequence[dict[str, Any]]) -> None:
    """Ready to be copied."""
    for entry in found:
        console.print(f"{escape(entry['file'])}: {entry['program']} ({escape(entry['where'])})")
        for command in entry["commands"]:
            console.print(f"    {escape(command)}")
    console.print("Keep what the last command of each prints, and read it with: handlens bench --read FILE")


def print_audit(console: Console, audit: Audit) -> None:
    """Counts per class and split, then the findings."""
    dataset = audit.dataset
    table = Table(box=None, header_style="bold")
    table.add_column(dataset.kind.named)
    columns = []
    by_split = [dataset.kind.columns(audit, split) for split in dataset.splits() or (None,)]
    for title, values in (column for several in by_split for column in several):
        table.add_column(title, justify="right")
        columns.append(values)
    for name in dataset.class_names:
        table.add_row(escape(name), *(values[name] for values in columns))
    if dataset.class_names:
        console.print(table)
    console.print(escape(f"{dataset.summary()}; {len(audit.unreadable)} unreadable."))
    for finding in audit.findings:
        console.print(f"[{COLORS[finding.level]}]{finding.level}[/] {escape(finding.message)}")
        if finding.files and not finding.reasons and finding.files[0] not in finding.message:
            more = f" and {len(finding.files) - NAMED} more (see --json)" if len(finding.files) > NAMED else ""
            console.print(f"    {escape(', '.join(finding.files[:NAMED]))}{more}")
        for reason in finding.reasons[1:REASONS]:  # the first stands in the message
            console.print(f"    {escape(reason)}")
        if len(finding.reasons) > REASONS:
            console.print(f"    and {len(finding.reasons) - REASONS} more (see --json)")
    if not audit.findings:
        console.print("No problems found.")


def print_suspects(console: Console, suspected: Sequence[dict[str, Any]], *, limit: int = 20) -> None:
    if not suspected:
        console.print("No suspected label errors.")
        return
    errors = counted(len(suspected), "suspected label error")
    console.print(f"{errors}, most likely first; many of these labels may be right:")
    print_rows(console, suspected[:limit])
    if len(suspected) > limit:
        console.print(f"and {len(suspected) - limit} more (see --json)")


def print_evaluation(console: Console, result: dict[str, Any]) -> None:
    headline = TASKS[result["task"]].headline(result)
    for sentence in headline.sentences:
        console.print(for_terminal(sentence))  # has markup of its own
    print_rows(console, headline.rows)
    for sentence in trust_words.sentences(result):
        console.print(escape(sentence))
    console.print(f"Computed by {result['runtime']} in {result['precision']}.")
    for entry in result["unreadable"]:
        console.print(f"[yellow]unreadable[/] {escape(entry['reason'])}")
    if result["report"]:
        console.print(f"Report: {escape(result['report'])}")


def print_parities(console: Console, parities: Sequence[Parity]) -> None:
    """One table of all the engines, and one of what another resize changes: of the first, for they hardly differ."""
    if not parities:
        return
    task = TASKS[parities[0].task]
    things, metric = task.compared, task.metric_title
    print_rows(
        console,
        [
            {
                "engine": f"{row.engine} {row.precision}",
                "pixels": row.pixels,
                "images": row.images,
                f"same_{things}": percent(row.equal, 2),
                "difference": "-" if row.largest_difference is None else f"{row.largest_difference:.1e}",
                "mean": "-" if row.mean_difference is None else f"{row.mean_difference:.1e}",
                metric: row.score,
                f"PyTorch_{metric}": row.reference_score,
                "change": _change(row),
                "MB": f"{row.size_mb:.2f}",
                "ms/image": f"{row.latency_ms:.1f}",
                "memory_MB": "-" if row.peak_mb is None else f"{row.peak_mb:.0f}",
                "": {True: "agrees", False: "DIFFERS", None: "for information"}[row.passed],
            }
            for parity in parities
            for row in parity.rows
        ],
    )
    for parity in parities:
        engine = parity.rows[0].engine
        if parity.delegation is not None:
            console.print(f"{engine}: {parity.delegation}.", soft_wrap=True)
        for entry in parity.kernels:
            if not entry.images:
                console.print(f"{engine} with {entry.name}: could not be tried here.", soft_wrap=True)
                continue
            share = "no" if entry.changed is None else percent(entry.changed)
            console.print(
                f"{engine} with {entry.name}: {share} of {things} change ({entry.images} images; up to "
                f"{percent(entry.most, 0)} may be rounding).",
                soft_wrap=True,
            )
    if any(row.largest_difference is not None for parity in parities for row in parity.rows):
        console.print("difference: the largest from PyTorch's; mean: the average over images of each one's largest.")
    if parities[0].resizers:
        console.print(f"Predictions of {parities[0].rows[0].engine} that change if an app resizes images differently:")
        print_rows(
            console,
            [
                {"resize": row["pixels"], f"{things}_changed": percent(row["changed"]), metric: row["score"]}
                for row in parities[0].resizers
            ],
        )


def _change(row: Row) -> str:
    """In points, for example "-0.8 to +0.4"; of a few images the change without its interval."""
    if row.score_interval is not None:
        return " to ".join(f"{100 * end:+.1f}" for end in row.score_interval)
    if row.score is None or row.reference_score is None:
        return "-"
    return f"{100 * (row.score - row.reference_score):+.1f}"


def _short(value: float | None) -> str | None:
    """Three digits that count."""
    return None if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _words(text: str) -> list[str]:
    """What must not be broken: a number stays with its unit."""
    return [text] if NUMBER.fullmatch(text) else text.split() or [""]


def _text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
