"""The comparison of exported files with PyTorch, for one run and its images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from handlens.flow.counting import count
from handlens.flow.export_options import ExportOptions
from handlens.flow.proof import ProofImages
from handlens.reporter import Reporter
from handlens.runtimes.comparison import UNLABELED, Proof, measure_parity, prepare
from handlens.runtimes.fold import folded
from handlens.runtimes.graph import DeployGraph, ResizingGraph
from handlens.runtimes.parity import Parity
from handlens.runtimes.resizers import RESIZERS, Resizer
from handlens.runtimes.runtime import Runtime
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from handlens.runtimes.engine import Arrays
    from handlens.tasks.task import Task

ROOM = 2e9  # bytes of pixels on disk
BUDGET = 50.0  # seconds of processor time for one comparison, where nobody says how many images
FEW_IMAGES = 100  # of which one is more than a point: a refusal says so
FEWEST = 8  # images that it takes nevertheless


class Gate:
    """A context: it keeps the images' pixels on disk, so that PyTorch is asked once for however many files.

    Attributes:
        graph: what is converted.

    Raises:
        InputError: there are no images.
    """

    def __init__(
        self,
        run: Run,
        net: nn.Module,
        options: ExportOptions,
        *,
        report: Reporter,
    ) -> None:
        self.run, self.task, self.report = run, TASKS[run.task], report
        self.with_resize, self.suppress = options.with_resize, options.suppress
        self._sources, self._images = ProofImages(run, options.data, report=report), options.images
        self._data = options.data
        self._deployed = DeployGraph(net, run.preprocess, last_step=self.task.last_step, suppress=options.suppress)
        whole = options.split == options.strips == 1
        smaller = self._deployed if whole else self._split(net, options.split, options.strips)
        shape = (2, run.preprocess.height, run.preprocess.width, run.preprocess.channels)
        ready = folded(smaller, torch.zeros(shape, dtype=torch.uint8))
        self.graph = ResizingGraph(ready, run.preprocess) if options.with_resize else ready
        self._scratch = tempfile.TemporaryDirectory()
        self._proofs: dict[str, Proof] = {}

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *raised: object) -> None:
        self._scratch.cleanup()

    def _split(self, net: nn.Module, split: int, strips: int) -> DeployGraph:
        preprocess = self.run.preprocess
        shape = {"height": preprocess.height, "width": preprocess.width, "channels": preprocess.channels}
        title = self.run.folder.name
        cost, lean = count(net, title, **shape, split=split, strips=strips)
        before, after = count(net, title, **shape).cost.arena_numbers / 1e3, cost.arena_numbers / 1e3
        self.report.say(
            f"Memory in int8, as TFLite Micro plans it: {before:,.1f} kB whole, {after:,.1f} kB with {lean}."
        )
        return DeployGraph(lean.net, preprocess, last_step=self.task.last_step, suppress=self.suppress)

    def compare(self, file: Path, runtime: Runtime, *, max_drop: float | None = None, int8: bool = False) -> Parity:
        """On the test images.

        Args:
            max_drop: as of `measure_parity`.
            int8: the file is also run by other kernels.
        """
        if "test" not in self._proofs:
            everything = len(self._sources)
            count = self._images
            if count is None:
                resizers = () if self.with_resize else tuple(RESIZERS.values())
                count = self._affordable(self._sources, 3 + len(resizers), resizers=resizers)
            self._sources.keep(everything if count == "all" else count)
            number = len(self._sources)
            rest = "" if number == everything else f" of {everything} (--all compares all)"
            self.report.say(f"Comparing predictions on {number} images{rest}, in a process without PyTorch.")
            self._proofs["test"] = self._prepared("test", self._sources, available=everything, with_resizers=True)
        return self._measured(
            file, runtime, self._proofs["test"], max_drop=max_drop, with_resizers=True, other_kernels=int8
        )

    def compare_on_validation(self, file: Path, runtime: Runtime, *, max_drop: float) -> Parity:
        """On the validation images of the run, for what is chosen; on the test images where there are no others."""
        if "validation" not in self._proofs:
            data = None if self.run.has_images else self._data
            sources = ProofImages(self.run, data, prefer="validation", report=self.report)
            everything = len(sources)
            count = self._affordable(sources, 1 + len(runtime.int8)) if self._images is None else self._images
            sources.keep(everything if count == "all" else count)
            self._proofs["validation"] = self._prepared(
                "validation", sources, available=everything, with_resizers=False
            )
        return self._measured(file, runtime, self._proofs["validation"], max_drop=max_drop, with_resizers=False)

    def _affordable(self, sources: ProofImages, passes: int, *, resizers: Sequence[Resizer] = ()) -> int:
        """How many images can be decoded, resized and run so many times within BUDGET, where a runtime takes no longer
        than PyTorch does; and kept within ROOM, where they are kept whole.

        Args:
            resizers: those that each image goes through beside our own.
        """
        preprocess = self.run.preprocess
        size = (preprocess.height, preprocess.width, preprocess.channels)
        self._reference(np.zeros((4, *size), dtype=np.uint8))  # the first batch of a shape is slower
        begin = time.process_time()
        self._reference(np.zeros((4, *size), dtype=np.uint8))
        running = (time.process_time() - begin) / 4
        begin = time.process_time()
        images = sources.examples()
        for image in images:
            preprocess.pixels(image)
            for resize in resizers:
                resize(image, preprocess)
        loading = (time.process_time() - begin) / max(1, len(images))
        count = int(BUDGET / (passes * running + loading))
        if self.with_resize and images:
            count = min(count, int(ROOM / max(image.nbytes for image in images)))
        return max(FEWEST, count)

    def _prepared(self, name: str, sources: ProofImages, *, available: int, with_resizers: bool) -> Proof:
        folder = Path(self._scratch.name) / name
        folder.mkdir()
        return prepare(
            folder,
            sources.decoded(self.report),
            preprocess=self.run.preprocess,
            reference=self._reference,
            score=sources.score if self.suppress else lambda arrays, keep=None: None,
            available=available,
            any_size=self.with_resize,
            with_resizers=with_resizers,
        )

    def _measured(
        self,
        file: Path,
        runtime: Runtime,
        proof: Proof,
        *,
        max_drop: float | None,
        with_resizers: bool,
        other_kernels: bool = False,
    ) -> Parity:
        return measure_parity(
            file,
            proof,
            task=self.task.name,
            compare=self.task.compare,
            changed=self.task.changed,
            runtime=runtime,
            thresholds=self.task.thresholds(self.run.model.chosen),
            max_drop=max_drop,
            with_resizers=with_resizers,
            other_kernels=other_kernels,
            report=self.report,
        )

    def sources(self) -> list[tuple[str, Path]]:
        """(id, file) of the images that are compared."""
        return [(record.id, record.path) for record in self._sources.records]

    def expected(self, images: NDArray[np.uint8]) -> Arrays:
        """What the files must answer to images of the model's size (N, height, width, C), as PyTorch does."""
        return self._reference(images)

    def _reference(self, images: NDArray[np.uint8]) -> Arrays:
        return self._deployed.arrays(images, self.task.outputs)


