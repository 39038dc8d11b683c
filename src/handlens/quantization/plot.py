"""The error of every layer in int8, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from handlens.evaluation.canvas import BLUE, GRID, INK, ORANGE, QUIET, as_png, new_figure, quiet_axes
from handlens.quantization.sensitivity import LayerError

MARKED = 5  # of the worst
LEAST = 1e-6  # percent: what is less has no place on a logarithmic axis


def errors_plot(errors: Sequence[LayerError], *, title: str = "") -> bytes:
    """Noise of the output by layer, in the order in which they run, as PNG bytes; the worst in another color.

    Args:
        title: what was measured.

    Raises:
        ValueError: no layer.
    """
    if not errors:
        raise ValueError("no layers to draw")
    worst = sorted(errors, key=lambda error: -error.noise)[:MARKED]
    figure = new_figure(6.5, 0.17 * len(errors) + 1.2)
    axes = figure.add_subplot()
    lengths = [max(100 * error.noise, LEAST) for error in errors]
    colors = [ORANGE if error in worst else BLUE for error in errors]
    axes.barh(range(len(errors)), lengths, height=0.75, color=colors)
    axes.set_xscale("log")
    axes.set_xlim(min(lengths) / 2, max(lengths) * 2)
    quiet_axes(axes)
    axes.set_yticks(range(len(errors)), [f"{error.name}, {error.kind}" for error in errors], fontsize=7.5)
    for label, error in zip(axes.get_yticklabels(), errors, strict=True):
        label.set_color(INK if error in worst else QUIET)
    axes.tick_params(which="minor", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_ylim(len(errors) - 0.4, -0.6)  # from the first layer, at the top, to the last
    axes.set_xlabel("noise with this layer alone in int8, % of the output's power", color=QUIET)
    marked = f"orange: the {len(worst)} that hurt most"
    axes.set_title(f"{title}; {marked}" if title else marked, fontsize=9, color=QUIET, loc="right")
    return as_png(figure)
