"""A forecast as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handlens.evaluation.canvas import BLUE, GRID, INK, ORANGE, QUIET, as_png, new_figure, quiet_axes
from handlens.evaluation.forecast import Curve


def learning_plot(curve: Curve, found: Mapping[str, Any], *, title: str) -> bytes:
    """The metric over the number of images as PNG bytes: measured points with intervals, the fitted law and its band,
    the target.

    Args:
        found: what `handlens.forecast` returns. title: the metric's name.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    table, total = found["table"], found["images"]
    seen = [row for row in table if row["measured"] is not None]
    needed = found["needed"]["images"]
    last = max(table[-1]["images"], min(needed or 0, 20 * total))
    images = np.geomspace(seen[0]["images"], last, 300)
    middle, low, high = (100 * values for values in curve.metric(images))
    figure = new_figure(6.8, 4.2)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.fill_between(images, low, high, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval")
    inside = images <= seen[-1]["images"]
    axes.plot(images[inside], middle[inside], color=BLUE, linewidth=2, label="fitted power law")
    axes.plot(images[~inside], middle[~inside], color=BLUE, linewidth=2, linestyle=(0, (4, 2)), label="forecast")
    values = np.array([100 * row["measured"] for row in seen])
    ends = np.array([[100 * end for end in row["measured_interval"]] for row in seen])
    axes.errorbar(
        [row["images"] for row in seen],
        values,
        np.abs(ends.T - values),
        fmt="o",
        color=INK,
        markersize=5,
        elinewidth=1,
        capsize=2,
        label="measured",
    )
    axes.axhline(100 * found["target"], color=ORANGE, linewidth=1.2, linestyle="--", label="target")
    axes.axvline(total, color=QUIET, linewidth=1, linestyle=":", label="present number of images")
    bottom = min(low[0], ends.min(), 100 * found["target"])
    top = max(100 * found["target"], high.max())
    axes.set_ylim(max(bottom, -20) - 0.06 * (top - bottom), top + 0.08 * (top - bottom))
    axes.set_xlim(images[0] / 1.1, last)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("images that the head is fitted on", color=QUIET)
    axes.set_ylabel(f"{title}, %", color=QUIET)
    axes.grid(color=GRID)
    axes.legend(labelcolor=INK, fontsize=9, loc="lower right", facecolor="white", edgecolor="none", framealpha=0.9)
    quiet_axes(axes)
    axes.tick_params(which="minor", length=0)
    figure.tight_layout()
    return as_png(figure)
