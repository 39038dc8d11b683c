"""Predicted against true numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handlens.evaluation.canvas import BLUE, GRID, INK, QUIET, as_png, font_of, new_figure, quiet_axes


def predicted_against_true(predicted: NDArray[np.floating], truth: NDArray[np.floating], names: Sequence[str]) -> bytes:
    """A panel per number with a dot per image and the line of a perfect model, as PNG bytes.

    Args:
        predicted, truth: (N, V).
    """
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(4.2 * columns, 4.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, axes in enumerate(panels):
        if place >= len(names):
            axes.set_visible(False)
            continue
        ours, right = predicted[:, place], truth[:, place]
        ends = [float(min(ours.min(), right.min())), float(max(ours.max(), right.max()))]
        axes.plot(ends, ends, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(right, ours, "o", color=BLUE, alpha=0.6, markersize=4, markeredgewidth=0)
        axes.set_xlabel(f"true {names[place]}", color=QUIET, fontproperties=font_of(names[place]))
        axes.set_ylabel("predicted", color=QUIET)
        axes.grid(color=GRID)
        axes.tick_params(colors=INK)
        quiet_axes(axes)
    figure.tight_layout()
    return as_png(figure)
