"""int8: what a runtime's quantizer is given, the settings that are tried, in words, and how each rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Ranges = Literal["extremes", "averaged", "moving"]


EVERY = math.inf  # as Scheme.bias_correction: every bias is corrected


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a quantizer rounds, for its simulation in PyTorch (handlens.quantization).

    Attributes:
        weight_limit: the largest weight of an output channel in steps, with zero in the middle: 127, half of it where
            weights have 7 bits. Rounded to whole steps, up below zero and down above it.
        depthwise_limit: the same of depthwise convolutions; None is no other.
        symmetric: activations that may be negative have as many levels below zero as above it.
        ranges: of activations, from calibration images: their least and greatest value, the average over images of each
            image's, or a moving average of these.
        places: activations are rounded where an operator of int8 makes them, or only where one takes them.
        depthwise_channels: what a depthwise convolution takes has a range for each channel.
        bias_correction: biases are changed so that the mean of what a layer makes stays (quantization.bias), where the
            change is less than so many times the bias; 0 changes none. EVERY changes all, before the quantizer gets
            the model; other numbers are those of a quantizer that does it itself.
        transposed: transposed convolutions are quantized too.
    """

    weight_limit: float = 127
    depthwise_limit: float | None = None
    symmetric: bool = False
    ranges: Ranges = "extremes"
    places: Literal["outputs", "inputs"] = "outputs"
    depthwise_channels: bool = False
    bias_correction: float = 0
    transposed: bool = True

    def limit_of(self, depthwise: bool) -> float:
        """`weight_limit` of a layer."""
        return self.depthwise_limit if depthwise and self.depthwise_limit is not None else self.weight_limit


@dataclass(frozen=True)
class Setting:
    """One way to quantize.

    Attributes:
        name: in reports.
        why: what it is tried for, as the end of "It was tried because".
        options: of this runtime's quantizer.
        scheme: how it rounds.
    """

    name: str
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scheme: Scheme = field(default_factory=Scheme)


# Of runtimes whose quantizer takes the rule for ranges by this name.
EXTREMES = Setting(
    "extremes",
    "activations range from their least to their greatest value",
    {"ranges": "extremes"},
    Scheme(bias_correction=EVERY),
)


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
