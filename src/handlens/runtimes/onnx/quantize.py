"""int8 for ONNX Runtime: static quantization with QuantizeLinear and DequantizeLinear around each operator."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.files import atomic_path
from handlens.reporter import errors_alone
from handlens.runtimes.names import INPUT
from handlens.runtimes.onnx.convert import set_metadata
from handlens.runtimes.onnx.scopes import nodes_in_float

OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Clip", "ReduceMean", "GlobalAveragePool", "Concat", "MaxPool", "Relu"]


def quantize_onnx(
    whole: Path,
    path: Path,
    *,
    images: NDArray[np.uint8],
    keep_float: Sequence[str] = (),
    metadata: dict[str, Any],
    reduce_range: bool = False,
    unsigned_weights: bool = False,
) -> Path:
    """Write the int8 form of an .onnx file: weights per channel, activations unsigned.

    Args:
        whole: the float32 file.
        images: (N, height, width, C) uint8, what activations are calibrated with.
        keep_float: modules of the model that are not quantized.
        reduce_range: weights of 7 bits. unsigned_weights: uint8 in place of int8.

    Raises:
        InputError: the extra `onnx` is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise InputError("int8 for ONNX needs more packages: pip install 'handlens[onnx]'.") from None

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None]}

    with errors_alone(""), tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        left = nodes_in_float(graph, keep_float)
        quantize_static(
            str(prepared),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8 if unsigned_weights else QuantType.QInt8,
            reduce_range=reduce_range,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=left,
        )
        model = onnx.load(str(made))
    set_metadata(model, metadata)
    with atomic_path(path) as temporary:
        onnx.save_model(model, str(temporary), save_as_external_data=False)
    return path
