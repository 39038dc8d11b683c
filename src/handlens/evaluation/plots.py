"""Numbers as images: confusion matrix, curves, reliability, precision and recall."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handlens.evaluation.canvas import BLUE, GRID, INK, ORANGE, QUIET, as_png, font_of, new_figure, quiet_axes
from handlens.evaluation.metrics import wilson_interval
from handlens.fonts import label_font
from handlens.names import for_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = {  # drawn in %
    "top1": "accuracy",
    "labels_right": "labels right",
    "map": "mAP",
    "pixel_accuracy": "pixel accuracy",
    "miou": "mean IoU",
    "map50": "mAP50",
}
NAMED_CLASSES = 100  # above this a confusion image has no room for names


def confusion_plot(confusion: ArrayLike, names: Sequence[str]) -> bytes:
    """The confusion matrix as PNG bytes: blue on the diagonal is right, red off it is wrong.

    Args:
        confusion: (K, K) counts, rows are the truth.
        names: K class names; beyond 100 classes only indices are drawn.

    Color is the share of the row, so that a rare class is as visible as a common one; red follows
    the square root of the share, because single mistakes should show. Counts stand where they fit.
    A class without images has a gray row.

    Raises:
        ValueError: not square, negative, or another number of names.
    """
    counts = np.asarray(confusion)
    classes = len(names)
    if counts.shape != (classes, classes) or classes == 0 or counts.min() < 0:
        raise ValueError(f"confusion must be ({classes}, {classes}) counts for {classes} names, got {counts.shape}")
    totals = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(totals, 1)
    cell = min(max(7 / classes, 0.17), 0.8) if classes <= NAMED_CLASSES else 14 / classes  # inches
    figure = new_figure(cell * classes, cell * classes)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(_confusion_colors(share, totals), interpolation="nearest", aspect="equal")
    if classes <= NAMED_CLASSES:
        _name_ticks(axes, names, size=min(max(cell * 45, 6), 11), cell_points=cell * 72)
        _draw_counts(axes, counts, share, cell_points=cell * 72)
        axes.set_xticks(np.arange(1, classes) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, classes) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class", color=QUIET, labelpad=10)
    axes.set_ylabel("true class", color=QUIET, labelpad=10)
    return as_png(figure)


def curves(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss and metric per epoch as PNG bytes.

    Args:
        rows: one per epoch, as metrics.csv has them (text or numbers): `epoch` and any of `train_loss`,
            `validation_loss`, and `train_` and `validation_` of metrics; those in METRICS are drawn in %. An empty
            value leaves its point out.

    Raises:
        ValueError: no row has a value to draw.
    """
    panels = [
        (title, column, [part for part in ("train", "validation") if _points(rows, f"{part}_{column}")])
        for title, column in (("loss", "loss"), *_metric_panels(rows))
    ]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        raise ValueError(f"no loss or metric per epoch to draw in {len(rows)} rows")
    figure = new_figure(4.6 * len(panels), 3.1)
    for axes, (title, column, parts) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for part in parts:
            scale = 100 if column in METRICS else 1
            points = _points(rows, f"{part}_{column}")
            color = BLUE if part == "validation" else ORANGE
            axes.plot(
                *zip(*((x, y * scale) for x, y in points), strict=True),
                color=color,
                label=part,
                linewidth=2,
                marker="o",
                markersize=4 if len(points) <= 30 else 0,
            )
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        axes.set_xlabel("epoch", color=QUIET)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", color=GRID)
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
        quiet_axes(axes)
    figure.tight_layout(w_pad=3)
    return as_png(figure)


