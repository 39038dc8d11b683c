"""Quantize a .tflite file, without handlens: python quantizer_script.py SOURCE PIXELS.npy FILE OPTIONS.

PIXELS: (N, H, W, C) uint8, what activations are calibrated with. OPTIONS, as JSON: bits, 8, or 16, which only weights
get; of 8, ranges, "extremes" or "averaged", and in_float, regular expressions of scopes of operators that stay as they
are.
"""

import json
import logging
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import numpy as np  # noqa: E402 - the quantizer's advice is silenced first
from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, quantizer, recipe  # noqa: E402
from ai_edge_quantizer.utils import qsv_utils  # noqa: E402

source, pixels, destination, text = sys.argv[1:]
options = json.loads(text)
operation, none = qtyping.TFLOperationName, algorithm_manager.AlgorithmName.NO_QUANTIZE
work = quantizer.Quantizer(source)
if options["bits"] == 16:
    weights = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
    )
    casting = algorithm_manager.AlgorithmName.FLOAT_CASTING
    for kind in (
        operation.CONV_2D,
        operation.DEPTHWISE_CONV_2D,
        operation.CONV_2D_TRANSPOSE,
        operation.FULLY_CONNECTED,
    ):
        work.update_quantization_recipe(regex=".*", operation_name=kind, op_config=weights, algorithm_key=casting)
    work.quantize().export_model(destination)
    sys.exit()
work.load_quantization_recipe(recipe.static_wi8_ai8())
for kind in (operation.INPUT, operation.OUTPUT, operation.SOFTMAX, operation.LOGISTIC):
    work.update_quantization_recipe(regex=".*", operation_name=kind, algorithm_key=none)
for scope in options["in_float"]:
    work.update_quantization_recipe(regex=scope, operation_name=operation.ALL_SUPPORTED, algorithm_key=none)
update = {"extremes": qsv_utils.min_max_update, "averaged": qsv_utils.moving_average_update}
with open(source, "rb") as file:  # noqa: PTH123 - this script has no other need of pathlib
    measured = calibrator.Calibrator(file.read(), num_threads=1, qsv_update_func=update[options["ranges"]])
images = [{"images": image[None]} for image in np.load(pixels)]
measured.calibrate({"serving_default": images}, work._recipe_manager)
work.quantize(measured.get_model_qsvs()).export_model(destination)
