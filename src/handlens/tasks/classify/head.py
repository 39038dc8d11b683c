"""Multinomial logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from handlens.data.record import Record
from handlens.errors import FindingsError
from handlens.evaluation.metrics import classification_metrics
from handlens.tasks.pieces import OUT_OF_FOLD
from handlens.tasks.temperature import chosen_temperature
from handlens.training.head import Head, balanced_weights, fit_head
from handlens.training.recipe import Recipe


class FrozenClasses:
    """As `tasks.pieces.Frozen`."""

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
        labels = _labels(records)
        balanced = recipe.class_weights == "balanced"
        return fit_head(
            features,
            np.eye(len(names), dtype=np.float32)[labels],
            folds=folds,
            copies=copies,
            label_smoothing=recipe.label_smoothing,
            class_weights=balanced_weights(labels, len(names)) if balanced else None,
        )

    def validation(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, float]:
        if head.out_of_fold is None:
            raise FindingsError("there are too few images for cross-validation: every class needs at least two.")
        measured = classification_metrics(head.out_of_fold, _labels(records), names)
        return {"top1": measured["top1"], "loss": measured["loss"]}

    def score(self, raw: Tensor, records: Sequence[Record]) -> tuple[float, float]:
        targets = torch.from_numpy(_labels(records))
        right = int((raw.argmax(dim=1) == targets).sum())
        return right / len(records), -float(F.cross_entropy(raw, targets))

    def errors_by_class(self, raw: Tensor, records: Sequence[Record]) -> NDArray[np.float64]:
        labels = _labels(records)
        wrong = raw.argmax(dim=1).numpy() != labels
        return np.bincount(labels[wrong], minlength=raw.shape[1]) / len(records)

    def choose(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
        assert head.out_of_fold is not None
        return chosen_temperature(head.out_of_fold, _labels(records), OUT_OF_FOLD)


def _labels(records: Sequence[Record]) -> NDArray[np.int64]:
    """(N,) class indices."""
    return np.array([record.label for record in records], dtype=np.int64)
