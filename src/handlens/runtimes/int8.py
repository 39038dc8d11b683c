"""int8: what a runtime's quantizer is given, and the settings that are tried, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Kernels:
    """What may run an int8 file on another processor or board, and can be had here.

    Attributes:
        name: in reports.
        option: `kernels` of the runner's Model.
        environment: variables of the process.
    """

    name: str
    option: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


NET = "net"  # the model's name in DeployGraph; around it lie the arithmetic of Preprocess and the last step


def stays_float(module: str, keep_float: Sequence[str] = ()) -> bool:
    """Whether an operator is not quantized.

    Args:
        module: the deepest one in DeployGraph that it belongs to, for example "net.stem.conv".
        keep_float: modules of the model, as `named_modules` calls them, for example "stem.conv".
    """
    kept = [f"{NET}.{name}" for name in keep_float]
    return not _within(module, NET) or any(_within(module, name) for name in kept)


def _within(module: str, other: str) -> bool:
    return module == other or module.startswith(f"{other}.")
