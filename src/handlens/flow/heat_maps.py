"""Heat maps of a run for a report: where in an image a class comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.data.decode import UnreadableImageError
from handlens.errors import InputError
from handlens.flow.explain import heat_of
from handlens.flow.opened_model import OpenedModel
from handlens.reporter import Reporter
from handlens.training.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHOD = "gradcam"


class RunHeatMaps:
    """As `tasks.pieces.HeatMaps`."""

    def __init__(self, opened: OpenedModel, layers: Sequence[str], report: Reporter) -> None:
        self._opened, self._layers, self._report = opened, layers, report

    def pictures(self, wanted: Sequence[tuple[Path, int]]) -> Iterator[NDArray[np.uint8] | None]:
        from handlens.explanation.heat import IndependentError
        from handlens.explanation.pictures import with_heat

        opened = self._opened
        for done, (path, index) in enumerate(wanted, start=1):
            try:
                shown, image = opened.read(path)
                (reason,) = opened.reasons(image, index)
                heat, _ = heat_of(opened.net, image, reason, METHOD, self._layers)
            except (IndependentError, UnreadableImageError):  # weights that are 0; a file that is gone meanwhile
                yield None
            else:
                yield with_heat(shown, heat)
            self._report.progress("heat maps", done, len(wanted))


def heat_maps_of(run: Run, report: Reporter) -> RunHeatMaps | None:
    """None, and a sentence, where the model has no maps to take them from.

    Raises:
        InputError: PyTorch is not installed, or the model cannot be built.
    """
    opened = OpenedModel(run, model=None, report=report)
    try:
        layers = opened.layers(None)
    except InputError as error:
        report.say(f"No heat maps: {error}")
        return None
    return RunHeatMaps(opened, layers, report)
