"""A power law of the error against the number of images: error = a * images ** -b + c.

Source   Hestness et al. 2017, arXiv:1712.00409, equation 1 with the irreducible error of section 2; fitted to small
         shares and read at larger ones as by Mahmood et al. 2022, arXiv:2207.01725, section 3 ("power law").
Fit      weighted least squares, a >= 0, c >= 0, LEAST_EXPONENT <= b <= MOST_EXPONENT. For a given b the law is linear
         in a and c: b is searched on a grid, then on a finer one around the best (variable projection, Golub and
         Pereyra 1973). So there is no start to choose and no local minimum.
Interval percentiles of the laws fitted to bootstrap samples (Efron and Tibshirani 1993, chapter 13). They hold what
         comes from the images and from the repeats, not that the law itself may be wrong beyond what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Hestness et al. find 0.07 to 0.35 for networks that are trained whole; a linear classifier on few features may come
# near its best as 1 / images or faster. Our choice.
LEAST_EXPONENT, MOST_EXPONENT = 0.02, 2.0
STEPS = 80  # of each of the two grids, the first of which is even in log b
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaws:
    """One law, or one per bootstrap sample.

    Attributes:
        a, b, c: (L,) of error = a * images ** -b + c.
    """

    a: Floats
    b: Floats
    c: Floats

    def errors(self, images: ArrayLike) -> Floats:
        """(L, M) at M numbers of images."""
        counts = np.asarray(images, dtype=np.float64)
        return self.a[:, None] * counts[None] ** -self.b[:, None] + self.c[:, None]

    def images(self, error: float) -> Floats:
        """(L,) from which the error is met; infinite where it never is, 0 where it always is."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            found = (self.a / (error - self.c)) ** (1 / self.b)
        return np.where(self.c >= error, np.inf, np.where(self.a == 0, 0.0, found))


def fit_power_laws(
    images: ArrayLike, errors: ArrayLike, weights: ArrayLike, *, exponent: float | None = None
) -> PowerLaws:
    """
    Args:
        images: (S,) above 0, at least three different ones.
        errors: (S,) or (L, S), not negative.
        weights: (S,) of the squares: inverse variances.
        exponent: b, where it is known.

    Raises:
        ValueError: shapes disagree, too few or impossible values.
    """
    n, w = np.asarray(images, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    e = np.atleast_2d(np.asarray(errors, dtype=np.float64))
    if n.ndim != 1 or e.shape[1:] != n.shape or w.shape != n.shape:
        raise ValueError(f"images, errors and weights disagree: {n.shape}, {e.shape}, {w.shape}")
    if len(np.unique(n)) < 3 or n.min() <= 0 or w.min() <= 0 or not np.isfinite(w).all():
        raise ValueError(f"a power law needs three numbers of images above 0, with weights above 0, got {n} and {w}")
    if not np.isfinite(e).all() or e.min() < 0:
        raise ValueError(f"errors must be finite and not negative, got {e.min()} to {e.max()}")
    w = w / w.sum()
    scaled = n / n.max()  # keeps a of the size of an error, whatever b
    if exponent is not None:
        b, a, c = _best(scaled, e, w, np.full((len(e), 1), float(exponent)))
        return PowerLaws(a * n.max() ** b, b, c)
    grid = np.geomspace(LEAST_EXPONENT, MOST_EXPONENT, STEPS)
    coarse = _best(scaled, e, w, np.broadcast_to(grid, (len(e), STEPS)))
    ratio = grid[1] / grid[0]
    low = np.maximum(coarse[0] / ratio, LEAST_EXPONENT)
    high = np.minimum(coarse[0] * ratio, MOST_EXPONENT)
    b, a, c = _best(scaled, e, w, np.linspace(low, high, STEPS, axis=1))
    return PowerLaws(a * n.max() ** b, b, c)


def _best(n: Floats, e: Floats, w: Floats, grid: Floats) -> tuple[Floats, Floats, Floats]:
    """(b, a, c), each (L,), with the least squares over a grid (L, B) of b."""
    x = n[None, None] ** -grid[:, :, None]  # (L, B, S)
    e = e[:, None, :]
    mean_x, mean_e = (x * w).sum(axis=2), (e * w).sum(axis=2)
    cross = ((x - mean_x[:, :, None]) * (e - mean_e[:, :, None]) * w).sum(axis=2)
    slope = np.maximum(cross / ((x - mean_x[:, :, None]) ** 2 * w).sum(axis=2), 0)  # a; 0 where the error rises
    offset = mean_e - slope * mean_x
    through_zero = (x * e * w).sum(axis=2) / (x**2 * w).sum(axis=2)  # a where c is 0
    a = np.where(offset < 0, through_zero, slope)
    c = np.maximum(offset, 0)
    squares = ((a[:, :, None] * x + c[:, :, None] - e) ** 2 * w).sum(axis=2)
    chosen = squares.argmin(axis=1)[:, None]
    b, a, c = (np.take_along_axis(values, chosen, axis=1)[:, 0] for values in (grid, a, c))
    return b, a, c


def interval(values: Floats, share: float = 0.95) -> tuple[Floats, Floats]:
    """The percentiles of the first axis that hold `share` of it; of infinite values too, which are not averaged."""
    low, high = np.quantile(values, ((1 - share) / 2, (1 + share) / 2), axis=0, method="inverted_cdf")
    return low, high
