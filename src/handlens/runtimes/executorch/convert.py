"""ExecuTorch's .pte: one file for one image at a time; what it says of itself is a method that returns it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handlens.errors import require
from handlens.files import atomic_path
from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.converter import run_converter

SCRIPT = Path(__file__).with_name("converter_script.py")


def export_executorch(
    graph: nn.Module,
    preprocess: Preprocess,
    path: Path,
    *,
    outputs: Sequence[str],
    metadata: dict[str, Any],
    report: Reporter = QUIET,
) -> Path:
    """Write a graph as .pte, with its outputs' names, class names and preprocess inside.

    Args:
        outputs: their names, in the graph's order.

    Raises:
        InputError: the extra `executorch` is not installed, or the converter cannot take the graph.
    """
    require("executorch", extra="executorch", what="export to ExecuTorch")
    example = torch.zeros(1, preprocess.height, preprocess.width, preprocess.channels, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        program, said, made = (Path(folder) / name for name in ("graph.pt2", "said.json", "graph.pte"))
        with torch.inference_mode():
            torch.export.save(torch.export.export(graph.eval(), (example,), strict=False), program)
        said.write_text(json.dumps({"outputs": list(outputs), "metadata": metadata}), encoding="utf-8")
        run_converter("executorch", SCRIPT, str(program), str(said), str(made), package="executorch", report=report)
        content = made.read_bytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path
