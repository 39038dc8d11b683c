"""ExecuTorch's .pte: one file for one image at a time; what it says of itself is a method that returns it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handlens.errors import require
from handlens.files import atomic_path
from handlens.reading.parsed import read_json
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.converter import run_converter
from handlens.runtimes.delegation import Delegation
from handlens.runtimes.exported import modules_in_float
from handlens.runtimes.source import Source

SCRIPT = Path(__file__).with_name("converter_script.py")


def export_executorch(
    source: Source,
    path: Path,
    *,
    images: NDArray[np.uint8] | None = None,
    keep_float: Sequence[str] = (),
    ranges: str = "histogram",
    report: Reporter = QUIET,
) -> Delegation:
    """Write a graph as .pte, with its outputs' names, class names and preprocess inside.

    Args:
        images: (N, height, width, C) uint8, what activations of 8 bits are calibrated with; None is float32.
        keep_float: modules of the model that are not quantized.
        ranges: of activations, "histogram" (with the least error) or "extremes".

    Raises:
        InputError: the extra `executorch` is not installed, or the converter cannot take the graph.
    """
    require("executorch", extra="executorch", what="export to ExecuTorch")
    example = torch.zeros(source.example_shape(1), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        program, said, made = (Path(folder) / name for name in ("graph.pt2", "said.json", "graph.pte"))
        divided = Path(folder) / "delegation.json"
        with torch.inference_mode():
            exported = torch.export.export(source.graph.eval(), (example,), strict=False)
            torch.export.save(exported, program)
        text = json.dumps({"outputs": list(source.outputs), "metadata": source.metadata})
        said.write_text(text, encoding="utf-8")
        quantizing: list[str | Path] = []
        if images is not None:
            pixels = Path(folder) / "pixels.npy"
            np.save(pixels, images)
            quantizing = [pixels, json.dumps({"ranges": ranges, "in_float": modules_in_float(exported, keep_float)})]
        run_converter(
            "executorch",
            SCRIPT,
            *(program, said, made, divided, *quantizing),
            outputs=(made, divided),
            package="executorch",
            report=report,
        )
        content = made.read_bytes()
        delegation = Delegation.from_dict(read_json(divided))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return delegation
