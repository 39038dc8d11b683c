"""A benchmark as an image: latency, time to the first prediction, throughput and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.evaluation.canvas import BLUE, GRID, INK, ORANGE, QUIET, as_png, font_of, new_figure, quiet_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = (ORANGE, BLUE, "#2f855a", "#6b46c1", "#b83280", INK)  # of numbers of threads, and of lines
MARKERS = "osD^vPX*<>"
WHISKER = 2.0  # times the longest bar, to which whiskers are drawn: an outlier must not make everything else small
LONG_ENOUGH = 0.15  # of the axis, for a number inside the bar


def bench_plot(result: Mapping[str, Any]) -> bytes:
    """What `handlens.flow.bench.bench` has measured, as PNG bytes.

    Four panels: milliseconds per image, alone, with a whisker to the 90th percentile; seconds from nothing to the first
    answer; images per second by batch size, with as many threads as were asked for; memory.

    Raises:
        InputError: nothing was timed here.
    """
    rows = [row for row in result["rows"] if "device" not in row]
    if not rows:
        raise InputError("there is nothing to draw: what a device has printed is shown in the table alone.")
    batches = sorted({row["batch"] for row in rows})
    threads = sorted({row["threads"] for row in rows})
    alone = [row for row in rows if row["batch"] == batches[0]]
    most = [row for row in alone if row["threads"] == threads[-1]]
    names = [_title(row) for row in sorted(most, key=lambda row: -row["median_ms"])]
    rows_of_bars = max(len(names), 5)
    figure = new_figure(11, 2.2 + 0.7 * rows_of_bars)
    grid = figure.add_gridspec(2, 2, hspace=1.5 / rows_of_bars, wspace=0.12 + 0.016 * max(map(len, names)))
    images = "one image" if batches[0] == 1 else f"{batches[0]} images"
    latency = figure.add_subplot(grid[0, 0])
    _bars(
        latency,
        names,
        {
            f"{number} thread{'s' if number > 1 else ''}": [row for row in alone if row["threads"] == number]
            for number in threads
        },
        "median_ms",
        f"milliseconds for {images}: median, whisker to 90th percentile",
        whisker="p90_ms",
    )
    first = figure.add_subplot(grid[0, 1])
    _bars(first, names, {"": most}, "first_s", "seconds from start to first prediction")
    _lines(figure.add_subplot(grid[1, 0]), [row for row in rows if row["threads"] == threads[-1]], threads[-1], batches)
    memory = figure.add_subplot(grid[1, 1])
    _bars(memory, names, {"": most}, "peak_mb", f"memory of the process, MB, {images}")
    machine = result["machine"]
    what = f"{machine['processor']}, {machine['cores']} cores; {result['rounds']} rounds, in turn"
    latency.annotate(
        what, (0, 1), xytext=(0, 34), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=QUIET
    )
    return as_png(figure)


def _title(row: Mapping[str, Any]) -> str:
    """A contender's name; with its precision where the name alone does not tell it apart."""
    return str(row["name"] if row["precision"] in ("f32", "fp16", "int8") else f"{row['name']} {row['precision']}")


def _bars(
    axes: Axes,
    names: Sequence[str],
    groups: Mapping[str, Sequence[Mapping[str, Any]]],
    key: str,
    label: str,
    *,
    whisker: str | None = None,
) -> None:
    """One bar per name and group, with its number at the end."""
    height = 0.8 / len(groups)
    for place, (group, rows) in enumerate(groups.items()):
        found = {_title(row): row for row in rows}
        shown = [(number, found[name]) for number, name in enumerate(names) if found.get(name, {}).get(key) is not None]
        if not shown:
            continue
        middles = [number + height * (place - (len(groups) - 1) / 2) for number, _ in shown]
        values = [row[key] for _, row in shown]
        color = SHADES[place % len(SHADES)] if len(groups) > 1 else BLUE
        axes.barh(middles, values, height * 0.9, color=color, label=group or None)
        out = [0.0] * len(values)
        if whisker is not None:
            every = [row for rows in groups.values() for row in rows]
            longest = max(row[key] for row in every)
            axes.set_xlim(right=1.05 * min(max(row[whisker] for row in every), WHISKER * longest))
            out = [max(row[whisker] - row[key], 0) for _, row in shown]
            axes.errorbar(
                values, middles, xerr=[[0.0] * len(out), out], fmt="none", ecolor=INK, elinewidth=1, capsize=2
            )
        for middle, value, more in zip(middles, values, out, strict=True):
            # In a bar with a whisker, or, where that is too short or there is none, behind it.
            end = min(value + more, 0.9 * axes.get_xlim()[1]) if whisker is not None else value
            within = whisker is not None and value > LONG_ENOUGH * axes.get_xlim()[1]
            axes.annotate(
                f"{value:.3g}" if value < 1000 else f"{value:,.0f}",
                (value if within else end, middle),
                xytext=(-4 if within else 4, 0),
                textcoords="offset points",
                ha="right" if within else "left",
                va="center",
                fontsize=8,
                color="white" if within else INK,
                bbox=None if within else {"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    axes.set_yticks(range(len(names)), names)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set(fontproperties=font_of(name), fontsize=9, parse_math=False)
    axes.set_xlabel(label, color=QUIET, fontsize=9)
    if whisker is None:
        axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=GRID)
    if len(groups) > 1:
        axes.legend(
            frameon=False, labelcolor=INK, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(groups)
        )
    quiet_axes(axes)
    axes.tick_params(axis="y", labelsize=9)


def _lines(axes: Axes, rows: Sequence[Mapping[str, Any]], threads: int, batches: Sequence[int]) -> None:
    """Images per second by batch size."""
    names = list(dict.fromkeys(_title(row) for row in sorted(rows, key=lambda row: -row["images_per_second"])))
    for place, name in enumerate(names):
        points = sorted((row["batch"], row["images_per_second"]) for row in rows if _title(row) == name)
        axes.plot(
            [batches.index(batch) for batch, _ in points],
            [value for _, value in points],
            color=SHADES[place % len(SHADES)],
            marker=MARKERS[place % len(MARKERS)],
            linestyle=("-", "--", ":")[place // len(SHADES) % 3],
            linewidth=1.5,
            markersize=5,
            label=name,
        )
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set_xlim(-0.3, len(batches) - 0.7)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images per batch", color=QUIET, fontsize=9)
    axes.set_ylabel(f"images/s, {threads} thread{'s' if threads > 1 else ''}", color=QUIET, fontsize=9)
    axes.grid(axis="y", color=GRID)
    columns = 1 if max(map(len, names)) > 24 else 2
    legend = axes.legend(
        frameon=False, labelcolor=INK, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns
    )
    for text in legend.get_texts():
        text.set(fontproperties=font_of(text.get_text()), fontsize=8, parse_math=False)
    quiet_axes(axes)
