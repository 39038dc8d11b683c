"""int8: what a runtime's quantizer is given, and the settings that are tried, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One way to quantize.

    Attributes:
        name: in reports.
        why: what it is tried for, as the end of "It was tried because".
        options: of this runtime's quantizer.
    """

    name: str
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
