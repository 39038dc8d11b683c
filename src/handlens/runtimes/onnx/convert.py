"""ONNX: one file, opset 18 or newer, batch size left open."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from handlens.errors import require
from handlens.files import atomic_path
from handlens.names import as_json
from handlens.reporter import errors_alone
from handlens.runtimes.names import INPUT
from handlens.runtimes.source import Source


def export_onnx(source: Source, path: Path) -> Path:
    """Write a graph as ONNX with class names and preprocess in its metadata.

    Raises:
        InputError: the extra `onnx` is not installed.
    """
    for package in ("onnx", "onnxscript"):  # torch.onnx needs the latter, and its own message is unclear
        require(package, extra="onnx", what="export to ONNX")
    import onnx

    example = torch.zeros(source.example_shape(2), dtype=torch.uint8)
    shapes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if source.any_size:
        shapes = {1: torch.export.Dim("height", min=2, max=32768), 2: torch.export.Dim("width", min=2, max=32768)}
    with errors_alone("torch.onnx"), warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # deprecations inside the exporter; the gate decides whether it worked
        program = torch.onnx.export(
            source.graph.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(shapes,),
            verbose=False,
            input_names=[INPUT],
            output_names=list(source.outputs),
        )
    assert program is not None
    model = program.model_proto
    set_metadata(model, source.metadata)
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
        entry.key, entry.value = f"handlens.{key}", as_json(value)
