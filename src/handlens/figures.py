"""Numbers as people read them."""

from __future__ import annotations


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
