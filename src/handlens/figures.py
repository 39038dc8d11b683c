"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How values of one quantity, and differences between them, are written.

    Attributes:
        factor: from the value to the number that is written.
        digits: of that number, as a format.
        unit: behind a value. gained: behind a difference.
    """

    factor: float
    digits: str
    unit: str = ""
    gained: str = ""

    def value(self, value: float | None) -> str:
        """0.912 -> "91.2 %"; undefined -> "–"."""
        return "–" if value is None else f"{self.factor * value:{self.digits}}{self.unit}"

    def number(self, difference: float) -> str:
        """0.021 -> "+2.1"; what is rounded to 0 has no sign."""
        text = f"{self.factor * difference:+{self.digits}}"
        return text if float(text) else text[1:]

    def change(self, difference: float | None) -> str:
        """0.021 -> "+2.1 points"; undefined -> "–"."""
        return "–" if difference is None else f"{self.number(difference)}{self.gained}"

    def interval(self, ends: Sequence[float] | None) -> str:
        """(0.004, 0.039) -> "+0.4 to +3.9"; undefined -> "–"."""
        return "–" if ends is None else f"{self.number(ends[0])} to {self.number(ends[1])}"


SHARE = Scale(100, ".1f", " %", " points")
R2 = Scale(1, ".3f")
MEASURED = Scale(1, ".4g")  # in the labels' unit


def percent(share: float | None, digits: int = 1) -> str:
    """0.9164 -> "91.6 %"; undefined -> "–". A share below 1 is never rounded up to 100 %, nor one above 0 down to 0."""
    if share is None:
        return "–"
    shown = round(100 * share, digits)
    step = 10.0**-digits
    if share < 1 and shown >= 100:
        shown = 100 - step
    if share > 0 and shown <= 0:
        shown = step
    return f"{shown:.{digits}f} %"
