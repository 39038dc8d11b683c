"""Numbers as the model learns them: zero on average over the training images, and of variance one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.values import targets_of
from handlens.data.record import Record


@dataclass(frozen=True)
class TargetScale:
    """
    Attributes:
        mean, std: (V,) of the training images.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def of(cls, training: Sequence[Record]) -> TargetScale:
        values = targets_of(training)
        return cls(values.mean(axis=0), values.std(axis=0))

    def scaled(self, records: Sequence[Record]) -> NDArray[np.float32]:
        """(N, V)."""
        return np.asarray((targets_of(records) - self.mean) / self.std, dtype=np.float32)
