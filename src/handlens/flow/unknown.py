"""None of these: which images look like none of the classes, by a score that is chosen on the run's own images."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.finding import counted
from handlens.errors import InputError
from handlens.evaluation import unknown as scoring
from handlens.evaluation.metrics import wilson_interval
from handlens.evaluation.unknown import BOTH, ENERGY, FEWEST, GEN, KNN, MAHALANOBIS, Features, Floats, Gaussians
from handlens.files import write_bytes
from handlens.flow.embeddings import embedder_of
from handlens.flow.held_out import Learned, head_learned_all, learned_images
from handlens.reading.arrays import read_arrays
from handlens.reporter import Reporter
from handlens.results import Prediction
from handlens.runtimes.names import FEATURES
from handlens.runtimes.stream import answers
from handlens.tasks import TASKS
from handlens.training.run import WEIGHTS, Run, locked

if TYPE_CHECKING:
    from handlens.data.record import Record
    from handlens.runtimes.engine import Precision
    from handlens.training.head import Head

KEPT = "unknown.npz"
MOST_LEFT_OUT = 5  # classes that take the part of the unknown: each costs the fit of a head
LEAST_LEFT_OUT = 3  # classes, of fewer of which none can be preferred
MOST_NEIGHBORS = 4096  # training images that are kept: 10 MB of 1280 features


@dataclass(frozen=True, eq=False)
class Recognition:
    """Tells images of the classes from others.

    Attributes:
        score: one of `evaluation.unknown.NAMES`.
        weight, bias: (K, D) and (K,), the run's classifier.
        bank: (M, D) features of training images, each of length 1.
        gaussians: of the classes; None where the score has no use for them.
        spread: mean and standard deviation of the parts of a sum.
        known: (N,) scores of known images that were not learned from, ascending.
        auroc: of every score, the mean over the classes that were left out; empty where there are too few classes.
        left_out: their names.
    """

    score: str
    weight: Features
    bias: Features
    bank: Features
    gaussians: Gaussians | None
    spread: Mapping[str, tuple[float, float]]
    known: Floats
    auroc: Mapping[str, float]
    left_out: Sequence[str]

    def probabilities_and_p(self, features: Features) -> tuple[Features, Floats]:
        """(N, K) and (N,) of features (N, D)."""
        logits = features @ self.weight.T + self.bias
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = score_of(self.score, features, logits, bank=self.bank, gaussians=self.gaussians, spread=self.spread)
        return raised / raised.sum(axis=1, keepdims=True), scoring.p_values(scores, self.known)


def by_features(run: Run, *, engine: str | None, precision: str) -> bool:
    """Whether the run's own engine predicts, whose features can be had; of exports, probabilities alone."""
    return engine is None and precision != "int8" and not run.folder.is_file()


def require_unknown(run: Run, share: float, *, engine: str | None, precision: str) -> None:
    """
    Raises:
        InputError: no share, another task, a model without images of its own, or an export of an earlier version.
    """
    task = TASKS[run.task]
    if not 0 < share < 1:
        raise InputError(f"--unknown must be between 0 and 1, such as 0.05, got {share:g}.")
    if task.known_result is None:
        raise InputError(
            f"--unknown is available for single-label classification only; the task of {run.folder.name} is "
            f"{task.name}."
        )
    if not by_features(run, engine=engine, precision=precision):
        if run.model.known_scores is None:
            raise InputError(
                f"{run.folder.name} says nothing of the images that it knows: it was trained on too few, or by an "
                "earlier version."
            )
    elif run.model.data is None:
        raise InputError(f"{run.folder.name} has no images of its own, which others are told from.")


def recognition_of(run: Run, report: Reporter) -> Recognition:
    """As it was kept in the run, or made from its images.

    Raises:
        InputError: what was kept is damaged; the images are no longer as they were, or too few.
    """
    return _kept(run) or _made(run, report)


def recognized(
    run: Run, recognition: Recognition, files: Iterable[Path], share: float, *, precision: Precision, report: Reporter
) -> Iterator[Prediction]:
    """One prediction per file, in order, each a `KnownClasses`."""
    engine = _Recognizing(embedder_of(run, precision=precision, report=report).engine(), recognition)
    kind: Any = TASKS[run.task].known_result
    for answer in answers(files, engine, preprocess=run.preprocess):
        if answer.arrays is None:
            yield Prediction(answer.path, None, answer.error)
        else:
            probabilities, p = answer.arrays["probabilities"], float(answer.arrays["p"])
            yield Prediction(answer.path, kind(probabilities, run.class_names, p, share))


