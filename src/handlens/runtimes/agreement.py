"""Whether a runtime answers as PyTorch does: what a task's comparison comes to. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 1e-4  # of a probability, in f32


@dataclass(frozen=True)
class Agreement:
    """
    Attributes:
        equal: share of the labels, pixels or boxes that are the same.
        largest_difference: of a probability or of the scores of matched boxes; None for class maps.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids that differ without that excuse.
        passed: it may count as the same model.
    """

    equal: float
    largest_difference: float | None
    excused: tuple[str, ...]
    differing: tuple[str, ...]
    passed: bool
