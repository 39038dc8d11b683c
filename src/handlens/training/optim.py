"""Which parameters learn how fast, and how the rate moves."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

import torch
from torch import nn

# Of the learning rate, where the recipe has none: TensorFlow's for MobileNet, and PyTorch's of ReduceLROnPlateau.
DECAYS = {"exponential": 0.98, "plateau": 0.1}


def parameter_groups(
    net: nn.Module, *, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """One group per block and kind: the classifier learns at `learning_rate` / layer_decay, the last block at
    `learning_rate`, each block before it at `layer_decay` times that of the one after.

    Weight decay is not applied to biases and batch-norm parameters (everything with one dimension).
    Source: discriminative learning rates, Howard and Ruder 2018, arXiv:1801.06146, section 3.2.
    """
    names = list(dict.fromkeys(_block(name) for name, _ in net.named_parameters()))
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        block, decayed = _block(name), parameter.ndim > 1
        distance = len(names) - 2 - names.index(block)
        groups.setdefault(
            (block, decayed),
            {
                "params": [],
                "lr": learning_rate * layer_decay**distance,
                "weight_decay": weight_decay if decayed else 0.0,
                "name": f"{block}{'' if decayed else ' (no decay)'}",
            },
        )["params"].append(parameter)
    return list(groups.values())


def _block(name: str) -> str:
    """ "blocks.3.expand.conv.weight" -> "blocks.3"; "stem.conv.weight" -> "stem"."""
    parts = name.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0]


def make_optimizer(name: str, groups: list[dict[str, Any]], *, momentum: float) -> torch.optim.Optimizer:
    """By the name that a recipe has for it; learning rates and weight decay stand in the groups.

    RMSProp's squares fade by 0.9 per step and 1e-3 is added to their root, as the recipe of MobileNet has it (Howard et
    al. 2017, section 4, and the authors' code); PyTorch's own are 0.99 and 1e-8.
    """
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, foreach=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, alpha=0.9, eps=1e-3, momentum=momentum, foreach=True)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, foreach=True)


def rate_factor(
    step: int, *, total: int, warmup: float, schedule: str, decay: float, epochs: int, reductions: int = 0
) -> float:
    """Factor of the learning rate: linear from 0 over the first `warmup` share, then as the schedule says.

    Args:
        step, total: optimizer steps done, and in all of the epochs.
        schedule: "cosine" to 0; "constant"; "exponential", `decay` times as much in each epoch; "plateau", `decay`
            times as much at each reduction.
        reductions: so far.
    """
    first = warmup * total
    if step < first:
        return (step + 1) / (first + 1)
    if schedule == "constant":
        return 1.0
    if schedule == "plateau":
        return float(decay**reductions)
    if schedule == "exponential":
        return float(decay ** ((step - first) // max(1.0, total / max(1, epochs))))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - first) / max(1.0, total - first))))


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed memory rather than to return it after every layer.

    By default each large activation is mapped, zeroed page by page and unmapped again, in every step: on a
    2-core CPU that took half of the time of a MobileNetV2 step. Returns whether it could be done (Linux, glibc).
    The numbers computed do not change.
    """
    if not sys.platform.startswith("linux") or torch.cuda.is_available():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1))