def recognized_by_probabilities(run: Run, predictions: Iterable[Prediction], share: float) -> Iterator[Prediction]:
    """Predictions of any of a run's files, each as a `KnownClasses`: by GEN and the quantiles that the file carries."""
    kind: Any = TASKS[run.task].known_result
    known = run.model.known_scores
    assert known is not None
    for one in predictions:
        result: Any = one.result
        if result is None:
            yield one
            continue
        logits = np.log(result.probabilities.clip(np.finfo(np.float32).tiny))[None]
        [p] = scoring.p_by_quantiles(scoring.generalized_entropy(logits), known)
        yield Prediction(one.path, kind(result.probabilities, result.names, float(p), share))


def measure_unknown(
    run: Run,
    records: Sequence[Record],
    predictions: Sequence[Prediction],
    share: float,
    *,
    features: bool,
    precision: Precision,
    report: Reporter,
) -> dict[str, Any]:
    """What asking for it costs on images of the classes: how many are taken for none, and how good the rest is.

    Args:
        predictions: for the records, of the file that was evaluated.
        features: as `by_features` says.

    Returns:
        {"asked", "rejected", "rejected_interval", "count", "accuracy_of_the_rest", "score", "auroc", "left_out"}.
    """
    recognition = recognition_of(run, report) if features else None
    if recognition is not None:
        paths = (record.path for record in records)
        found = recognized(run, recognition, paths, share, precision=precision, report=report)
    else:
        found = recognized_by_probabilities(run, predictions, share)
    rejected, right = [], []
    for done, (record, prediction) in enumerate(zip(records, found, strict=True), start=1):
        result: Any = prediction.result
        if result is not None:
            rejected.append(result.unknown)
            right.append(int(result.probabilities.argmax()) == record.label)
        report.progress("none of these", done, len(records))
    out = np.array(rejected, dtype=bool)
    kept = np.array(right, dtype=bool)[~out]
    return {
        "asked": share,
        "rejected": float(out.mean()),
        "rejected_interval": wilson_interval(int(out.sum()), len(out)),
        "count": len(out),
        "accuracy_of_the_rest": float(kept.mean()) if len(kept) else None,
        "score": GEN if recognition is None else recognition.score,
        "auroc": None if recognition is None else recognition.auroc.get(recognition.score),
        "left_out": [] if recognition is None else list(recognition.left_out),
    }


def score_of(
    name: str,
    features: Features,
    logits: Features,
    *,
    bank: Features,
    gaussians: Gaussians | None,
    spread: Mapping[str, tuple[float, float]],
    itself: bool = False,
) -> Floats:
    """A score (N,) of features (N, D) and logits (N, K).

    Args:
        itself: the features are those of the bank.
    """
    if name == MAHALANOBIS:
        assert gaussians is not None
        return gaussians.distance(features)
    if name == KNN:
        return scoring.neighbor_distance(features, bank, itself=itself)
    if name == BOTH:
        distance = scoring.neighbor_distance(features, bank, itself=itself)
        return scoring.both(distance, scoring.energy(logits), spread)
    by_logits: dict[str, Callable[[Features], Floats]] = {
        scoring.MAX_PROBABILITY: scoring.max_probability,
        ENERGY: scoring.energy,
        scoring.GEN: scoring.generalized_entropy,
    }
    return by_logits[name](logits)


class _Recognizing:
    """An engine of features that gives probabilities and p-values."""

    def __init__(self, engine: Any, recognition: Recognition) -> None:
        self._engine, self._recognition = engine, recognition

    def stream(self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]) -> Iterator[tuple[Any, dict[str, Any]]]:
        for key, arrays in self._engine.stream(batches):
            probabilities, p = self._recognition.probabilities_and_p(arrays[FEATURES])
            yield key, {"probabilities": probabilities, "p": p}


