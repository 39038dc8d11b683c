"""The comparison of exported files with PyTorch, for one run and its images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.flow.proof import ProofImages
from handlens.reporter import Reporter
from handlens.runtimes.graph import DeployGraph, ResizingGraph
from handlens.runtimes.parity import RESIZERS, Parity, measure_parity
from handlens.runtimes.runtime import Runtime
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from handlens.runtimes.engine import Arrays

BUDGET = 50.0  # seconds of processor time for one comparison, where nobody says how many images
FEWEST = 8  # images that it takes nevertheless


class Gate:
    """
    Args:
        with_resize: the files take images of any size.
        suppress: False leaves non-maximum suppression to the app.

    Attributes:
        graph: what is converted.
    """

    def __init__(self, run: Run, net: nn.Module, *, with_resize: bool, suppress: bool, report: Reporter) -> None:
        self.run, self.task, self.report = run, TASKS[run.task], report
        self.with_resize, self.suppress = with_resize, suppress
        self._deployed = DeployGraph(net, run.preprocess, last_step=self.task.last_step, suppress=suppress)
        self.graph = ResizingGraph(self._deployed, run.preprocess) if with_resize else self._deployed

    def affordable(self, runtime: Runtime) -> int:
        """How many images can be compared within BUDGET, where the runtime takes no longer than PyTorch does."""
        preprocess = self.run.preprocess
        size = (preprocess.height, preprocess.width, preprocess.channels)
        self._reference(np.zeros((1, *size), dtype=np.uint8))  # the first one is slower
        begin = time.process_time()
        self._reference(np.zeros((4, *size), dtype=np.uint8))
        seconds = (time.process_time() - begin) / 4
        return max(FEWEST, int(BUDGET / ((1 + len(runtime.precisions) + len(RESIZERS)) * seconds)))

    def compare(
        self,
        file: Path,
        runtime: Runtime,
        sources: ProofImages,
        *,
        available: int,
        max_drop: float | None = None,
        with_resizers: bool = True,
    ) -> Parity:
        """
        Args:
            available: how many images there are, of which `sources` are some.
            max_drop, with_resizers: as those of `measure_parity`.
        """
        return measure_parity(
            file,
            task=self.task.name,
            compare=self.task.compare,
            changed=self.task.changed,
            runtime=runtime,
            images=sources.decoded(self.report),
            available=available,
            preprocess=self.run.preprocess,
            reference=self._reference,
            any_size=self.with_resize,
            thresholds=self.task.thresholds(self.run.model.chosen),
            score=sources.score if self.suppress else lambda arrays: None,
            max_drop=max_drop,
            with_resizers=with_resizers,
            report=self.report,
        )

    def _reference(self, images: NDArray[np.uint8]) -> Arrays:
        return self._deployed.arrays(images, self.task.outputs)


def failure(parity: Parity, to: str, *, max_drop: float | None) -> str:
    """Why a file does not pass, as the beginning of a sentence."""
    task = TASKS[parity.task]
    if max_drop is not None:
        row = next(row for row in parity.rows if row.passed is False)
        if row.score is None or row.reference_score is None:
            return f"of the int8 export to {to}, only {100 * row.equal:.1f} % of the {task.compared} are PyTorch's"
        return (
            f"the int8 export to {to} loses {100 * (row.reference_score - row.score):.1f} points of "
            f"{task.metric_title} (--max-drop {100 * max_drop:g})"
        )
    worst: Any = max(parity.rows, key=lambda row: (row.passed is False, row.largest_difference or 1 - row.equal))
    far = f", {task.differs} by up to {worst.largest_difference:.2g}" if worst.largest_difference else ""
    return (
        f"the export to {to} does not match PyTorch: {100 * (1 - worst.equal):.2f} % of the {task.compared} differ{far}"
    )
