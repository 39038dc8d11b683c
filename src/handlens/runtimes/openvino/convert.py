"""OpenVINO IR: model.xml and model.bin."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handlens.files import atomic_path
from handlens.names import as_json
from handlens.preprocess import Preprocess
from handlens.runtimes.graph import HeadGraph
from handlens.runtimes.names import INPUT
from handlens.runtimes.openvino.engine import import_openvino


def to_openvino(
    graph: nn.Module, preprocess: Preprocess, *, outputs: Sequence[str], any_size: bool = False, scoped: bool = False
) -> Any:
    """Convert a graph to an OpenVINO model in memory, its batch size left open.

    Args:
        outputs: their names, in the graph's order.
        any_size: the graph takes images of any size, one at a time.
        scoped: operators are named by the module that they belong to; takes longer.

    The graph is traced rather than exported: for MobileNetV2 that takes 1 s instead of 15 s, and the
    parity gate compares the result either way.
    """
    height, width = (301, 407) if any_size else (preprocess.height, preprocess.width)
    channels = 3 if any_size else preprocess.channels  # gray is made inside
    example = torch.zeros(1 if any_size else 2, height, width, channels, dtype=torch.uint8)
    shape = [1, -1, -1, 3] if any_size else [-1, height, width, channels]
    model = _traced(graph, example, shape, scoped=scoped)
    model.inputs[0].get_tensor().set_names({INPUT})
    return _named(model, outputs)


def add_head(features: Any, head: HeadGraph, *, outputs: Sequence[str]) -> Any:
    """Append a head to a converted backbone: the same model as `to_openvino` makes of the whole DeployGraph, sooner.

    Args:
        features: the model of an EmbedGraph. It stays as it is; the new one shares its weights.
        outputs: their names, in the graph's order.
    """
    ov = import_openvino()
    columns = head.classifier.in_features
    tail = _traced(head, torch.zeros(2, columns), [-1, columns])
    whole = features.clone()
    before = whole.outputs[0].get_node().input_value(0)
    before.get_tensor().set_names(set())  # they are no output any more
    for target in tail.inputs[0].get_target_inputs():
        target.replace_source_output(before)
    return _named(ov.Model(tail.get_results(), whole.get_parameters(), whole.get_friendly_name()), outputs)


def _traced(graph: nn.Module, example: torch.Tensor, shape: list[int], *, scoped: bool = False) -> Any:
    ov = import_openvino()
    kind = ov.Type.u8 if example.dtype == torch.uint8 else ov.Type.f32
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of every Python number; the gate decides whether it matters
        # A function is traced, where weights are constants: given a module, the tracer first copies it part by part.
        # But only of a module it takes parts that are scripted.
        whole = scoped or any(isinstance(part, torch.jit.ScriptModule) for part in graph.modules())
        learning = [weight for weight in graph.eval().parameters() if weight.requires_grad]
        for weight in learning:
            weight.requires_grad_(False)
        try:
            traced = torch.jit.trace(graph if whole else (lambda x: graph(x)), example, check_trace=False, strict=False)
        finally:
            for weight in learning:
                weight.requires_grad_(True)
        return ov.convert_model(traced, example_input=example, input=[(ov.PartialShape(shape), kind)])


def _named(model: Any, outputs: Sequence[str]) -> Any:
    for made, name in zip(model.outputs, outputs, strict=True):
        made.get_tensor().set_names({name})
    return model


def save_openvino(model: Any, path: Path, *, metadata: dict[str, Any]) -> Path:
    """Write path (.xml) and its .bin, weights as they are, with class names and preprocess inside (rt_info)."""
    ov = import_openvino()
    for key, value in metadata.items():
        model.set_rt_info(as_json(value), ["handlens", key])
    binary = path.with_suffix(".bin")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as xml:  # the .bin is in place before the .xml that needs it
        made = xml.with_suffix(".xml")
        try:
            ov.save_model(model, made, compress_to_fp16=False)
            with atomic_path(binary) as temporary:
                made.with_suffix(".bin").replace(temporary)
            made.replace(xml)
        finally:  # a full disk would stay full
            for left in (made, made.with_suffix(".bin")):
                left.unlink(missing_ok=True)
    return path
