"""Ridge regression on frozen features, its strength chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handlens.data.record import Record
from handlens.errors import FindingsError
from handlens.evaluation.regression import mean_r2
from handlens.tasks.regress.scale import TargetScale
from handlens.training.head import LEAST_STD, Head
from handlens.training.recipe import Recipe

# Per image, on standardized features and targets. Our choice: from far too strong to far too weak.
STRENGTHS = tuple(10.0**power for power in np.arange(2, -5.1, -0.5))


class FrozenNumbers:
    """As `tasks.pieces.Frozen`; the head gives scaled numbers."""

    def __init__(self, scale: TargetScale) -> None:
        self.scale = scale

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
        y = self.scale.scaled(records).astype(np.float64)
        x = features.astype(np.float64)
        mean, std = x.mean(axis=0), x.std(axis=0)
        std = np.maximum(std, LEAST_STD * std.max()) if std.max() > 0 else np.ones_like(std)
        x = (x - mean) / std
        repeated = np.repeat(y, copies, axis=0)
        fold_of = np.repeat(folds, copies)
        outside = np.full((len(STRENGTHS), *y.shape), np.nan)
        for fold in range(int(folds.max()) + 1):
            seen, held = fold_of != fold, folds == fold
            if not seen.any() or not held.any():
                continue
            for place, (weight, bias) in enumerate(ridge_path(x[seen], repeated[seen], STRENGTHS)):
                outside[place, held] = x[::copies][held] @ weight.T + bias
        losses = {
            strength: float(np.mean((guess - y) ** 2)) for strength, guess in zip(STRENGTHS, outside, strict=True)
        }
        known = all(np.isfinite(list(losses.values())))
        best = min(losses, key=losses.__getitem__) if known else 1.0
        [(weight, bias)] = ridge_path(x, repeated, (best,))
        weight = weight / std  # back to features as they are
        bias = bias - weight @ mean
        return Head(
            torch.from_numpy(weight).float(),
            torch.from_numpy(bias).float(),
            best,
            outside[STRENGTHS.index(best)].astype(np.float32) if known else None,
            None,
            losses if known else {},
        )

    def validation(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, float]:
        if head.out_of_fold is None:
            raise FindingsError("there are too few images for cross-validation: at least five are needed.")
        share = mean_r2(head.out_of_fold, self.scale.scaled(records))
        return {"r2": 0.0 if share is None else share, "loss": head.losses[head.weight_decay]}

    def score(self, raw: Tensor, records: Sequence[Record]) -> tuple[float, float]:
        truth, predicted = self.scale.scaled(records), raw.numpy()
        share = mean_r2(predicted, truth)
        return 0.0 if share is None else share, -float(np.mean((predicted - truth) ** 2))

    def errors_by_class(self, raw: Tensor, records: Sequence[Record]) -> NDArray[np.float64]:
        return np.zeros(0)

    def choose(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
        return {"training_mean": self.scale.mean.tolist(), "training_std": self.scale.std.tolist()}


def ridge_path(
    x: NDArray[np.float64], y: NDArray[np.float64], strengths: Sequence[float]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Weights (V, D) and biases (V,) that minimize the mean squared error + strength * |W|^2, for each strength.

    One eigendecomposition serves them all: of the features' covariance, or of the images' inner products where there
    are fewer images than features.

    Args:
        x: (R, D). y: (R, V).

    Source: Hoerl and Kennard 1970; the kernel form as in Saunders et al. 1998.
    """
    center, middle = x.mean(axis=0), y.mean(axis=0)
    x, y = x - center, y - middle
    rows, features = x.shape
    wide = features > rows
    spectrum, axes = np.linalg.eigh((x @ x.T if wide else x.T @ x) / rows)
    projected = axes.T @ (y if wide else x.T @ y / rows)
    path = []
    for strength in strengths:
        solved = axes @ (projected / (spectrum.clip(min=0) + strength)[:, None])
        weight = (x.T @ solved / rows).T if wide else solved.T
        path.append((weight, middle - weight @ center))
    return path
