"""fp16 for OpenVINO: weights are stored in 16 bits and widened when the file is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handlens.runtimes.int8 import stays_float
from handlens.runtimes.openvino.convert import save_openvino
from handlens.runtimes.openvino.engine import import_openvino, shared_core
from handlens.runtimes.openvino.quantize import module_of

LARGEST = float(np.finfo(np.float16).max)


def halve_openvino(whole: Path, path: Path, *, metadata: dict[str, Any]) -> Path:
    """Write the fp16 form of an OpenVINO model.

    Of the model's layers only: OpenVINO's own compression also rounds constants of the last step, such as anchors.
    """
    ov = import_openvino()
    model = shared_core().read_model(whole)
    for node in model.get_ordered_ops():
        if stays_float(module_of(node)):
            continue
        for given in node.inputs():
            constant = given.get_source_output().get_node()
            if constant.get_type_name() != "Constant" or constant.get_element_type() != ov.Type.f32:
                continue
            values = constant.get_data()
            if values.ndim < 2 or np.abs(values).max() > LARGEST:
                continue
            stored = ov.opset13.constant(values.astype(np.float16))
            given.replace_source_output(ov.opset13.convert(stored, "f32").output(0))
    return save_openvino(model, path, metadata=metadata)
