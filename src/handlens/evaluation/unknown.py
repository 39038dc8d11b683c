"""How little an image looks like any of the classes: scores, higher means less alike.

Scores   maximum probability  Hendrycks and Gimpel 2017, arXiv:1610.02136.
         energy               Liu et al. 2020, arXiv:2010.03759, equation 4, at temperature 1.
         GEN                  Liu et al. 2023, "GEN: Pushing the limits of softmax-based out-of-distribution detection",
                              equation 5, gamma 0.1, over the likeliest classes.
         KNN                  Sun et al. 2022, arXiv:2204.06507, algorithm 1: distance to the k-th nearest training image.
         Mahalanobis          Lee et al. 2018, arXiv:1807.03888, equation 2, on the features before the classifier.

Source of how they are measured: Yang et al. 2022, OpenOOD, arXiv:2210.07242.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GAMMA, LIKELIEST = 0.1, 100  # the authors' choices for ImageNet
NEIGHBOR = 10  # our choice for hundreds of images; the authors take 50 of CIFAR's 50,000 and 1,000 of ImageNet's
SHRINKAGE = 1e-3  # of the mean variance, added to every direction: with fewer images than features it has no inverse


def max_probability(probabilities: NDArray[np.float32]) -> Floats:
    """(N,) of (N, K)."""
    return 1 - probabilities.max(axis=1).astype(np.float64)


def energy(logits: NDArray[np.float32]) -> Floats:
    """(N,) of (N, K)."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    return -(top + np.log(np.exp(wide - top[:, None]).sum(axis=1)))


def generalized_entropy(probabilities: NDArray[np.float32]) -> Floats:
    """(N,) of (N, K)."""
    likeliest = -np.sort(-probabilities.astype(np.float64), axis=1)[:, :LIKELIEST]
    return ((likeliest * (1 - likeliest)).clip(0) ** GAMMA).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The features of training images.

    Attributes:
        bank: (M, D), each of length 1.
        k: which neighbor's distance counts, from 1.
    """

    bank: NDArray[np.float32]
    k: int

    @classmethod
    def of(cls, features: NDArray[np.float32], *, k: int = NEIGHBOR) -> Neighbors:
        return cls(unit(features), min(k, len(features)))

    def scores(self, features: NDArray[np.float32], *, itself: bool = False) -> Floats:
        """(N,) distances from 0 to 2.

        Args:
            features: (N, D).
            itself: they are the bank's own rows, and none is its own neighbor.
        """
        similar = np.sort(unit(features) @ self.bank.T, axis=1)
        nearest = similar[:, -self.k - itself].astype(np.float64)
        return np.sqrt((2 - 2 * nearest).clip(0))


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One for each class, all of the same shape.

    Attributes:
        means: (K, D), whitened. whiten: (D, D).
    """

    means: Floats
    whiten: Floats

    @classmethod
    def of(cls, features: NDArray[np.float32], labels: NDArray[np.int64]) -> Gaussians:
        wide = features.astype(np.float64)
        classes = np.unique(labels)
        means = np.stack([wide[labels == one].mean(axis=0) for one in classes])
        apart = wide - means[np.searchsorted(classes, labels)]
        covariance = apart.T @ apart / len(wide)
        covariance += SHRINKAGE * covariance.diagonal().mean() * np.eye(len(covariance))
        values, axes = np.linalg.eigh(covariance)
        whiten = axes / np.sqrt(values)
        return cls(means @ whiten, whiten)

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """(N,) distances to the nearest mean."""
        moved = features.astype(np.float64) @ self.whiten
        squares = (moved**2).sum(axis=1)[:, None] - 2 * moved @ self.means.T + (self.means**2).sum(axis=1)
        return np.sqrt(squares.min(axis=1).clip(0))


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), dtype=np.float32)


def auroc(known: Floats, unknown: Floats) -> float:
    """The probability that an unknown image scores higher than a known one; ties count half.

    Source: Mann and Whitney 1947; Fawcett 2006, "An introduction to ROC analysis", section 7.
    """
    both = np.concatenate([known, unknown])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    ranks = (ends - (counts - 1) / 2)[inverse]
    return float((ranks[len(known) :].mean() - (len(unknown) + 1) / 2) / len(known))
