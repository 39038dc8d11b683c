"""What a task is: all that differs between classifying, tagging, segmenting and detecting, behind one Protocol.

The rest of the project is handed a Task and never asks for its name. A new task is a new folder beside this file and a
line in `TASKS`. Importing one does not import torch: methods that need it do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from handlens.errors import InputError
from handlens.figures import SHARE, Scale
from handlens.preprocess import Preprocess, ResizePolicy
from handlens.tasks.pieces import ForApps, Found, Frozen, Headline, Labeled, Measure, OfClass, Reason, Start, Tile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from handlens.data.check import Audit
    from handlens.data.record import Dataset, Record
    from handlens.quantization.prediction import Prediction
    from handlens.reporter import Reporter
    from handlens.results import Result
    from handlens.runtimes.agreement import Agreement
    from handlens.runtimes.engine import Arrays, Engine
    from handlens.tasks.sinks import Sink
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run


class Task(Protocol):
    """
    Attributes:
        name: in model.json and on the command line.
        models: the task that the catalogue lists its models under.
        metric: picks the best epoch; more is better.
        outputs: names of the exported graph's outputs, in order.
        result: what a prediction is.
        defaults: of a recipe, where they are not the general ones. Measured in benchmarks/.
        uses: of what not every task has a use for in a recipe.
        has_head: a head can be fitted on frozen features.
        shows_heat: its report has heat maps.
        heat_method: of `explain`, where none is asked for.
        has_temperature: how sure its predictions are can be mended by one number.
        set_result: what a prediction with a set of classes is, of tasks that have such sets.
        known_result: what a prediction is that says whether the image looks like any of the classes, of tasks that have
            it.
        published_classes: how many its models were published with, where the catalogue does not say.
        compared: what parity counts: labels, pixels, boxes.
        metric_title: the metric as people call it.
        scale: how it is written.
        of_class: the metric of each class, by which models are compared.
        tolerated: what may differ by the tolerance of a probability; None where something else decides.
        differs: what parity measures the difference of; None where there is nothing but equal or not.
        evaluated_at: the threshold of an evaluation, in place of the run's own.
        has_windows: a large image can be predicted in windows.
        has_threshold: a prediction depends on a score that users may set.
        predicts_drop: `predicted_drop` says something.
        resize: how an image becomes the input of a model of the caller's own.
    """

    name: ClassVar[str]
    models: ClassVar[str]
    metric: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]]
    result: ClassVar[type[Result]]
    compared: ClassVar[str]
    differs: ClassVar[str | None] = None
    tolerated: ClassVar[str | None] = None
    metric_title: ClassVar[str]
    scale: ClassVar[Scale] = SHARE
    of_class: ClassVar[OfClass]
    defaults: ClassVar[Mapping[str, Any]] = {}
    uses: ClassVar[frozenset[str]] = frozenset()
    has_head: ClassVar[bool] = False
    shows_heat: ClassVar[bool] = False
    heat_method: ClassVar[str] = "gradcam"
    has_temperature: ClassVar[bool] = False
    set_result: ClassVar[type[Result] | None] = None
    known_result: ClassVar[type[Result] | None] = None
    published_classes: ClassVar[int]
    evaluated_at: ClassVar[float | None] = None
    has_threshold: ClassVar[bool] = False
    has_windows: ClassVar[bool] = False
    predicts_drop: ClassVar[bool] = False
    resize: ClassVar[ResizePolicy] = "crop"

    def sinks(self, run: Run) -> dict[str, Callable[[Path], Sink]]:
        """The outputs that only this task's predictions have, by the option of `predict` that names their path; those
        that can refuse it first."""
        return {}

    def thresholds(self, chosen: Mapping[str, Any]) -> tuple[float, ...]:
        """Those that a run was given on its validation images, from `ModelInfo.chosen`."""
        return ()

    def answer(
        self,
        arrays: Arrays,
        height: int,
        width: int,
        *,
        preprocess: Preprocess,
        names: tuple[str, ...],
        thresholds: Sequence[float],
    ) -> Result:
        """What an engine's arrays say about an image of this size, in the image's own pixels.

        Args:
            arrays: by output name, without the batch.
        """
        ...

    def in_windows(
        self, image: NDArray[np.uint8], engine: Engine, *, preprocess: Preprocess, names: tuple[str, ...]
    ) -> Result:
        """The prediction for an image larger than the net's input, in overlapping windows at its own size.

        Args:
            image: (H, W, 3) uint8.

        Raises:
            InputError: the task has no such prediction.
        """
        raise InputError(f"tiles are available for segmentation only; the task of this model is {self.name}.")

    def measure(self, run: Run, kind: Any) -> Measure:
        """
        Args:
            kind: of the labels, which are indices into the run's classes.
        """
        ...

    def headline(self, result: Mapping[str, Any]) -> Headline:
        """
        Args:
            result: what `evaluate` returns.
        """
        ...

    def shown(self, value: float) -> str:
        """The metric as people read it."""
        return f"{self.metric_title} {100 * value:.1f} %"

    def bare(self, value: float) -> str:
        """As `shown`, without the metric's name."""
        return self.shown(value).removeprefix(self.metric_title).strip()

    def interval(self, value: float, count: int) -> tuple[float, float] | None:
        """95 % interval of the metric over `count` images, from these two numbers alone; None where it takes more."""
        return None

    def tile(self, record: Record, meaning: Labeled) -> Tile:
        """
        Raises:
            InputError: the image or its label cannot be read.
        """
        ...

    def compare(
        self, values: Arrays, expected: Arrays, ids: Sequence[str], *, thresholds: Sequence[float]
    ) -> Agreement:
        """Whether a runtime's arrays (N, ...) count as those of PyTorch."""
        ...

    def changed(self, values: Arrays, own: Arrays, *, thresholds: Sequence[float]) -> float | None:
        """Share of what is found that is another: of labels; of tags that either side gives; of pixels that are not of
        the most common class on both; of boxes. None where nothing is found."""
        ...

    def for_apps(self, chosen: Mapping[str, Any], expected: Arrays, *, exact: bool) -> ForApps:
        """
        Args:
            chosen: `ModelInfo.chosen`.
            expected: outputs (N, ...) for the images that an app is tested with.
            exact: the file computes in float32. Of int8, `expected` are the file's own outputs on one processor, and
                others may round otherwise.
        """
        ...

    def predicted_drop(self, values: Arrays, own: Arrays) -> Prediction | None:
        """What the metric loses where a model answers `values` in place of `own`, its probabilities in float, without
        labels; None where it takes more to say."""
        return None

    def refusal(self, *, with_resize: bool, suppress: bool) -> str | None:
        """Why a graph cannot be made so, as the end of a sentence; None where it can."""
        return None if suppress else "--no-suppress applies to detection only"

    def start(self, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        """The model that a recipe starts from, with weights unless trained from scratch, and its Preprocess.

        Raises:
            InputError: no such model, one of another task, or weights that do not fit or cannot be had.
        """
        ...

    def learning(self, recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Learning:
        """What the model is fed while it is trained, and how it learns from it."""
        ...

    def frozen(self, dataset: Dataset) -> Frozen:
        """How a head on frozen features is fitted, of tasks that have one.

        Args:
            dataset: with the split that is trained on.
        """
        raise InputError(f"mode head is not available for the task {self.name}.")

    def refuses_model(self, net: nn.Module, raw: Any, *, classes: int, height: int, width: int) -> str | None:
        """Why a model of the caller's own is none for the task; None where it is one.

        Args:
            raw: what it gives for two images of height x width pixels.
        """
        return other_shape(raw, (2, classes), "logits (N, classes)")

    def finish(self, net: nn.Module, dataset: Dataset, chosen: Mapping[str, Any]) -> None:
        """The last change of a trained model's weights, before it is saved.

        Args:
            chosen: what `choose` returned.
        """
        return

    def choose(
        self, net: nn.Module, preprocess: Preprocess, dataset: Dataset, folder: Path, report: Reporter
    ) -> dict[str, Any]:
        """What is chosen on the validation images for `ModelInfo.chosen`, for example thresholds."""
        return {}

    def chosen(self, values: Mapping[str, Any]) -> str:
        """The sentence about what `choose` returned."""
        return ""

    def last_step(self, net: nn.Module, raw: Any, *, suppress: bool = True) -> Tensor | tuple[Tensor, ...]:
        """From what the model gives to the graph's outputs."""
        ...

    def reasons(
        self, net: nn.Module, raw: Any, *, names: Sequence[str], thresholds: Sequence[float], wanted: int | None
    ) -> list[Reason]:
        """What of a prediction can be explained, likeliest first.

        Args:
            raw: what the model gives for one image.
            wanted: a class, predicted or not; None is what was predicted.

        Returns:
            nothing where the class has no place that could be explained, as in a mask without it.
        """
        ...

    def golden(self, record: Record, names: Sequence[str], arrays: Arrays) -> dict[str, Any]:
        """What golden.json says of an image beside its name: its label, and the prediction in words."""
        return {}

    def published(self) -> dict[str, Any]:
        """`ModelInfo.chosen` of published weights."""
        return {}

    def examine(self, audit: Audit, report: Reporter) -> Found | None:
        """What `check` can say beside the audit; None where there is nothing, or torch is not installed."""
        return None

    def suspects(self, audit: Audit, report: Reporter) -> list[dict[str, Any]]:
        """Images whose label a model doubts: dicts of file (id), label, suggested, probability, label_probability.

        Raises:
            InputError: the task has no such search.
        """
        raise InputError(
            f"--labels is available for single-label classification only; the task of this data is {self.name}."
        )


def other_shape(raw: Any, expected: tuple[int, ...], what: str) -> str | None:
    """That a model does not give a tensor of this shape, with what it gives; None where it does."""
    shape = getattr(raw, "shape", None)
    if shape is not None and tuple(shape) == expected:
        return None
    given = type(raw).__name__ if shape is None else f"shape {tuple(shape)}"
    return f"it gives {given} for two images, and {what} are expected: {expected}"
