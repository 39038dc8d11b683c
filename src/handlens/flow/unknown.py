"""None of these: which images look like none of the classes, and what asking for it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.evaluation import unknown as scoring
from handlens.evaluation.calibration import log_probabilities
from handlens.evaluation.metrics import wilson_interval
from handlens.evaluation.unknown import GEN
from handlens.flow.choose_recognition import recognition_of
from handlens.flow.embeddings import embedder_of
from handlens.flow.held_out import head_learned_all
from handlens.flow.labeled_images import TestImages
from handlens.flow.recognition import Recognition
from handlens.reporter import Reporter
from handlens.results import Prediction
from handlens.runtimes.names import FEATURES
from handlens.runtimes.stream import answers, load_both_views
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.data.record import Record
    from handlens.runtimes.engine import Precision


@dataclass(frozen=True, eq=False)
class Asked:
    """
    Attributes:
        share: of images of the classes, of which at most so many are rejected.
        recognition: by the features of the run's own engine; None of exports, which give probabilities alone.
    """

    share: float
    recognition: Recognition | None


def require_unknown(run: Run, share: float) -> None:
    """
    Raises:
        InputError: no share, or another task.
    """
    if not 0 < share < 1:
        raise InputError(f"--unknown must be between 0 and 1, such as 0.05, got {share:g}.")
    task = TASKS[run.task]
    if task.known_result is None:
        raise InputError(
            f"--unknown is available for single-label classification only; the task of {run.folder.name} is "
            f"{task.name}."
        )


def ask(run: Run, share: float, *, engine: str | None, precision: str, report: Reporter) -> Asked:
    """
    Raises:
        InputError: as `require_unknown` and `recognition_of`; a model without images of its own, an export that says
            nothing of them, or a share that so few known images cannot tell.
    """
    require_unknown(run, share)
    recognition = None
    if engine is None and precision != "int8" and not run.folder.is_file():
        if run.model.data is None:
            raise InputError(
                f"--unknown needs images that the model was trained on; {run.folder.name} has none of its own."
            )
        recognition = recognition_of(run, report)
        count = len(recognition.known)
    else:
        known = run.model.known_scores
        if known is None:
            raise InputError(
                f"{run.folder.name} says nothing of the images that it knows: it was trained on too few, or by an "
                "earlier version."
            )
        count = min(known.count, scoring.QUANTILES - 1)
    if share < (least := scoring.smallest_p(count)):
        raise InputError(
            f"--unknown {share:g} is too little to be told by {count} known images; ask for at least "
            f"{_rounded_up(least):g}."
        )
    return Asked(share, recognition)


def _rounded_up(share: float) -> float:
    """To two digits, so that it is enough."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return math.ceil(share / unit) * unit


def circular(run: Run, test: TestImages) -> bool:
    """Whether the known images are those that are measured, of which the share is rejected by construction."""
    return test.own and test.split == "validation" and not head_learned_all(run)


def recognized(
    run: Run, asked: Asked, files: Iterable[Path], *, precision: Precision, report: Reporter
) -> Iterator[Prediction]:
    """One prediction per file, in order, each a `KnownClasses`, by the features."""
    assert asked.recognition is not None
    engine = _Recognizing(embedder_of(run, precision=precision, report=report).engine(), asked.recognition)
    kind: Any = TASKS[run.task].known_result
    for answer in answers(files, engine, preprocess=run.preprocess, load=load_both_views):
        if answer.arrays is None:
            yield Prediction(answer.path, None, answer.error)
        else:
            probabilities, p = answer.arrays["probabilities"], float(answer.arrays["p"])
            yield Prediction(answer.path, kind(probabilities, run.class_names, p, asked.share))


def recognized_by_probabilities(run: Run, asked: Asked, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Predictions of any of a run's files, each as a `KnownClasses`: by GEN and the quantiles that the file carries."""
    kind: Any = TASKS[run.task].known_result
    known = run.model.known_scores
    assert known is not None
    for one in predictions:
        result: Any = one.result
        if result is None:
            yield one
            continue
        scores = scoring.generalized_entropy(log_probabilities(result.probabilities[None]))
        [p] = scoring.p_by_quantiles(scores, known.quantiles, known.count)
        yield Prediction(one.path, kind(result.probabilities, result.names, float(p), asked.share))


def measure_unknown(
    run: Run,
    asked: Asked,
    records: Sequence[Record],
    predictions: Sequence[Prediction],
    *,
    precision: Precision,
    report: Reporter,
) -> dict[str, Any]:
    """What asking for it costs on images of the classes: how many are rejected, and how good the rest is.

    Args:
        predictions: for the records, of the file that was evaluated.

    Returns:
        {"asked", "rejected", "rejected_interval", "count", "accuracy_of_the_rest", "score", "auroc", "left_out"}.

    Raises:
        InputError: none of the images can be read any more.
    """
    recognition = asked.recognition
    if recognition is not None:
        found = recognized(run, asked, (record.path for record in records), precision=precision, report=report)
    else:
        found = recognized_by_probabilities(run, asked, predictions)
    rejected, right = [], []
    for done, (record, prediction) in enumerate(zip(records, found, strict=True), start=1):
        result: Any = prediction.result
        if result is not None:
            rejected.append(result.unknown)
            right.append(int(result.probabilities.argmax()) == record.label)
        report.progress("none of these", done, len(records))
    if not rejected:
        raise InputError(f"none of the {len(records)} images can be read any more.")
    out = np.array(rejected, dtype=bool)
    rest = np.array(right, dtype=bool)[~out]
    return {
        "asked": asked.share,
        "rejected": float(out.mean()),
        "rejected_interval": wilson_interval(int(out.sum()), len(out)),
        "count": len(out),
        "accuracy_of_the_rest": float(rest.mean()) if len(rest) else None,
        "score": GEN if recognition is None else recognition.score,
        "auroc": None if recognition is None else recognition.auroc.get(recognition.score),
        "left_out": [] if recognition is None else list(recognition.left_out),
    }


class _Recognizing:
    """An engine of features that gives probabilities and p-values of images (N, 2, height, width, C)."""

    def __init__(self, engine: Any, recognition: Recognition) -> None:
        self._engine, self._recognition = engine, recognition

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, dict[str, Any]]]:
        views = ((key, images.reshape(-1, *images.shape[2:])) for key, images in batches)
        for key, arrays in self._engine.stream(views):
            features = arrays[FEATURES]
            probabilities, p = self._recognition.probabilities_and_p(features[::2], features[1::2])
            yield key, {"probabilities": probabilities, "p": p}
