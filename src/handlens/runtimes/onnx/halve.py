"""fp16 for ONNX: weights are stored in 16 bits and widened when the file is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handlens.errors import require
from handlens.files import atomic_path
from handlens.runtimes.onnx.convert import set_metadata
from handlens.runtimes.onnx.scopes import nodes_in_float

LARGEST = float(np.finfo(np.float16).max)


def halve_onnx(whole: Path, path: Path, *, metadata: dict[str, Any]) -> None:
    """Write the fp16 form of an .onnx file: between a weight and its layer there is a Cast.

    Computing in float32 is as fast on a CPU, and changes less than onnxruntime's own conversion, which also rounds
    what passes between layers.

    Raises:
        InputError: the extra `onnx` is not installed.
    """
    require("onnx", extra="onnx", what="fp16 for ONNX")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(whole))
    graph = model.graph
    outside = set(nodes_in_float(graph))
    precise = {name for node in graph.node if node.name in outside for name in node.input}
    casts = []
    for place, entry in enumerate(graph.initializer):
        if entry.data_type != TensorProto.FLOAT or len(entry.dims) < 2 or entry.name in precise:
            continue
        values = numpy_helper.to_array(entry)
        if np.abs(values).max() > LARGEST:
            continue
        stored = f"{entry.name}.fp16"
        casts.append(helper.make_node("Cast", [stored], [entry.name], name=f"{entry.name}.widen", to=TensorProto.FLOAT))
        graph.initializer[place].CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    set_metadata(model, metadata)
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save_model(model, str(temporary), save_as_external_data=False)
