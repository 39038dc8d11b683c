"""int8 for OpenVINO, by nncf."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import require
from handlens.reporter import errors_alone
from handlens.runtimes.int8 import NET, stays_float
from handlens.runtimes.openvino.convert import save_openvino
from handlens.runtimes.openvino.engine import import_openvino, shared_core


def quantize_openvino(
    whole: Path,
    path: Path,
    *,
    images: NDArray[np.uint8],
    keep_float: Sequence[str] = (),
    metadata: dict[str, Any],
    preset: str = "mixed",
    fast_bias: bool = True,
) -> Path:
    """Write the int8 form of an OpenVINO model.

    Args:
        whole: the float32 file.
        images: (N, height, width, C) uint8, what activations are calibrated with.
        keep_float: modules of the model that are not quantized.
        preset: "mixed" or "performance". fast_bias: biases are corrected without running the model layer by layer.

    Raises:
        InputError: the extra `int8` is not installed.
    """
    import_openvino()  # without its usage statistics, which nncf shares
    require("nncf", extra="int8", what="int8 for OpenVINO")
    with errors_alone("torch.utils.cpp_extension"):  # of a CUDA that is not needed
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    nncf.set_log_level(logging.ERROR)
    model = shared_core().read_model(whole)
    left = [node.get_friendly_name() for node in model.get_ordered_ops() if stays_float(module_of(node), keep_float)]
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars of its own
        model = nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=left, validate=False),
            preset=nncf.QuantizationPreset(preset),
            fast_bias_correction=fast_bias,
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )
    return save_openvino(model, path, metadata=metadata)


def module_of(node: Any) -> str:
    """The deepest module of DeployGraph that an operator belongs to; "" of the graph itself; of what an optimizer made
    anew, the model."""
    scope, _, operator = str(node.get_friendly_name()).partition("/")
    if scope.startswith("__module."):
        return scope.removeprefix("__module.")
    return "" if operator else NET
