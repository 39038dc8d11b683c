"""Images of a run that are no test images, where there are others, and what a net's outputs on them are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.flow.proof import ProofImages
from handlens.reporter import Reporter
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from handlens.data.record import Record
    from handlens.quantization.simulation import Simulation
    from handlens.runtimes.engine import Arrays


class Judge:
    """What outputs are worth: the labels that change, and the metric where there are labels.

    Args:
        data: labeled or not; None is the run's own validation images, or else those of `otherwise`.
        otherwise: (N, height, width, C) uint8.
        images: how many at most.
        every_other: half of the images are spared, for calibration.

    Attributes:
        pixels: (N, height, width, C) uint8.
        reference: the metric in float; None without labels.
        spared: records of images that are not measured on.

    Raises:
        InputError: there are no images, or too few to spare some.
    """

    def __init__(
        self,
        run: Run,
        net: nn.Module,
        *,
        data: Path | str | None,
        otherwise: NDArray[np.uint8] | None = None,
        images: int,
        every_other: bool = False,
        report: Reporter,
    ) -> None:
        import numpy as np

        self.task, self._net, self._thresholds = TASKS[run.task], net, TASKS[run.task].thresholds(run.model.chosen)
        self._sources: ProofImages | None = None
        self.reference: float | None = None
        self.spared: list[Record] = []
        if data is None and not run.has_images and otherwise is not None:
            chosen = np.linspace(0, len(otherwise) - 1, min(images, len(otherwise))).astype(int)
            self.pixels = otherwise[chosen]
            return
        self._sources = ProofImages(run, data, prefer="validation", report=report)
        if every_other:
            if len(self._sources) < 2:
                raise InputError(f"{data} has one image; int8 needs one to calibrate with and one to measure on.")
            self.spared, self._sources.records = self._sources.records[::2], self._sources.records[1::2]
        self._sources.keep(images)
        decoded = self._sources.decoded(report)
        self.pixels = np.stack([run.preprocess.pixels(image) for _, image in decoded])

    def arrays(self, raw: Any) -> Arrays:
        """The task's outputs by name, from what the net gives."""
        import torch

        with torch.inference_mode():
            made = self.task.last_step(self._net, raw, suppress=True)
        parts = made if isinstance(made, tuple) else (made,)
        return {name: part.numpy() for name, part in zip(self.task.outputs, parts, strict=True)}

    def together(self, parts: Sequence[Any]) -> Arrays:
        """The same of batches, joined."""
        import numpy as np

        arrays = [self.arrays(part) for part in parts]
        return {name: np.concatenate([array[name] for array in arrays]) for name in arrays[0]}

    def changed(self, whole: Any, raw: Any) -> float | None:
        return self.task.changed(self.arrays(raw), self.arrays(whole), thresholds=self._thresholds)

    def changed_labels(self, values: Arrays, whole: Arrays) -> float | None:
        return self.task.changed(values, whole, thresholds=self._thresholds)

    def score(self, values: Arrays) -> float | None:
        return None if self._sources is None else self._sources.score(values)


def in_batches(simulation: Simulation, inputs: Tensor) -> Iterator[Any]:
    """What the net gives for a batch at a time, so that large outputs need not be held together."""
    for start in range(0, len(inputs), simulation.batch):
        yield simulation(inputs[start : start + simulation.batch])