def _made(run: Run, report: Reporter) -> Recognition:
    """From the images that the run was trained on, and kept in it."""
    learned = learned_images(run, report, what="the first use of --unknown")
    training, validation = learned.records["train"], learned.records["validation"]
    every = head_learned_all(run)
    records = [*training, *validation]
    features = learned.backbone.features(records)
    labels = np.array([record.label for record in records], dtype=np.int64)
    weight, bias = _classifier(learned, run)
    fitted = np.arange(len(records)) < (len(records) if every else len(training))
    held = fitted if every else ~fitted
    if held.sum() < FEWEST:
        raise InputError(
            f"{counted(int(held.sum()), 'image')} to take a threshold from are too few for --unknown; at least "
            f"{FEWEST} are needed."
        )
    auroc, left_out = _compared(learned, records, features, labels, run, report)
    name = chosen_score(auroc)
    if every:
        head = _head(learned, records, features, run.class_names)
        assert head.out_of_fold_logits is not None
        logits = head.out_of_fold_logits / np.float32(run.model.temperature)
    else:
        logits = features[held] @ weight.T + bias
    chosen = np.flatnonzero(fitted)
    if len(chosen) > MOST_NEIGHBORS:
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:MOST_NEIGHBORS])
    bank = scoring.unit(features[chosen]).astype(np.float16).astype(np.float32)  # as it is kept
    gaussians = Gaussians.of(features[fitted], labels[fitted]) if name == MAHALANOBIS else None
    report.progress("none of these", 0, None)
    itself = every and len(chosen) == len(records)
    spread = {
        KNN: scoring.spread_of(scoring.neighbor_distance(features[held], bank, itself=itself)),
        ENERGY: scoring.spread_of(scoring.energy(logits)),
    }
    if name == MAHALANOBIS and every:
        known = _two_halves(features, labels)
    else:
        known = score_of(name, features[held], logits, bank=bank, gaussians=gaussians, spread=spread, itself=itself)
    mean = {name: float(np.mean(values)) for name, values in auroc.items()}
    made = Recognition(name, weight, bias, bank, gaussians, spread, np.sort(known), mean, left_out)
    with locked(run.folder):
        _keep(run, made)
    told = f" It tells images of a left out class from the others with an AUROC of {mean[name]:.2f}." if mean else ""
    report.say(
        f"None of these: by {name}, from {counted(int(held.sum()), 'image')}, kept in {KEPT}.{told} What it costs: "
        f"handlens evaluate {shlex.quote(str(run.folder))} --unknown 0.05"
    )
    return made


def chosen_score(auroc: Mapping[str, Sequence[float]]) -> str:
    """KNN + energy, unless another score is better for every class that was left out, then the best of these: the mean
    over a handful of classes alone would choose by chance (benchmarks/unknown.py).

    Args:
        auroc: of every score, for each of these classes; empty where there were none.
    """
    usual = auroc.get(BOTH, ())
    better = [
        name
        for name, values in auroc.items()
        if len(usual) >= LEAST_LEFT_OUT and all(one > other for one, other in zip(values, usual, strict=True))
    ]
    return max(better, key=lambda name: float(np.mean(auroc[name])), default=BOTH)


def _compared(
    learned: Learned,
    records: Sequence[Record],
    features: Features,
    labels: NDArray[np.int64],
    run: Run,
    report: Reporter,
) -> tuple[dict[str, list[float]], list[str]]:
    """AUROC of every score for each of some classes that are left out in turn, and these classes.

    For each a head is fitted on the features of the others, whose images are known, judged by the fold that did not see
    them. A model whose backbone was trained has seen the class, which helps all scores alike.
    """
    classes = len(run.class_names)
    if classes < 3:
        return {}, []
    chosen = np.unique(np.linspace(0, classes - 1, min(classes, MOST_LEFT_OUT)).astype(int))
    found: dict[str, list[float]] = {name: [] for name in scoring.NAMES}
    names = []
    for done, out in enumerate(chosen, start=1):
        inside = labels != out
        if inside.all() or not inside.any():
            continue
        others = [record for record, there in zip(records, inside, strict=True) if there]
        head = _head(learned, others, features[inside], run.class_names)
        if head.out_of_fold_logits is None:
            continue
        keep = [place for place in range(classes) if place != out]
        ours, theirs = features[inside], features[~inside]
        logits = head.out_of_fold_logits[:, keep]
        new = (theirs @ head.weight.numpy().T + head.bias.numpy())[:, keep]
        bank, gaussians = scoring.unit(ours), Gaussians.of(ours, labels[inside])
        spread = {
            KNN: scoring.spread_of(scoring.neighbor_distance(ours, bank, itself=True)),
            ENERGY: scoring.spread_of(scoring.energy(logits)),
        }
        for name in scoring.NAMES:
            if name == MAHALANOBIS:
                known = _two_halves(ours, labels[inside])
            else:
                known = score_of(name, ours, logits, bank=bank, gaussians=None, spread=spread, itself=True)
            unknown = score_of(name, theirs, new, bank=bank, gaussians=gaussians, spread=spread)
            found[name].append(scoring.auroc(known, unknown))
        names.append(run.class_names[int(out)])
        report.progress("none of these", done, len(chosen))
    return (found if names else {}), names


