"""LiteRT's flatbuffer: one file for one image at a time, class names and preprocess in its metadata."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.files import atomic_path
from handlens.names import as_json
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.converter import run_converter
from handlens.runtimes.delegation import Delegation
from handlens.runtimes.exported import called_modules
from handlens.runtimes.int8 import NET
from handlens.runtimes.litert.delegated import delegation
from handlens.runtimes.names import INPUT
from handlens.runtimes.source import Source

SCRIPT = Path(__file__).with_name("converter_script.py")
QUANTIZER = Path(__file__).with_name("quantizer_script.py")
CONVERTER = "litert_torch"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def export_litert(source: Source, path: Path, *, report: Reporter = QUIET) -> Delegation:
    """Write a graph as .tflite, its input and outputs by name.

    Raises:
        InputError: the converter cannot take the graph.
    """
    example = torch.zeros(source.example_shape(1), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        program, made = Path(folder) / "graph.pt2", Path(folder) / "graph.tflite"
        with torch.inference_mode():
            named = _Named(source.graph, source.outputs).eval()
            torch.export.save(torch.export.export(named, (), {INPUT: example}, strict=False), program)
        run_converter(
            "litert",
            SCRIPT,
            *(program, made),
            outputs=(made,),
            package=CONVERTER,
            requirements=REQUIREMENTS,
            report=report,
        )
        content = with_metadata(made.read_bytes(), source.metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return delegation(path)


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
    source: Source,
    whole: Path,
    path: Path,
    *,
    images: NDArray[np.uint8],
    options: Mapping[str, Any],
    keep_float: Sequence[str] = (),
    report: Reporter = QUIET,
) -> Delegation:
    """Write the int8 form of a .tflite file.

    Args:
        whole: the float32 file.
        images: (N, height, width, C) uint8, what activations are calibrated with.
        options: of quantizer_script.py.
        keep_float: modules of the model that are not quantized.

    Raises:
        InputError: the quantizer cannot take the model.
    """
    options = {"bits": 8, "in_float": _scopes_in_float(source, keep_float)} | dict(options)
    return _reduced(source, whole, path, images=images, options=options, report=report)


def halve_litert(source: Source, whole: Path, path: Path, *, report: Reporter = QUIET) -> Delegation:
    """Write a .tflite file with weights of 16 bits, which LiteRT widens when it opens the file.

    Args:
        whole: the float32 file.

    Raises:
        InputError: the quantizer cannot take the model.
    """
    none = np.zeros((0, 1, 1, 1), dtype=np.uint8)
    return _reduced(source, whole, path, images=none, options={"bits": 16}, report=report)


def _reduced(
    source: Source, whole: Path, path: Path, *, images: NDArray[np.uint8], options: Mapping[str, Any], report: Reporter
) -> Delegation:
    with tempfile.TemporaryDirectory() as folder:
        pixels, made = Path(folder) / "pixels.npy", Path(folder) / "reduced.tflite"
        np.save(pixels, images)
        run_converter(
            "litert",
            QUANTIZER,
            *(whole, pixels, made, json.dumps(options)),
            outputs=(made,),
            package="ai_edge_quantizer",
            requirements=REQUIREMENTS,
            report=report,
        )
        content = with_metadata(made.read_bytes(), source.metadata, short_names=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return delegation(path)


def _scopes_in_float(source: Source, keep_float: Sequence[str]) -> list[str]:
    """Regular expressions of what is not quantized, by the rule of `stays_float`.

    A scope is one path for each operator that was fused into one, the convolution's last, for example
    "...graph.DeployGraph_deployed/mobilenet_v2.MobileNetV2_net/blocks.ConvNormAct_stem/conv.Conv2d_conv;1": class and
    name of each module that is called. Modules that are not called leave no trace, so that what is equal but for them
    is left in float together.
    """
    outside = rf"^(?!.*{_scope([NET])}[/;])"
    if not keep_float:
        return [outside]
    example = torch.zeros(source.example_shape(1), dtype=torch.uint8)
    with torch.inference_mode():
        called = called_modules(torch.export.export(source.graph.eval(), (example,), strict=False))
    kept = []
    for name in keep_float:
        parts = f"{NET}.{name}".split(".")
        before = [".".join(parts[: place + 1]) for place in range(len(parts))]
        scope = _scope([part for part in before if part in called or part == before[-1]])
        kept.append(rf"{scope}(/[^;]*)?;\d*;*$")
    return [outside, *kept]


def _scope(called: Sequence[str]) -> str:
    """Regular expression of a path of modules."""
    return "DeployGraph_deployed/" + "/".join(rf"[^/;]*_{re.escape(name.split('.')[-1])}" for name in called)


def with_metadata(content: bytes, metadata: dict[str, Any], *, short_names: bool = False) -> bytes:
    """A .tflite file with entries "handlens.<key>" of JSON in its table of metadata, in place of those it has.

    Args:
        short_names: of what is inside, as `short_name` gives them: of a small net in int8, the converter's names are
            an eighth of the file. Its quantizer finds layers by the long ones.
    """
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
        buffer.data = np.frombuffer(as_json(value).encode(), dtype=np.uint8)
        entry.name, entry.buffer = f"handlens.{key}", len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)

    if short_names:
        for graph in model.subgraphs:
            ends = {*graph.inputs, *graph.outputs}
            for number, tensor in enumerate(graph.tensors):
                if number not in ends:
                    tensor.name = short_name(bytes(tensor.name).decode("utf-8", "replace"))

    class Aligned(flatbuffers.Builder):
        """The schema wants data of buffers at multiples of 16 bytes, which the generated code does not see to."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803 - its names
            return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)

    builder = Aligned(len(content) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def short_name(name: str) -> str:
    """ "pack.Net_net/pack.Block_3/torch.nn.Conv2d_conv;;pack.Net_net/..." -> "net/3/conv"; others stay as they are."""
    return "/".join(re.sub(r"[\w.]+\.[^_]+_", "", part) for part in name.split(";")[0].split("/"))
