"""Quantization-aware fine-tuning: weights move until the roundings of int8 cost less.

The net with a runtime's roundings learns to answer as it does without them, from images that need no labels, so that
every task can be fine-tuned alike. The loss is the share of the output's power that the roundings change.

Source   Jacob et al. 2018, arXiv:1712.05877, section 3; gradients pass straight through a rounding, and not where it
         clips: Bengio et al. 2013, arXiv:1308.3432; the net in float as a teacher of itself in fewer bits:
         Mishra & Marr 2018, arXiv:1711.05852.
Differs  Batch norm is folded before and stays so. Each epoch measures the ranges of activations anew and keeps them,
         where Jacob et al. let them move; Adam's averages begin anew with it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from handlens.errors import InputError
from handlens.quantization.observe import filled, observe
from handlens.quantization.rewritten import written
from handlens.quantization.sensitivity import unfold
from handlens.quantization.simulation import Simulation
from handlens.quantization.unfolded import Unfolded
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.int8 import Scheme

LEARNING_RATE = 1e-5  # of Adam, at the start; it falls to zero along half a cosine


def fine_tuned(
    net: nn.Module,
    images: Tensor,
    scheme: Scheme,
    *,
    calibration: Tensor,
    epochs: int,
    keep_float: Collection[str] = (),
    learning_rate: float = LEARNING_RATE,
    report: Reporter = QUIET,
) -> nn.Module:
    """A copy whose weights suit the roundings of a scheme.

    Args:
        net: in eval mode; is left as it is.
        images: (N, C, H, W) float32, normalized: what it learns from.
        calibration: the same, for the ranges of activations.
        keep_float: names of layers that are not rounded.

    Raises:
        InputError: torch.export cannot take the net, or there is nothing to train in it.
    """
    unfolded = unfold(net, images)
    trained = [name for layer in unfolded.layers for name in unfolded.own_parameters(layer)]
    if not trained:
        raise InputError(f"{type(net).__name__} has no weights that can be fine-tuned for int8.")
    teacher = copy.deepcopy(unfolded.module)
    steps = math.ceil(len(images) / unfolded.batch)
    generator = torch.Generator().manual_seed(0)
    done = 0
    for _ in range(epochs):
        student = Simulation(unfolded, observe(unfolded, calibration), scheme)
        student.keep_float(keep_float)
        weights = [student.module.get_parameter(name).requires_grad_() for name in trained]
        optimizer = torch.optim.Adam(weights, lr=learning_rate)
        for chosen in torch.randperm(len(images), generator=generator).split(unfolded.batch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * done / (steps * epochs)))
            _step(student, teacher, filled(images[chosen], unfolded.batch), optimizer)
            done += 1
            report.progress("fine-tuning for int8", done, steps * epochs)
        _take_weights(unfolded, student, trained)
    return written(unfolded)


def _step(student: Simulation, teacher: nn.Module, batch: Tensor, optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        wanted = teacher(batch)
    optimizer.zero_grad()
    loss = _noise(student.module(batch), wanted)
    if loss.grad_fn is None:
        raise InputError("the model cannot be fine-tuned for int8: it computes without gradients.")
    loss.backward()
    optimizer.step()
    student.fit_weights()


def _noise(raw: Any, wanted: Any) -> Tensor:
    """The square of the difference as a share of the square of what is wanted, summed over all outputs."""
    total = torch.zeros(())
    for made, target in zip(pytree.tree_leaves(raw), pytree.tree_leaves(wanted), strict=True):
        if isinstance(made, Tensor) and made.requires_grad:
            total = total + (made - target).square().sum() / target.square().sum().clamp(min=1e-30)
    return total


def _take_weights(unfolded: Unfolded, student: Simulation, names: list[str]) -> None:
    with torch.no_grad():
        for name in names:
            unfolded.module.get_parameter(name).copy_(student.module.get_parameter(name))