def _two_halves(features: Features, labels: NDArray[np.int64]) -> Floats:
    """Mahalanobis distances of known images, each by the Gaussians of the half that it is not in."""
    half = np.arange(len(features)) % 2 == 0
    found = np.empty(len(features))
    for part in (half, ~half):
        found[~part] = Gaussians.of(features[part], labels[part]).distance(features[~part])
    return found


def _head(learned: Learned, records: Sequence[Record], features: Features, names: Sequence[str]) -> Head:
    """A head on features that were computed before; of all classes, also of those without an image."""
    from handlens.data.split import folds
    from handlens.tasks.heads import FOLDS

    backbone, kind = learned.backbone, learned.dataset.kind
    kept = folds(records, kind, count=FOLDS, seed=backbone.recipe.seed, together=backbone.audit.duplicates)
    frozen = TASKS[learned.dataset.task].frozen(learned.dataset)
    return frozen.fit(features, records, kept, copies=1, recipe=backbone.recipe, names=names)


def _classifier(learned: Learned, run: Run) -> tuple[Features, Features]:
    """Weight (K, D) and bias (K,) of the last layer.

    Raises:
        InputError: a model of one's own has another.
    """
    from handlens.tasks.temperature import takes_temperature

    net = learned.backbone.net
    if not takes_temperature(net):
        raise InputError(
            f"{run.model.architecture.name} has no last layer torch.nn.Linear called classifier, which --unknown needs."
        )
    layer: Any = net.classifier
    weight = layer.weight.detach().numpy()
    bias = np.zeros(len(weight), dtype=np.float32) if layer.bias is None else layer.bias.detach().numpy()
    return weight, bias


def _keep(run: Run, made: Recognition) -> None:
    said = {
        "weights": run.model.files[WEIGHTS],
        "score": made.score,
        "spread": dict(made.spread),
        "auroc": dict(made.auroc),
        "left_out": list(made.left_out),
    }
    arrays: dict[str, Any] = {
        "weight": made.weight,
        "bias": made.bias,
        "known": made.known,
        "bank": made.bank.astype(np.float16),
    }
    if made.gaussians is not None:
        arrays |= {"means": made.gaussians.means, "whiten": made.gaussians.whiten.astype(np.float32)}
    buffer = io.BytesIO()
    arrays["said"] = np.frombuffer(json.dumps(said).encode(), dtype=np.uint8)
    np.savez(buffer, **arrays)
    write_bytes(run.folder / KEPT, buffer.getvalue())


def _kept(run: Run) -> Recognition | None:
    """What an earlier command has kept for these weights.

    Raises:
        InputError: it is damaged.
    """
    path = run.folder / KEPT
    if not path.is_file():
        return None
    arrays = read_arrays(path)
    try:
        said = json.loads(arrays["said"].tobytes())
        if said["weights"] != run.model.files[WEIGHTS]:
            return None
        gaussians = None
        if "whiten" in arrays:
            gaussians = Gaussians(arrays["means"], arrays["whiten"].astype(np.float64))
        found = Recognition(
            said["score"],
            arrays["weight"],
            arrays["bias"],
            arrays["bank"].astype(np.float32),
            gaussians,
            {name: (float(mean), float(std)) for name, (mean, std) in said["spread"].items()},
            arrays["known"],
            {name: float(value) for name, value in said["auroc"].items()},
            [str(name) for name in said["left_out"]],
        )
        probabilities, p = found.probabilities_and_p(np.ones((1, found.weight.shape[1]), dtype=np.float32))
        if probabilities.shape != (1, len(run.class_names)) or not np.isfinite([*probabilities[0], *p]).all():
            raise ValueError(f"{probabilities.shape} probabilities")
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise InputError(f"{path} is damaged; remove it, and it is made again.") from None
    return found
