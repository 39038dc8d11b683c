"""Convert what torch.export saved to ExecuTorch, without handlens:
python converter_script.py PROGRAM SAID FILE DELEGATION.json [PIXELS.npy OPTIONS].

With PIXELS, (N, H, W, C) uint8, which activations are calibrated with, weights and activations get 8 bits. OPTIONS, as
JSON: ranges; in_float, the modules whose operators are not quantized. DELEGATION: which operators XNNPACK runs.
"""

import json
import logging
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import numpy as np  # noqa: E402 - the advice of those that follow is silenced first
import torch  # noqa: E402
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # noqa: E402
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (  # noqa: E402
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.devtools.backend_debug import get_delegation_info  # noqa: E402
from executorch.exir import to_edge_transform_and_lower  # noqa: E402
from torchao.quantization.pt2e.observer import MinMaxObserver  # noqa: E402
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation  # noqa: E402

aten = torch.ops.aten
LAYERS = (aten.conv2d.default, aten.conv2d.padding, aten.conv_transpose2d.input, aten.linear.default)
CLIPS = (aten.hardtanh.default, aten.hardtanh_.default, aten.relu6.default)


class Quantizer(XNNPACKQuantizer):
    """What a layer makes is rounded behind its ReLU6, not before it too.

    XNNPACK runs both as one operator, as it does with ReLU. Theirs gives the map before the clip levels of its own, of
    which the clip throws most away.
    """

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        model = super().annotate(model)
        for clip in model.graph.nodes:
            layer = clip.args[0] if clip.target in CLIPS else None
            if layer is None or layer.target not in LAYERS or len(layer.users) > 1:
                continue
            annotation = layer.meta.get("quantization_annotation")
            if annotation is not None and annotation.output_qspec is not None:
                clip.meta["quantization_annotation"] = QuantizationAnnotation(
                    output_qspec=annotation.output_qspec, _annotated=True
                )
                annotation.output_qspec = None
        return model


def module(node: torch.fx.Node) -> str | None:
    """The deepest one that an operator belongs to; "" of the graph itself; None of a weight."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else None


def quantized(program: torch.export.ExportedProgram, pixels: np.ndarray, options: dict[str, Any]) -> Any:
    in_float = set(options["in_float"])
    quantizer = Quantizer()
    config = get_symmetric_quantization_config(is_per_channel=True)
    if options["ranges"] == "extremes":
        least_and_greatest = MinMaxObserver.with_args(eps=2**-12)
        activation = replace(config.input_activation, observer_or_fake_quant_ctr=least_and_greatest)
        config = replace(config, input_activation=activation, output_activation=activation)
    quantizer.set_global(config)
    quantizer.set_filter_function(lambda node: module(node) not in in_float)
    prepared = prepare_pt2e(program.module(), quantizer)
    for image in pixels:
        prepared(torch.tensor(image[None]))
    example = (torch.tensor(pixels[:1]),)
    return torch.export.export(convert_pt2e(prepared), example, strict=False)


def delegation(graph: torch.fx.GraphModule) -> dict[str, Any]:
    info = get_delegation_info(graph)
    kinds = {entry.op_type: entry.non_delegated for entry in info.delegation_by_operator.values()}
    # Not operators: they take the outputs of delegates apart.
    left = {
        kind.removeprefix("aten_").removesuffix("_default"): count
        for kind, count in kinds.items()
        if count and kind != "getitem"
    }
    delegated = info.num_delegated_nodes
    return {"to": "XNNPACK", "operators": delegated + sum(left.values()), "delegated": delegated, "left": left}


source, said, destination, divided, *quantizing = map(str, sys.argv[1:])
text = torch.frombuffer(bytearray(Path(said).read_bytes()), dtype=torch.uint8)
with torch.inference_mode():
    program = torch.export.load(source)
    if quantizing:
        program = quantized(program, np.load(quantizing[0]), json.loads(quantizing[1]))
    lowered = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], constant_methods={"handlens": text}
    )
    Path(divided).write_text(json.dumps(delegation(lowered.exported_program().graph_module)), encoding="utf-8")
    Path(destination).write_bytes(lowered.to_executorch().buffer)
