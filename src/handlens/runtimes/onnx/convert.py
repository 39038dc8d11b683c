"""ONNX: one file, opset 18 or newer, batch size left open."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handlens.errors import InputError
from handlens.files import atomic_path
from handlens.preprocess import Preprocess
from handlens.reporter import errors_alone
from handlens.runtimes.names import INPUT


def export_onnx(
    graph: nn.Module,
    preprocess: Preprocess,
    path: Path,
    *,
    outputs: Sequence[str],
    metadata: dict[str, Any],
    any_size: bool = False,
) -> Path:
    """Write a graph as ONNX with class names and preprocess in its metadata.

    Args:
        outputs: their names, in the graph's order.
        any_size: the graph takes images of any size, one at a time.

    Raises:
        InputError: the extra `onnx` is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it, and its own message is unclear
    except ImportError:
        raise InputError("Export to ONNX needs more packages: pip install 'handlens[onnx]'.") from None
    height, width = (301, 407) if any_size else (preprocess.height, preprocess.width)
    channels = 3 if any_size else preprocess.channels  # gray is made inside
    example = torch.zeros(1 if any_size else 2, height, width, channels, dtype=torch.uint8)
    shapes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if any_size:
        shapes = {1: torch.export.Dim("height", min=2, max=32768), 2: torch.export.Dim("width", min=2, max=32768)}
    with errors_alone("torch.onnx"), warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # deprecations inside the exporter; the gate decides whether it worked
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(shapes,),
            verbose=False,
            input_names=[INPUT],
            output_names=list(outputs),
        )
    assert program is not None
    model = program.model_proto
    set_metadata(model, metadata)
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save_model(model, str(temporary), save_as_external_data=False)
    return path


def set_metadata(model: Any, metadata: dict[str, Any]) -> None:
    """Give a model entries "handlens.<key>" of JSON, in place of those it has."""
    kept = [entry for entry in model.metadata_props if not entry.key.startswith("handlens.")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"handlens.{key}", json.dumps(value, ensure_ascii=False)
