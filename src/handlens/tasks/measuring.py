"""What the measures of several tasks share: sheets of examples and the curves of a training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from handlens.evaluation import plots
from handlens.evaluation.contact_sheet import contact_sheet
from handlens.training.run import METRICS, Run, read_metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = 24
PAIRS = 12  # of truth and answer
PAIR_WIDTH = 480  # pixels of the two together
PAIR_GAP = 6  # pixels between them


def sheet_of_pairs(
    images: Iterable[NDArray[np.uint8]],
    captions: Sequence[str],
    sizes: Sequence[tuple[int, ...]],
    *,
    beside: int = 2,
) -> NDArray[np.uint8]:
    """Two pairs beside each other; rows as high as the highest pair needs.

    Args:
        sizes: (height, width) of each image.
        beside: how many of an image's pictures stand beside each other.
    """
    height = min(PAIR_WIDTH, max(round(PAIR_WIDTH * height / (beside * width)) for height, width in sizes))
    return contact_sheet(images, captions, columns=2, tile=PAIR_WIDTH, tile_height=max(height, 1))


def curves_of(run: Run) -> bytes | None:
    run.check(METRICS)
    rows = read_metrics(run.folder)
    return plots.curves(rows) if len(rows) > 1 else None
