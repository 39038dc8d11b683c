"""Quantize a .tflite file to int8, in the converter's environment: quantize_int8.py SOURCE FILE SAMPLES [uint8]."""

import logging
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import flatbuffers  # noqa: E402
import numpy as np  # noqa: E402
from ai_edge_litert import schema_py_generated as schema  # noqa: E402
from ai_edge_quantizer import quantizer, recipe  # noqa: E402

source, destination, samples, *wanted = sys.argv[1:]
made = quantizer.Quantizer(source)
made.load_quantization_recipe(recipe.static_wi8_ai8())
ranges = made.calibrate({"serving_default": [{"images": image[None]} for image in np.load(samples)]})
made.quantize(ranges).export_model(destination, overwrite=True)
content = Path(destination).read_bytes()
model = schema.ModelT.InitFromPackedBuf(content, 0)
for buffer in model.buffers:  # weights lie behind the flatbuffer, where TFLite Micro does not look
    if buffer.offset:
        buffer.data = np.frombuffer(content[buffer.offset : buffer.offset + buffer.size], dtype=np.uint8)
        buffer.offset = buffer.size = 0
if "uint8" in wanted:  # the first operator makes int8 of it; the input stays the first tensor, as planners expect
    graph = model.subgraphs[0]
    (number,) = graph.inputs
    image, inside = graph.tensors[number], schema.TensorT()
    inside.shape, inside.type, inside.quantization = image.shape, image.type, image.quantization
    inside.buffer, inside.name = 0, b"images_int8"
    image.type, image.quantization = schema.TensorType.UINT8, schema.QuantizationParametersT()
    image.quantization.scale = inside.quantization.scale
    image.quantization.zeroPoint = inside.quantization.zeroPoint + 128
    for operator in graph.operators:
        operator.inputs = np.where(operator.inputs == number, len(graph.tensors), operator.inputs).astype(np.int32)
    code, first = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 2
    first.opcodeIndex = len(model.operatorCodes)
    first.inputs, first.outputs = np.array([number], dtype=np.int32), np.array([len(graph.tensors)], dtype=np.int32)
    graph.tensors.append(inside)
    model.operatorCodes.append(code)
    graph.operators.insert(0, first)
builder = flatbuffers.Builder(len(content))
builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
Path(destination).write_bytes(bytes(builder.Output()))