def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> bytes:
    """How often the model is right at each confidence, as PNG bytes, and how many images lie there.

    Args:
        bins: as `calibration.calibration` returns them. The whiskers are 95 % Wilson intervals.

    Raises:
        ValueError: every bin is empty.
    """
    filled = [bin for bin in bins if bin["count"]]
    if not filled:
        raise ValueError(f"all {len(bins)} bins are empty: there are no images")
    figure = new_figure(4.6, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    middles = [50 * (bin["low"] + bin["high"]) for bin in filled]
    widths = [92 * (bin["high"] - bin["low"]) for bin in filled]
    shares = np.array([100 * bin["accuracy"] for bin in filled])
    ends = 100 * np.array([wilson_interval(bin["right"], bin["count"]) for bin in filled])
    upper.bar(middles, shares, widths, color=BLUE, alpha=0.75, label="accuracy, %")
    upper.errorbar(middles, shares, np.abs(ends.T - shares), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    upper.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
    upper.set_ylim(0, 103)
    upper.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper left")
    lower.bar(middles, [bin["count"] for bin in filled], widths, color=QUIET)
    lower.set_xlim(0, 100)
    lower.set_xlabel("confidence of the prediction, %", color=QUIET)
    lower.set_ylabel("images", color=QUIET)
    for axes in (upper, lower):
        axes.grid(axis="y", color=GRID)
        quiet_axes(axes)
    figure.tight_layout()
    return as_png(figure)


@dataclass(frozen=True)
class Curve:
    """Of one class, for `precision_recall_plot`.

    Attributes:
        place: its index, which decides its color.
        precision: at recalls spread evenly from 0 to 1.
        count: how many there are to be found.
        point: (recall, precision) at the chosen threshold, or None.
    """

    name: str
    place: int
    precision: Sequence[float]
    ap: float
    count: int
    point: tuple[float, float] | None = None


def precision_recall_plot(
    curves: Sequence[Curve], *, found: str = "objects", answered: str = "boxes", ap: str = "AP50", limit: int = 10
) -> bytes:
    """A line per class, precision against recall, with a dot at its point, as PNG bytes.

    Args:
        curves: of many classes the `limit` with the most to be found are drawn.
        found, answered: what recall and precision are shares of. ap: what the area below a line is called.

    Raises:
        ValueError: there is no curve.
    """
    from matplotlib.patheffects import withStroke

    from handlens.palette import colors

    if not curves:
        raise ValueError("no curves to draw")
    palette = colors(1 + max(curve.place for curve in curves)) / 255
    figure = new_figure(6.2, 3.9)
    axes = figure.add_subplot()
    edge = withStroke(linewidth=3.2, foreground=QUIET)  # colors are light, so that text can be read on them
    for curve in sorted(curves, key=lambda curve: -curve.count)[:limit]:
        recalls = np.linspace(0, 100, len(curve.precision))
        name = for_picture(unicodedata.normalize("NFC", curve.name))
        axes.plot(
            recalls,
            100 * np.array(curve.precision),
            color=palette[curve.place],
            linewidth=2,
            label=f"{name}, {100 * curve.ap:.1f}",
            path_effects=[edge],
        )
        if curve.point is not None:
            recall, precision = curve.point
            axes.plot(100 * recall, 100 * precision, "o", color=palette[curve.place], markeredgecolor=INK, markersize=7)
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 103)
    axes.set_xlabel(f"recall, % of the {found}", color=QUIET)
    axes.set_ylabel(f"precision, % of the {answered}", color=QUIET)
    axes.grid(color=GRID)
    legend = axes.legend(
        frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5), title=f"class, {ap}"
    )
    for text in legend.get_texts():
        text.set(fontproperties=font_of(text.get_text()), fontsize=9, parse_math=False)
    quiet_axes(axes)
    figure.tight_layout()
    return as_png(figure)