def failure(parity: Parity, to: str) -> str:
    """Why a file does not pass, as the beginning of a sentence."""
    task = TASKS[parity.task]
    if parity.max_drop is not None:
        row = parity.rows[0]
        tried = ", ".join(f"{entry['setting']} {_figure(entry, task)}" for entry in parity.tried)
        if row.reference_score is None:
            wanted = (
                f"only {100 * row.equal:.1f} % of the {task.compared} equal PyTorch's, and {100 * UNLABELED:.0f} % must"
            )
        elif row.score is None:
            wanted = "its predictions are not numbers"
        else:
            lost = 100 * (row.reference_score - row.score)
            wanted = (
                f"it loses {lost:.1f} points of {task.metric_title} on {row.images} images "
                f"(--max-drop {100 * parity.max_drop:g}{_more_images(row.images, parity.available)})"
            )
        if row.passed:  # then something else has failed
            other = next((entry for entry in parity.kernels if not entry.passed), None)
            if other is not None:
                wanted = f"with {other.name}, {100 * (other.changed or 0):.0f} % of the {task.compared} change"
            else:
                wanted = f"no setting is within --max-drop {100 * parity.max_drop:g}"
        precision = "int8" if parity.tried else "fp16"
        said = f"the {precision} export to {to} is refused: {wanted}"
        if tried:
            said += f"; on the validation images, int8 of float: {tried}"
        if row.images < FEW_IMAGES:
            said += f". Of {row.images} images, one is {100 / row.images:.1f} points: give more with --data"
        if parity.tried and not any(entry["keep_float"] for entry in parity.tried):
            said += ". --keep-float 1 leaves the layer that int8 hurts most in float"
        return said
    worst: Any = max(parity.rows, key=lambda row: (row.passed is False, row.largest_difference or 1 - row.equal))
    far = f", {task.differs} by up to {worst.largest_difference:.2g}" if worst.largest_difference else ""
    return (
        f"the export to {to} does not match PyTorch: {100 * (1 - worst.equal):.2f} % of the {task.compared} differ{far}"
    )


def _more_images(compared: int, available: int) -> str:
    return f"; --all compares all {available}" if compared < available else ""


def _figure(entry: dict[str, Any], task: Task) -> str:
    if entry["score"] is None or entry["reference_score"] is None:
        return f"{100 * entry['equal']:.1f} % equal"
    return f"{100 * entry['score']:.1f} of {100 * entry['reference_score']:.1f}"
