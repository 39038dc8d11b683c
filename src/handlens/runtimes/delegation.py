"""What of a file a runtime hands to its fast kernels, and what runs on slower ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Delegation:
    """
    Attributes:
        to: whose the fast kernels are.
        operators: of the file.
        delegated: how many of them.
        left: the others, how many of each kind.
    """

    to: str
    operators: int
    delegated: int
    left: Mapping[str, int]

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Delegation:
        return cls(value["to"], value["operators"], value["delegated"], dict(value["left"]))

    def __str__(self) -> str:
        rest = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left.items()))
        return f"{self.to} runs {self.delegated} of {self.operators} operators" + (f", not {rest}" if rest else "")
