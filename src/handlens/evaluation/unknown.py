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

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.float32]  # (N, D); logits are (N, K)

GAMMA, LIKELIEST = 0.1, 100  # of GEN: the authors' choices for ImageNet
NEIGHBOR = 1  # of KNN, by benchmarks/unknown.py; the authors take the 50th of CIFAR's 50,000 images
SHRINKAGE = 0.1  # of the mean variance, added to every direction: few images leave most of them without any
QUANTILES = 101
FEWEST = 20  # known images to take a threshold from; our choice
AT_ONCE = 1024  # rows that are compared with the bank together

MAX_PROBABILITY, ENERGY, GEN = "maximum probability", "energy", "GEN"
KNN, MAHALANOBIS, BOTH = "KNN", "Mahalanobis", "KNN + energy"
NAMES = (MAX_PROBABILITY, ENERGY, GEN, KNN, MAHALANOBIS, BOTH)


def max_probability(logits: Features) -> Floats:
    return 1 - _softmax(logits).max(axis=1)


def energy(logits: Features) -> Floats:
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    return np.asarray(-(top + np.log(np.exp(wide - top[:, None]).sum(axis=1))))


def generalized_entropy(logits: Features) -> Floats:
    likeliest = -np.sort(-_softmax(logits), axis=1)[:, :LIKELIEST]
    return np.asarray(((likeliest * (1 - likeliest)) ** GAMMA).sum(axis=1))


def neighbor_distance(features: Features, bank: Features, *, itself: bool = False, k: int = NEIGHBOR) -> Floats:
    """From 0 to 2.

    Args:
        bank: (M, D) training images, each row of length 1.
        itself: the features are those of the bank, and no image is its own neighbor.
    """
    found = []
    for start in range(0, len(features), AT_ONCE):
        similar = unit(features[start : start + AT_ONCE]) @ bank.T
        if itself:
            similar[np.arange(len(similar)), start + np.arange(len(similar))] = -1
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
        covariance += SHRINKAGE * covariance.diagonal().mean() * np.eye(len(covariance))
        values, axes = np.linalg.eigh(covariance)
        whiten = axes / np.sqrt(values)
        return cls(means @ whiten, whiten)

    def distance(self, features: Features) -> Floats:
        """(N,) to the nearest mean."""
        moved = features.astype(np.float64) @ self.whiten
        squares = (moved**2).sum(axis=1)[:, None] - 2 * moved @ self.means.T + (self.means**2).sum(axis=1)
        return np.asarray(np.sqrt(squares.min(axis=1).clip(0)))


def both(distance: Floats, energies: Floats, spread: Mapping[str, tuple[float, float]]) -> Floats:
    """
    Args:
        spread: mean and standard deviation of KNN and ENERGY, of known images that were not learned from.
    """
    parts = ((distance, KNN), (energies, ENERGY))
    return np.asarray(sum((values - spread[name][0]) / spread[name][1] for values, name in parts))


def spread_of(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation, never 0."""
    return float(values.mean()), max(float(values.std()), 1e-9)


def unit(features: Features) -> Features:
    """Rows of length 1."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), dtype=np.float32)


def p_values(scores: Floats, known: Floats) -> Floats:
    """Of an image of a known class, at most a share a of images has a p-value of a or less.

    Args:
        scores: (N,) of new images. known: (M,) of known images that were not learned from, ascending.

    Source: conformal p-values of Bates et al. 2023, arXiv:2104.08279, equation 2.
    """
    above = len(known) - np.searchsorted(known, scores, side="left")
    return np.asarray((above + 1) / (len(known) + 1))


def quantiles_of(known: Floats) -> list[float]:
    """QUANTILES numbers, ascending, that `p_by_quantiles` needs: few enough for a model's file."""
    return np.quantile(known, np.linspace(0, 1, QUANTILES), method="higher").round(6).tolist()


def p_by_quantiles(scores: Floats, quantiles: Sequence[float]) -> Floats:
    """As `p_values`, to a hundredth and never too small.

    Args:
        quantiles: as `quantiles_of` gives them.
    """
    below = np.searchsorted(np.asarray(quantiles), scores, side="left")
    return np.asarray((len(quantiles) - below).clip(1) / len(quantiles))


def auroc(known: Floats, unknown: Floats) -> float:
    """The probability that an unknown image scores higher than a known one; ties count half.

    Source: Fawcett 2006, "An introduction to ROC analysis", section 7.
    """
    _, place, counts = np.unique(np.concatenate([known, unknown]), return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]
    return float((ranks[len(known) :].mean() - (len(unknown) + 1) / 2) / len(known))


def _softmax(logits: Features) -> Floats:
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
