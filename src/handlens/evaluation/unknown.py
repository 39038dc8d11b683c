"""How little an image looks like any of the classes that a model knows; higher means less alike.

Scores   maximum probability  Hendrycks and Gimpel 2017, arXiv:1610.02136: 1 - the largest.
         energy               Liu et al. 2020, arXiv:2010.03759, equation 4, at temperature 1.
         GEN                  Liu, Lochman and Zach 2023, "GEN: Pushing the limits of softmax-based out-of-distribution
                              detection", equation 5.
         KNN                  Sun et al. 2022, arXiv:2204.06507, algorithm 1: the distance to the k-th nearest of the
                              training images, in features of length 1.
         Mahalanobis          Lee et al. 2018, arXiv:1807.03888, equation 2, on the features before the classifier.
         KNN + energy         ours: the sum of both, each in standard deviations of known images. Energy tells apart
                              what lies between classes, neighbors what lies far from all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.evaluation.calibration import softmax

Floats = NDArray[np.float64]
Features = NDArray[np.float32]  # (N, D)
Logits = NDArray[np.floating[Any]]  # (N, K)

GAMMA, LIKELIEST = 0.1, 100  # of GEN: the authors' choices for ImageNet
NEIGHBOR = 1  # of KNN, by benchmarks/unknown.py; the authors take the 50th of CIFAR's 50,000 images
SHRINKAGE = 0.1  # of the mean variance, added to every direction: few images leave most of them without any
MOST_DIRECTIONS = 2048  # features of which a covariance is computed: its inverse takes seconds
AT_ONCE = 1024  # rows that are compared with the bank together
QUANTILES = 101
FEWEST = 20  # known images to take a threshold from; our choice

MAX_PROBABILITY, ENERGY, GEN = "maximum probability", "energy", "GEN"
KNN, MAHALANOBIS, KNN_ENERGY = "KNN", "Mahalanobis", "KNN + energy"
SCORES = (MAX_PROBABILITY, ENERGY, GEN, KNN, KNN_ENERGY, MAHALANOBIS)


def max_probability(logits: Logits) -> Floats:
    """(N,) of (N, K)."""
    return 1 - softmax(logits).max(axis=1)


def energy(logits: Logits) -> Floats:
    """(N,) of (N, K)."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    return np.asarray(-(top + np.log(np.exp(wide - top[:, None]).sum(axis=1))))


def generalized_entropy(logits: Logits) -> Floats:
    """(N,) of (N, K)."""
    likeliest = -np.sort(-softmax(logits), axis=1)[:, :LIKELIEST]
    return np.asarray(((likeliest * (1 - likeliest)).clip(0) ** GAMMA).sum(axis=1))


def neighbor_distance(
    features: Features,
    bank: Features,
    *,
    folds: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    k: int = NEIGHBOR,
) -> Floats:
    """(N,) from 0 to 2.

    Args:
        features: (N, D). bank: (M, D) training images, each row of length 1.
        folds: of the features (N,) and of the bank (M,): where images of the bank are measured, neighbors of their own
            fold do not count, among which are the image itself and its copies.
    """
    found = []
    for start in range(0, len(features), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        similar = unit(features[part]) @ bank.T
        if folds is not None:
            similar[folds[0][part, None] == folds[1][None, :]] = -1
        place = max(0, similar.shape[1] - k)
        found.append(np.partition(similar, place, axis=1)[:, place])
    return np.sqrt((2 - 2 * np.concatenate(found).astype(np.float64)).clip(0))


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One for each class, all of one shape.

    Attributes:
        means: (K, D), whitened. whiten: (D, D).
    """

    means: Floats
    whiten: Floats

    @classmethod
    def of(cls, features: Features, labels: NDArray[np.int64]) -> Gaussians:
        wide = features.astype(np.float64)
        classes = np.unique(labels)
        means = np.stack([wide[labels == one].mean(axis=0) for one in classes])
        apart = wide - means[np.searchsorted(classes, labels)]
        covariance = apart.T @ apart / len(wide)
        covariance += (SHRINKAGE * covariance.diagonal().mean() + 1e-12) * np.eye(len(covariance))
        values, axes = np.linalg.eigh(covariance)
        whiten = axes / np.sqrt(values)
        return cls(means @ whiten, whiten)

    def distance(self, features: Features) -> Floats:
        """(N,) to the nearest mean."""
        moved = features.astype(np.float64) @ self.whiten
        squares = (moved**2).sum(axis=1)[:, None] - 2 * moved @ self.means.T + (self.means**2).sum(axis=1)
        return np.asarray(np.sqrt(squares.min(axis=1).clip(0)))


def knn_energy(distances: Floats, energies: Floats, spread: Mapping[str, tuple[float, float]]) -> Floats:
    """(N,) of (N,) each.

    Args:
        spread: mean and standard deviation of KNN and ENERGY, of known images that were not learned from.
    """
    parts = ((distances, KNN), (energies, ENERGY))
    return np.asarray(sum((values - spread[name][0]) / spread[name][1] for values, name in parts))


def spreads(distances: Floats, logits: Logits) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation, never 0, of KNN and ENERGY, as `knn_energy` needs them.

    Args:
        distances: (N,) of known images to their nearest neighbors. logits: (N, K) of the same.
    """
    parts = ((KNN, distances), (ENERGY, energy(logits)))
    return {name: (float(values.mean()), max(float(values.std()), 1e-9)) for name, values in parts}


def unit(features: Features) -> Features:
    """Rows of length 1."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), dtype=np.float32)


def p_values(scores: Floats, known: Floats) -> Floats:
    """(N,): of images of known classes, at most a share a has a p-value of a or less.

    Args:
        scores: (N,) of new images. known: (M,) of known images that were not learned from, ascending.

    Source: conformal p-values of Bates et al. 2023, arXiv:2104.08279, equation 2.
    """
    above = len(known) - np.searchsorted(known, scores, side="left")
    return np.asarray((above + 1) / (len(known) + 1))


def smallest_p(count: int) -> float:
    """That so many known images can give."""
    return 1 / (count + 1)


def quantiles_of(known: Floats) -> list[float]:
    """QUANTILES numbers, ascending, that `p_by_quantiles` needs: few enough for a model's file."""
    numbers = np.quantile(known, np.linspace(0, 1, QUANTILES), method="higher").round(6).tolist()
    return [float(number) for number in numbers]


def p_by_quantiles(scores: Floats, quantiles: Sequence[float], count: int) -> Floats:
    """As `p_values`, to a hundredth.

    Args:
        quantiles: as `quantiles_of` gives them. count: of the known images that they are of.
    """
    below = np.searchsorted(np.asarray(quantiles), scores, side="left")
    return np.asarray(((len(quantiles) - below) / len(quantiles)).clip(max(smallest_p(count), 1 / len(quantiles))))


def auroc(known: Floats, unknown: Floats) -> float:
    """The probability that an unknown image scores higher than a known one; ties count half.

    Source: Fawcett 2006, "An introduction to ROC analysis", section 7.
    """
    _, place, counts = np.unique(np.concatenate([known, unknown]), return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]
    return float((ranks[len(known) :].mean() - (len(unknown) + 1) / 2) / len(known))
