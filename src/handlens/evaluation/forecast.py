"""What errors on growing shares of the images say of more images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handlens.evaluation.learning_curve import PowerLaws, fit_power_laws, interval

AHEAD = (2, 4)  # times the present number of images, as rows of the table
FARTHEST = 100  # times the present number of images, beyond which no number is named; our choice
HALF = 0.5  # of the error that still falls: the classes that hold it are named; our choice
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Errors, 1 - metric, by share.

    Attributes:
        images: (S,) fitted on.
        errors: (S,) the mean over the repeats.
        draws: (D, S) of bootstrap samples.
        by_class: (K, S) what each class adds to `errors`; (0, S) where labels have no classes.
        total: images that there are.
    """

    images: Floats
    errors: Floats
    draws: Floats
    by_class: Floats
    total: int


@dataclass(frozen=True)
class Curve:
    """The power law of what was measured, and those of the bootstrap samples."""

    measured: Measured

    @cached_property
    def law(self) -> PowerLaws:
        return fit_power_laws(self.measured.images, self.measured.errors, self._weights)

    @cached_property
    def laws(self) -> PowerLaws:
        return fit_power_laws(self.measured.images, self.measured.draws, self._weights)

    @cached_property
    def _weights(self) -> Floats:
        """(S,) inverse variances; of an error that never differs, as if it were known to half an image."""
        return np.asarray(1 / np.maximum(self.measured.draws.var(axis=0), (0.5 / self.measured.total) ** 2))

    def metric(self, images: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """The metric at M numbers of images, and the ends of its 95 % interval, (M,) each."""
        low, high = interval(self.laws.errors(images))
        return 1 - self.law.errors(images)[0], 1 - high, 1 - low

    def forecast(self, target: float | None, asked: Sequence[int]) -> dict[str, Any]:
        """As `handlens.forecast` returns it, without task, classes and sentences.

        Args:
            target: of the metric, a share; None is half of the present error.
            asked: further numbers of images for the table.
        """
        total = self.measured.total
        [present], [low], [high] = self.metric([total])
        wanted = (1 - present) / 2 if target is None else 1 - target
        needed, *ends = (
            _nameable(float(images), total)
            for images in (self.law.images(wanted)[0], *interval(self.laws.images(wanted)))
        )
        limits = interval(self.laws.c)
        fallen = self.measured.draws[:, 0] - self.measured.draws[:, -1]
        return {
            "images": total,
            "present": {"value": float(present), "interval": [float(low), float(high)]},
            "target": 1 - float(wanted),
            "needed": {
                "images": needed,
                "more": _more(needed, total),
                "interval": ends,
                "more_interval": [_more(end, total) for end in ends],
            },
            "law": {name: float(getattr(self.law, name)[0]) for name in ("a", "b", "c")}
            | {
                "limit": 1 - float(self.law.c[0]),
                "limit_interval": [1 - float(limits[1]), 1 - float(limits[0])],
            },
            "falls": bool(np.quantile(fallen, 0.025) > 0),
            "table": self._table(sorted({total, *(times * total for times in AHEAD), *asked})),
        }

    def _table(self, ahead: Sequence[int]) -> list[dict[str, Any]]:
        """A row for each share, then for numbers of images that were not measured."""
        low, high = interval(self.measured.draws)
        seen = [
            {"images": round(images), "measured": 1 - error, "measured_interval": [1 - upper, 1 - lower]}
            for images, error, lower, upper in zip(
                *(values.tolist() for values in (self.measured.images, self.measured.errors, low, high)), strict=True
            )
        ]
        rows = seen + [{"images": images, "measured": None, "measured_interval": None} for images in ahead]
        predicted = [values.tolist() for values in self.metric([row["images"] for row in rows])]
        return [
            row | {"predicted": middle, "interval": [lower, upper]}
            for row, middle, lower, upper in zip(rows, *predicted, strict=True)
        ]

    def classes_that_gain(self, names: Sequence[str]) -> dict[str, Any]:
        """{"classes": [{"class", "error", "falling", "share"}], "mostly": names}, most first.

        Each class's part of the error gets a law with the exponent of the whole: "falling" is what of it more images
        take away, "share" that of the sum over the classes. "mostly" are those that hold half of it together.
        """
        parts, measured = self.measured.by_class, self.measured
        if not len(parts):
            return {"classes": [], "mostly": []}
        laws = fit_power_laws(measured.images, parts, self._weights, exponent=float(self.law.b[0]))
        errors = laws.errors([measured.total])[:, 0]
        falling = errors - laws.c
        share = falling / falling.sum() if falling.sum() > 0 else falling
        order = np.argsort(-share, kind="stable")
        rows = [
            {"class": names[k], "error": float(errors[k]), "falling": float(falling[k]), "share": float(share[k])}
            for k in order
        ]
        before = np.cumsum(share[order]) - share[order]
        mostly = [row["class"] for row, held in zip(rows, before, strict=True) if held < HALF and row["share"] > 0]
        return {"classes": rows, "mostly": mostly}


def _nameable(images: float, total: int) -> int | None:
    return math.ceil(images) if images <= FARTHEST * total else None


def _more(images: int | None, total: int) -> int | None:
    return None if images is None else max(0, images - total)
