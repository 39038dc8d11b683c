"""What a run tells images of its classes from others by, and its file in the run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handlens.errors import InputError
from handlens.evaluation import unknown as scoring
from handlens.evaluation.calibration import softmax
from handlens.evaluation.unknown import (
    ENERGY,
    FEWEST,
    GEN,
    KNN,
    KNN_ENERGY,
    MAHALANOBIS,
    MAX_PROBABILITY,
    Features,
    Floats,
    Gaussians,
    Logits,
)
from handlens.files import write_bytes
from handlens.preprocess import MIDDLE
from handlens.reading.arrays import read_arrays
from handlens.training.run import WEIGHTS, Run

KEPT = "unknown.npz"


@dataclass(frozen=True, eq=False)
class Linear:
    """A classifier of features.

    Attributes:
        weight, bias: (K, D) and (K,).
    """

    weight: Features
    bias: Features

    def __call__(self, features: Features) -> Features:
        """Logits (N, K) of (N, D)."""
        logits: Features = features @ self.weight.T + self.bias
        return logits


def mean_features(whole: Features, of_middle: Features) -> Features:
    """(N, D) of both views of an image, (N, D) each: what it is recognized by (docs/unknown.md)."""
    return (whole + of_middle) * np.float32(0.5)


@dataclass(frozen=True, eq=False)
class Recognition:
    """Tells images of the classes from others.

    Attributes:
        score: a name of `evaluation.unknown`.
        classifier: the run's.
        scorer: the classifier whose logits are scored: one that was fitted on mean features, or the run's.
        bank: (M, D) mean features of training images, each of length 1.
        gaussians: of the classes; None where the score has no use for them.
        spread: mean and standard deviation of the parts of a sum.
        known: (N,) scores of known images that were not learned from, ascending.
        auroc: of every score, the mean over the classes that were left out; empty where there are too few classes.
        left_out: their names.
    """

    score: str
    classifier: Linear
    scorer: Linear
    bank: Features
    gaussians: Gaussians | None
    spread: Mapping[str, tuple[float, float]]
    known: Floats
    auroc: Mapping[str, float]
    left_out: Sequence[str]

    def probabilities_and_p(self, whole: Features, of_middle: Features) -> tuple[Features, Floats]:
        """(N, K) and (N,) of both views' features, (N, D) each. The probabilities are of the whole image."""
        features = mean_features(whole, of_middle)
        logits, distances = self.scorer(features), self._distances(features)
        scores = score_of(self.score, features, logits, distances, gaussians=self.gaussians, spread=self.spread)
        return softmax(self.classifier(whole)).astype(np.float32), scoring.p_values(scores, self.known)

    def _distances(self, features: Features) -> Floats:
        return scoring.neighbor_distance(features, self.bank) if self.score in (KNN, KNN_ENERGY) else np.empty(0)


def score_of(
    name: str,
    features: Features,
    logits: Logits,
    distances: Floats,
    *,
    gaussians: Gaussians | None,
    spread: Mapping[str, tuple[float, float]],
) -> Floats:
    """A score (N,) of features (N, D), logits (N, K) and distances (N,) to the nearest training image."""
    if name == MAHALANOBIS:
        assert gaussians is not None
        return gaussians.distance(features)
    if name == KNN:
        return distances
    if name == KNN_ENERGY:
        return scoring.knn_energy(distances, scoring.energy(logits), spread)
    by_logits: dict[str, Callable[[Logits], Floats]] = {
        MAX_PROBABILITY: scoring.max_probability,
        ENERGY: scoring.energy,
        GEN: scoring.generalized_entropy,
    }
    return by_logits[name](logits)


def keep(run: Run, made: Recognition) -> None:
    facts = {
        "weights": run.model.files[WEIGHTS],
        "score": made.score,
        "spread": dict(made.spread),
        "auroc": dict(made.auroc),
        "left_out": list(made.left_out),
        "middle": MIDDLE,
    }
    arrays: dict[str, Any] = {
        "weight": made.classifier.weight,
        "bias": made.classifier.bias,
        "scorer_weight": made.scorer.weight,
        "scorer_bias": made.scorer.bias,
        "known": made.known,
        "bank": made.bank.astype(np.float16),
        "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
    }
    if made.gaussians is not None:
        arrays |= {"means": made.gaussians.means, "whiten": made.gaussians.whiten.astype(np.float32)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(run.folder / KEPT, buffer.getvalue())


def kept(run: Run) -> Recognition | None:
    """What an earlier command has kept for these weights.

    Raises:
        InputError: it is damaged.
    """
    path = run.folder / KEPT
    if not path.is_file():
        return None
    arrays = read_arrays(path)
    try:
        facts = json.loads(arrays["facts"].tobytes())
        if facts["weights"] != run.model.files[WEIGHTS] or facts.get("middle") != MIDDLE:
            return None  # of other weights, or by an earlier version
        gaussians = None
        if "whiten" in arrays:
            gaussians = Gaussians(arrays["means"].astype(np.float64), arrays["whiten"].astype(np.float64))
        found = Recognition(
            str(facts["score"]),
            Linear(arrays["weight"].astype(np.float32), arrays["bias"].astype(np.float32)),
            Linear(arrays["scorer_weight"].astype(np.float32), arrays["scorer_bias"].astype(np.float32)),
            arrays["bank"].astype(np.float32),
            gaussians,
            {name: (float(mean), float(std)) for name, (mean, std) in facts["spread"].items()},
            arrays["known"].astype(np.float64),
            {str(name): float(value) for name, value in facts["auroc"].items()},
            [str(name) for name in facts["left_out"]],
        )
        _require_whole(found, len(run.class_names))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, AssertionError):
        raise InputError(f"{path} is damaged; remove it, and it is made again.") from None
    return found


def _require_whole(found: Recognition, classes: int) -> None:
    """
    Raises:
        ValueError, and what NumPy raises of shapes that do not fit: it cannot be what was kept.
    """
    _, width = found.classifier.weight.shape
    known = found.known
    fits = found.bank.shape[1:] == (width,) and all(
        one.weight.shape == (classes, width) and one.bias.shape == (classes,)
        for one in (found.classifier, found.scorer)
    )
    if not fits or known.ndim != 1 or len(known) < FEWEST or (np.diff(known) < 0).any():
        raise ValueError(f"{found.classifier.weight.shape}, {found.bank.shape}, {known.shape}")
    probabilities, p = found.probabilities_and_p(*np.ones((2, 1, width), dtype=np.float32))
    if not np.isfinite([*probabilities[0], *p, *known]).all():
        raise ValueError("numbers that are none")
