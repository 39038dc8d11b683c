"""LiteRT's flatbuffer: one file for one image at a time, class names and preprocess in its metadata."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.files import atomic_path
from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.converter import run_converter
from handlens.runtimes.names import INPUT

SCRIPT = Path(__file__).with_name("converter_script.py")
QUANTIZER = Path(__file__).with_name("quantizer_script.py")
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def export_litert(
    graph: nn.Module,
    preprocess: Preprocess,
    path: Path,
    *,
    outputs: Sequence[str],
    metadata: dict[str, Any],
    report: Reporter = QUIET,
) -> Path:
    """Write a graph as .tflite, its input and outputs by name.

    Args:
        outputs: their names, in the graph's order.

    Raises:
        InputError: the extra `litert` is not installed, or the converter cannot take the graph.
    """
    try:
        import ai_edge_litert  # noqa: F401 - runs the file, and reads and writes its format
    except ImportError:
        raise InputError("Export to LiteRT needs more packages: pip install 'handlens[litert]'.") from None
    example = torch.zeros(1, preprocess.height, preprocess.width, preprocess.channels, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        program, made = Path(folder) / "graph.pt2", Path(folder) / "graph.tflite"
        with torch.inference_mode():
            named = _Named(graph, outputs).eval()
            torch.export.save(torch.export.export(named, (), {INPUT: example}, strict=False), program)
        run_converter(
            "litert",
            SCRIPT,
            *(str(program), str(made)),
            package="litert_torch",
            requirements=REQUIREMENTS,
            report=report,
        )
        content = with_metadata(made.read_bytes(), metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


class _Named(nn.Module):
    """Outputs by name: LiteRT keeps the names of a dictionary."""

    def __init__(self, graph: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.deployed = graph  # not "graph": exporters keep their own under that name
        self.outputs = tuple(outputs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        made = self.deployed(images)
        return dict(zip(self.outputs, made if isinstance(made, tuple) else (made,), strict=True))


def quantize_litert(
    source: Path,
    path: Path,
    *,
    images: NDArray[np.uint8],
    options: Mapping[str, Any],
    metadata: dict[str, Any],
    report: Reporter = QUIET,
) -> Path:
    """Write the int8 form of a .tflite file.

    Args:
        images: (N, height, width, C) uint8, what activations are calibrated with.
        options: of quantizer_script.py.

    Raises:
        InputError: the quantizer cannot take the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels, made = Path(folder) / "pixels.npy", Path(folder) / "int8.tflite"
        np.save(pixels, images)
        run_converter(
            "litert",
            QUANTIZER,
            *(str(source), str(pixels), str(made), json.dumps(dict(options))),
            package="ai_edge_quantizer",
            requirements=REQUIREMENTS,
            report=report,
        )
        content = with_metadata(made.read_bytes(), metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def with_metadata(content: bytes, metadata: dict[str, Any]) -> bytes:
    """A .tflite file with entries "handlens.<key>" of JSON in its table of metadata, in place of those it has."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:  # what lies behind the flatbuffer would be lost
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
            buffer.offset = buffer.size = 0
    kept = [entry for entry in model.metadata or [] if not bytes(entry.name).startswith(b"handlens.")]
    model.metadata = kept
    for key, value in metadata.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), dtype=np.uint8)
        entry.name, entry.buffer = f"handlens.{key}", len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    builder = flatbuffers.Builder(len(content) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
