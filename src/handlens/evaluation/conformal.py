"""Conformal prediction sets: the classes among which the truth is with a given probability.

A score says how badly a class fits an image. The threshold is a quantile of the scores of the true classes of images
that the model has not learned from; the set of an image is every class with a score up to it. The set of an image that
comes from where these came from holds the truth with at least that probability, whatever the model (Vovk et al. 2005;
Lei et al. 2018, arXiv:1604.04173, theorem 2.2). It holds for the average image, not for each class or kind of image.

Scores   LAC   Sadinle et al. 2019, arXiv:1609.00451: 1 - probability; the smallest sets on average.
         APS   Romano et al. 2020, arXiv:2006.02544, section 2: what all likelier classes have together; larger sets for
               harder images.
         RAPS  Angelopoulos et al. 2021, arXiv:2009.14193, algorithms 2 and 3: APS with a penalty for long sets.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handlens.evaluation.metrics import wilson_interval

Floats = NDArray[np.float64]


def lac_scores(probabilities: ArrayLike) -> Floats:
    """(N, K) scores of probabilities (N, K)."""
    return 1 - _checked(probabilities)


def aps_scores(probabilities: ArrayLike, *, draws: ArrayLike | None = None) -> Floats:
    """(N, K) the probability of all likelier classes and of the class itself; of equal ones the first is likelier.

    Args:
        draws: (N,) uniform in [0, 1): this share of a class's own probability is left out, which makes the coverage
            exact and the sets smaller. None leaves nothing out: sets are the same each time and cover more.
    """
    return raps_scores(probabilities, penalty=0.0, free=0, draws=draws)


def raps_scores(
    probabilities: ArrayLike, *, penalty: float = 0.01, free: int = 5, draws: ArrayLike | None = None
) -> Floats:
    """As `aps_scores`, and `penalty` for each place of a class's rank beyond `free`.

    The defaults are those of the authors' code for ImageNet (lambda and k_reg).

    Raises:
        ValueError: penalty or free is negative, or draws are not (N,) in [0, 1].
    """
    p = _checked(probabilities)
    if penalty < 0 or free < 0:
        raise ValueError(f"penalty and free must not be negative, got {penalty} and {free}")
    u = np.zeros(len(p)) if draws is None else np.asarray(draws, dtype=np.float64)
    if u.shape != (len(p),) or not ((u >= 0) & (u <= 1)).all():
        raise ValueError(f"draws must be ({len(p)},) in [0, 1], got {u.shape}")
    order = np.argsort(-p, axis=1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=1)
    ranks = np.arange(1, p.shape[1] + 1)
    scores = ordered.cumsum(axis=1) - u[:, None] * ordered + penalty * np.maximum(ranks - free, 0)
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, axis=1)
    return found


def threshold(true_scores: ArrayLike, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest of the true classes' scores (n,); infinite where n is too small for it.

    Raises:
        ValueError: no score, or coverage is not between 0 and 1.
    """
    scores = np.sort(np.asarray(true_scores, dtype=np.float64))
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"true_scores must be (n,) finite numbers, got shape {scores.shape}")
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, got {coverage}")
    place = _place(len(scores), coverage)
    return math.inf if place > len(scores) else float(scores[place - 1])


def fewest(coverage: float) -> int:
    """Images that a threshold takes at least: with fewer every set holds all classes."""
    count = max(1, round(coverage / (1 - coverage)) - 1)
    while _place(count, coverage) > count:
        count += 1
    return count


def _place(count: int, coverage: float) -> int:
    """Of `count` scores, ascending, the one that is the threshold, from 1."""
    return math.ceil((count + 1) * coverage - 1e-9)  # 0.9 * 10 is 9, not a little more


def sets(scores: ArrayLike, limit: float) -> NDArray[np.bool_]:
    """(N, K) whether a class is in the set of an image. A set may be empty: no class fits the image well enough."""
    return np.asarray(np.asarray(scores) <= limit)


def measured_sets(chosen: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, Any]:
    """How often sets (N, K) hold the truth, labels (N,), with a 95 % Wilson interval, and how large they are.

    Returns:
        {"coverage", "coverage_interval", "mean_size", "sizes": {size: images}, "count"}.

    Raises:
        ValueError: no image, or shapes disagree.
    """
    if chosen.ndim != 2 or labels.shape != chosen.shape[:1] or not len(labels):
        raise ValueError(f"sets (N, K) and labels (N,) disagree: {chosen.shape} and {labels.shape}")
    right = int(chosen[np.arange(len(labels)), labels].sum())
    sizes = chosen.sum(axis=1)
    return {
        "coverage": right / len(labels),
        "coverage_interval": list(wilson_interval(right, len(labels))),
        "mean_size": float(sizes.mean()),
        "sizes": {str(size): int(count) for size, count in zip(*np.unique(sizes, return_counts=True), strict=True)},
        "count": len(labels),
    }


def _checked(probabilities: ArrayLike) -> Floats:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not ((p >= -1e-6) & (p <= 1 + 1e-6)).all():
        raise ValueError(f"probabilities must be (N, K) in [0, 1], got shape {p.shape}")
    return p
