"""int8 for OpenVINO, by nncf."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.runtimes.openvino.convert import save_openvino
from handlens.runtimes.openvino.engine import import_openvino


def quantize_openvino(
    source: Path,
    path: Path,
    *,
    images: NDArray[np.uint8],
    metadata: dict[str, Any],
    preset: str = "mixed",
    fast_bias: bool = True,
) -> Path:
    """Write the int8 form of an OpenVINO model.

    Args:
        images: (N, height, width, C) uint8, what activations are calibrated with.
        preset: "mixed" or "performance". fast_bias: biases are corrected without running the model layer by layer.

    Raises:
        InputError: the extra `int8` is not installed.
    """
    ov = import_openvino()  # without its usage statistics, which nncf shares
    try:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    except ImportError:
        raise InputError("int8 for OpenVINO needs more packages: pip install 'handlens[int8]'.") from None
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars of its own
        model = nncf.quantize(
            ov.Core().read_model(source),
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset(preset),
            fast_bias_correction=fast_bias,
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )
    return save_openvino(model, path, metadata=metadata)
