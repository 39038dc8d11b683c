"""What a task hands to the rest of the project: where training begins, how predictions are measured, how a head is
fitted, and what people are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from handlens.figures import SHARE, Scale
from handlens.preprocess import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from handlens.data.labels.kind import Kind
    from handlens.data.record import Record
    from handlens.evaluation.paired import EachImage
    from handlens.evaluation.report import About
    from handlens.training.head import Head
    from handlens.training.model_info import Architecture
    from handlens.training.recipe import Recipe
    from handlens.training.run import Run

EXPLAINED = 6  # parts of a prediction, largest or likeliest first; of more, nobody looks at every picture
LISTED = 100  # classes; of more, nobody reads the table
# Where predictions are from that a model has not learned from.
OUT_OF_FOLD, VALIDATION = "out-of-fold predictions", "validation images"


@dataclass(frozen=True)
class Start:
    """Where training begins.

    Attributes:
        preprocess: with the normalization that goes with the weights.
        weights: a name of published weights or a file; None from scratch, and of a module that came with its own.
    """

    net: nn.Module
    preprocess: Preprocess
    architecture: Architecture
    weights: str | None = None


@dataclass(frozen=True)
class Tile:
    """An image with what is known of it, for a contact sheet.

    Attributes:
        image: (H, W, 3) uint8, as large as a tile.
        classes: indices of those that its colors stand for; a legend names them.
    """

    image: NDArray[np.uint8]
    caption: str
    classes: frozenset[int] = frozenset()


@dataclass(frozen=True)
class OfClass:
    """The metric of each class, or of each number of a regression, that two models are compared by.

    Attributes:
        title: as people call it.
        higher: more of it is better.
    """

    title: str
    higher: bool = True
    scale: Scale = SHARE


class Labeled(Protocol):
    """What a label means: a data set, or anything else that has its names and its kind."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def kind(self) -> Kind: ...


@dataclass(frozen=True)
class Headline:
    """What the terminal says of an evaluation: sentences, with rich's markup, and a table with a row per class."""

    sentences: tuple[str, ...]
    rows: tuple[dict[str, Any], ...] = ()

    @classmethod
    def by_class(cls, sentences: tuple[str, ...], rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Headline:
        """With these columns of the metrics of each class; of too many classes none."""
        shown = rows if len(rows) <= LISTED else ()
        return cls(sentences, tuple({"class": row["class"]} | {key: row[key] for key in keys} for row in shown))


@dataclass(frozen=True)
class ForApps:
    """What whoever builds an app on an exported file is told of its outputs.

    Attributes:
        answer: a module that imports NumPy only, which apps copy: `answer` from arrays to what a prediction is as a
            dictionary, `caption` of that.
        meanings: what an output is, by its name, in Markdown.
        check: how an app's outputs are compared with the expected ones, ready for JSON. Its "kind" is
            "close": no number of "output" is off by more than "tolerances", one for all or one for each;
            "equal": a "share" of the numbers of "output", whole ones, is the same;
            "rows": of "outputs" (boxes, scores, labels), each box that scores "from" or more has a counterpart on the
            other side: the same label, no other number off by more than "tolerance".
        model: further keys of the app's model.json, which `answer` reads.
    """

    answer: Path
    meanings: Mapping[str, str]
    check: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reason:
    """A part of a prediction that can be explained: a class, a label, a number, an area, a box.

    Attributes:
        title: "tulip 97.3 %".
        score: what the model gives for N images -> (N,), more where more speaks for it.
        box: left, top, right, bottom, fractions of the model's input, where the part has a place.
    """

    title: str
    score: Callable[[Any], Tensor]
    box: tuple[float, float, float, float] | None = None


def output_of(index: int) -> Callable[[Any], Tensor]:
    """The score of one output of a model that gives (N, K)."""
    return lambda raw: raw[:, index]


@dataclass(frozen=True)
class Found:
    """What a task finds in a data set by trying a model on it, beside the audit.

    Attributes:
        values: for JSON, by a key of its own.
        sentence: for people.
    """

    values: dict[str, Any]
    sentence: str


class HeatMaps(Protocol):
    def pictures(self, wanted: Sequence[tuple[Path, int]]) -> Iterator[NDArray[np.uint8] | None]:
        """Per file and class the image with what speaks for that class over it, at the size that the model is given;
        None where nothing does."""
        ...


class Measure(Protocol):
    """Takes every image once and then says how good the predictions were.

    Attributes:
        kept: the metrics that model.json keeps.
        records: of the images taken so far.
    """

    kept: tuple[str, ...]
    records: list[Record]

    def add(self, record: Record, result: Any) -> None:
        """
        Raises:
            InputError: the label cannot be read, for example a mask.
        """
        ...

    def metrics(self) -> dict[str, Any]:
        """Ready for JSON."""
        ...

    def each(self) -> EachImage:
        """What each of `records` adds to the task's metric and to that of its classes, `Task.of_class`."""
        ...

    def write_report(
        self, path: Path, run: Run, *, metrics: dict[str, Any], about: About, heat: HeatMaps | None
    ) -> None:
        """The page for people.

        Args:
            metrics: as `metrics` returns them.
            heat: for the images on the page, where the task has a use for it.
        """
        ...


class Frozen(Protocol):
    """How a linear head is fitted on frozen features and judged by cross-validation."""

    def fit(
        self,
        features: NDArray[np.float32],
        records: Sequence[Record],
        folds: NDArray[np.int64],
        *,
        copies: int,
        recipe: Recipe,
        names: Sequence[str],
    ) -> Head:
        """
        Args:
            features: (N * copies, D), the copies of one image in consecutive rows, the unaugmented one first.
            folds: (N,) fold number of each image.
        """
        ...

    def validation(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, float]:
        """The task's metric and "loss" on images that the head of their fold had not seen.

        Raises:
            FindingsError: there are too few images.
        """
        ...

    def score(self, raw: Tensor, records: Sequence[Record]) -> tuple[float, float]:
        """(metric, -loss) of a head's outputs (N, K)."""
        ...

    def errors_by_class(self, raw: Tensor, records: Sequence[Record]) -> NDArray[np.float64]:
        """(K,) what each class adds to 1 - metric of a head's outputs (N, K); (0,) where labels have no classes."""
        ...

    def choose(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
        """As `Task.choose`, on the images that the head of their fold had not seen."""
        ...
