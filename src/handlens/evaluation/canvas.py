"""What every chart is drawn on: a matplotlib figure without pyplot, its colors and fonts, and its PNG.

No window, no global state, any number in one process.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from handlens.fonts import font_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

INK, QUIET, GRID = "#1d2733", "#5c6773", "#e3e7eb"
BLUE, ORANGE = "#2b6cb0", "#c05621"


def font_of(text: str) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=font_file("".join(sorted(set(text)))))


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def quiet_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=QUIET, length=0, labelsize=9)
    axes.set_axisbelow(True)


def as_png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = BytesIO()
    FigureCanvasAgg(figure)  # draws into memory, whatever backend the user's settings name
    # Without the Software entry the same numbers give the same bytes with every matplotlib that draws alike.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
    return buffer.getvalue()
