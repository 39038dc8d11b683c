"""Weights of a net into a file."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.files import write_bytes
from handlens.reading.files import check_file

LOWER = "Train again with a lower --learning-rate, and check the images for broken ones."


def require_finite(value: float, what: str) -> None:
    """
    Args:
        what: the value is, for the sentence.

    Raises:
        InputError: it is nan or infinite.
    """
    if not math.isfinite(value):
        raise InputError(f"training has diverged: {what} is {value}. {LOWER}")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """What `save_net` wrote.

    Raises:
        InputError: the file is damaged, or a number in it is nan or infinite.
    """
    check_file(path, "weights")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a complete file of weights: {error}.") from None
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{path} has weights that are nan or infinite ({name}); restore it from a copy.")
    return state


def save_net(net: nn.Module, path: Path) -> None:
    """Write a state dict as safetensors: whole or not at all, in the plain memory layout.

    Raises:
        InputError: a number is nan or infinite: nothing that such a model says would be an answer.
        OSError: the file cannot be written, for example because the disk is full.
    """
    # Cloned: parameters that share their memory are refused by safetensors.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"the weights {name} have become nan or infinite. {LOWER}")
    write_bytes(path, save(state))  # through Python: safetensors' own writer does not raise OSError
