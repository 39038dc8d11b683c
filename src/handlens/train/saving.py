"""Weights of a net into a file."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from handlens.files import atomic_path


def save_net(net: nn.Module, path: Path) -> None:
    """Write a state dict as safetensors: whole or not at all, in the plain memory layout."""
    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary)
