"""One logistic regression per class on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from handlens.data.labels.tags import tag_targets
from handlens.data.record import Record
from handlens.errors import FindingsError
from handlens.evaluation.tags import average_precision, best_thresholds, mean_average_precision
from handlens.training.head import Head, balanced_tag_weights, fit_head
from handlens.training.recipe import Recipe


class FrozenTags:
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
        targets = tag_targets(records, len(names))
        return fit_head(
            features,
            targets,
            folds=folds,
            copies=copies,
            several=True,
            label_smoothing=recipe.label_smoothing,
            class_weights=balanced_tag_weights(targets) if recipe.class_weights == "balanced" else None,
        )

    def validation(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, float]:
        if head.out_of_fold is None:
            raise FindingsError("there are too few images for cross-validation: every class needs at least two.")
        truth = tag_targets(records, len(names)) > 0
        return {
            "map": mean_average_precision(head.out_of_fold, truth),
            "loss": head.losses[head.weight_decay],
        }

    def score(self, raw: Tensor, records: Sequence[Record]) -> tuple[float, float]:
        truth = tag_targets(records, raw.shape[1])
        loss = float(F.binary_cross_entropy_with_logits(raw, torch.from_numpy(truth)))
        return mean_average_precision(raw.sigmoid().numpy(), truth > 0), -loss

    def errors_by_class(self, raw: Tensor, records: Sequence[Record]) -> NDArray[np.float64]:
        truth = tag_targets(records, raw.shape[1]) > 0
        scores = raw.sigmoid().numpy()
        found = [average_precision(scores[:, place], truth[:, place]) for place in range(raw.shape[1])]
        known = max(sum(value is not None for value in found), 1)
        return np.array([0.0 if value is None else (1 - value) / known for value in found])

    def choose(self, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
        assert head.out_of_fold is not None
        return {"thresholds": best_thresholds(head.out_of_fold, tag_targets(records, len(names)) > 0)}