def front_plot(designs: Sequence[Mapping[str, Any]], budget: Mapping[str, float]) -> bytes:
    """Accuracy over multiply-adds and over memory as PNG bytes, the best for each cost joined by a line.

    Args:
        designs: "accuracy" (percent), "multiply_adds", "ram" (bytes), "misses" (empty: it meets the budget), "name",
            "width", "size"; the best first.
        budget: upper limits, of them "madds" and "ram" are drawn.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    figure = new_figure(9.5, 4)
    panels = (
        ("multiply_adds", "madds", 1e6, "multiply-adds, millions"),
        ("ram", "ram", 1e3, "memory in int8 with bookkeeping, kB"),
    )
    for place, (key, limit, unit, title) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 2, place)
        axes.set_xscale("log")
        points = sorted((design[key] / unit, -design["accuracy"]) for design in designs)
        best_so_far = [
            (x, -y) for number, (x, y) in enumerate(points) if all(y < other for _, other in points[:number])
        ]
        axes.plot(*zip(*best_so_far, strict=True), color=QUIET, linewidth=1, zorder=1)
        for fits, color in ((False, "white"), (True, BLUE)):
            chosen = [design for design in designs if (not design["misses"]) is fits]
            axes.scatter(
                [design[key] / unit for design in chosen],
                [design["accuracy"] for design in chosen],
                color=color,
                edgecolor=BLUE if fits else QUIET,
                s=28,
                zorder=2,
                label="meets the budget" if fits else "does not",
            )
        if limit in budget:
            axes.axvline(budget[limit] / unit, color=ORANGE, linestyle="--", linewidth=1, label="budget")
        if not designs[0]["misses"]:
            best = designs[0]
            axes.scatter([best[key] / unit], [best["accuracy"]], s=120, facecolor="none", edgecolor=ORANGE, zorder=3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(title, color=QUIET)
        axes.set_ylabel("accuracy, %", color=QUIET)
        axes.grid(color=GRID)
        quiet_axes(axes)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    figure.tight_layout()
    return as_png(figure)


def _confusion_colors(share: NDArray[np.float64], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K, 3) in [0, 1]."""
    from matplotlib import colormaps

    wrong = np.where(share > 0, 0.08 + 0.82 * np.sqrt(share), 0)
    right = np.where(share > 0, 0.08 + 0.82 * share, 0)
    diagonal = np.eye(len(share), dtype=bool)[:, :, None]
    colors = np.where(diagonal, colormaps["Blues"](right)[:, :, :3], colormaps["Reds"](wrong)[:, :, :3])
    colors[(share == 0)] = (0.968, 0.973, 0.98)
    colors[totals[:, 0] == 0] = (0.88, 0.89, 0.9)
    return np.asarray(colors)


def _draw_counts(axes: Axes, counts: NDArray[np.int64], share: NDArray[np.float64], *, cell_points: float) -> None:
    digits = len(str(counts.max()))
    size = min(11.0, 0.45 * cell_points, 0.8 * cell_points / (0.64 * digits))  # a digit is 0.64 em wide
    if size < 4.5:
        return
    for row, column in zip(*np.nonzero(counts), strict=True):
        strong = share[row, column] > (0.55 if row == column else 0.3)
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if strong else INK,
        )


def _name_ticks(axes: Axes, names: Sequence[str], *, size: float, cell_points: float) -> None:
    """Class names at both sides, each in a font that has its characters, never read as TeX."""
    shown = [for_picture(unicodedata.normalize("NFC", name)) for name in names]
    shown = [name if len(name) <= 24 else name[:23] + "…" for name in shown]
    axes.set_xticks(range(len(shown)), shown)
    axes.set_yticks(range(len(shown)), shown)
    upright = max(label_font(name, 100).getlength(name) for name in shown) * size / 100 > 0.95 * cell_points
    for name, below, beside in zip(shown, axes.get_xticklabels(), axes.get_yticklabels(), strict=True):
        for label in (below, beside):
            label.set(fontproperties=font_of(name), fontsize=size, parse_math=False)
        below.set(rotation=90 if upright else 0)


def _metric_panels(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(title, column) of the metrics in METRICS, then of others that the rows have."""
    there = {key.partition("_")[2] for row in rows for key in row if key.startswith(("train_", "validation_"))}
    others = sorted(there - set(METRICS) - {"loss"})
    return [(f"{title}, %", column) for column, title in METRICS.items()] + [(column, column) for column in others]


def _points(rows: Sequence[Mapping[str, Any]], column: str) -> list[tuple[int, float]]:
    return [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column) not in (None, "")]
