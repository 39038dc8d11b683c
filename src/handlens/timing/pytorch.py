"""PyTorch itself among the contenders: eager, and compiled by torch.compile. Torch is imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handlens.timing.contender import Contender

RUNNER = Path(__file__).with_name("pytorch_runner.py")
EAGER_NAME = "PyTorch"
# Name on the command line -> name in tables, and what the runner is told.
ENGINES = {"pytorch": (EAGER_NAME, "eager"), "compile": ("torch.compile", "compiled")}


def contenders(
    module: Any, engines: Sequence[str], path: Path, *, shape: tuple[int, int, int], title: str = ""
) -> list[Contender]:
    """Save a module (N, H, W, C) uint8 -> tensors, for processes that load it.

    Args:
        engines: names of ENGINES. path: of the file that is written. title: the beginning of their names.
    """
    import torch

    torch.save(module, path)
    return [
        Contender(f"{title}{ENGINES[name][0]}", RUNNER, path.resolve(), shape, ENGINES[name][1], alone=False)
        for name in engines
    ]
