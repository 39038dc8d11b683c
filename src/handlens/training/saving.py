"""Weights of a net into a file."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from handlens.files import write_bytes


def save_net(net: nn.Module, path: Path) -> None:
    """Write a state dict as safetensors: whole or not at all, in the plain memory layout.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    # Cloned: parameters that share their memory are refused by safetensors.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    write_bytes(path, save(state))  # through Python: safetensors' own writer does not raise OSError
