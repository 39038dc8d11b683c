"""How far predicted numbers are from the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000  # bootstrap samples of an interval


def regression_metrics(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    names: Sequence[str],
    *,
    training_mean: Sequence[float],
) -> dict[str, Any]:
    """MAE, RMSE and R2 of each number, with 95 % intervals, beside always guessing the training mean.

    Args:
        predicted, truth: (N, V), in the labels' unit.
        training_mean: V values.

    Returns:
        {"r2" (mean over the numbers, None where one never varies), "count", "per_value": [{"name", "mae", "rmse", "r2",
        "mae_interval", "rmse_interval", "r2_interval", "mae_of_mean", "rmse_of_mean", "count"}]}.

    Raises:
        ValueError: no image, or shapes disagree.

    The intervals are percentiles of 1000 bootstrap samples of the images, drawn with a fixed seed.
    """
    if predicted.shape != truth.shape or truth.ndim != 2 or not len(truth) or truth.shape[1] != len(names):
        raise ValueError(f"predicted and truth must be (N, {len(names)}), got {predicted.shape} and {truth.shape}")
    draws = np.random.default_rng(0).integers(0, len(truth), (DRAWS, len(truth)))
    rows = []
    for place, name in enumerate(names):
        ours, right = predicted[:, place].astype(np.float64), truth[:, place].astype(np.float64)
        sampled = [_errors(ours[draw], right[draw]) for draw in draws] if len(truth) > 1 else []
        mae, rmse, r2 = _errors(ours, right)
        guess_mae, guess_rmse, _ = _errors(np.full_like(right, training_mean[place]), right)
        rows.append(
            {
                "name": name,
                "mae": mae,
                "rmse": rmse,
                "r2": r2,
                "mae_interval": _interval([errors[0] for errors in sampled]),
                "rmse_interval": _interval([errors[1] for errors in sampled]),
                "r2_interval": _interval([errors[2] for errors in sampled]),
                "mae_of_mean": guess_mae,
                "rmse_of_mean": guess_rmse,
                "count": len(truth),
            }
        )
    return {"r2": mean_r2(predicted, truth), "count": len(truth), "per_value": rows}


def mean_r2(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> float | None:
    """The mean over the numbers of the share of the variance that is explained; None where a number never varies."""
    shares = [_errors(ours, right)[2] for ours, right in zip(predicted.T, truth.T, strict=True)]
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if len(known) == len(shares) else None


def _errors(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> tuple[float, float, float | None]:
    """(MAE, RMSE, R2) of one number; no R2 where the truth never varies."""
    apart = predicted - truth
    square = float((apart**2).mean())
    variance = float(truth.var())
    return float(np.abs(apart).mean()), square**0.5, 1 - square / variance if variance > 0 else None


def _interval(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return [float(low), float(high)]
