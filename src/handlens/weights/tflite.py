"""Constants of a TensorFlow Lite file, read without TensorFlow.

The file is a FlatBuffer: tables whose fields are found through a list of offsets. Only what leads to the constants is
read. Source: the FlatBuffers page "Internals", and TensorFlow's schema.fbs for the numbers of the fields.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.reading.files import read_bytes

Constants = dict[str, NDArray[np.float32]]

IDENTIFIER = b"TFL3"
# Fields by their number in schema.fbs.
MODEL_SUBGRAPHS, MODEL_BUFFERS = 2, 4
SUBGRAPH_TENSORS = 0
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 0, 1, 2, 3
BUFFER_DATA = 0
FLOAT32 = 0  # also what a missing type means


def read_constants(file: Path) -> Constants:
    """Every float32 constant of the first graph, by name.

    Raises:
        InputError: not a whole TensorFlow Lite file.
    """
    content = read_bytes(file, "weights")
    if content[4:8] != IDENTIFIER:
        raise InputError(f"{file} is not a TensorFlow Lite file: it does not begin with {IDENTIFIER.decode()}.")
    try:
        model = _follow(content, 0)
        buffers = _tables(content, _field(content, model, MODEL_BUFFERS))
        graph = _tables(content, _field(content, model, MODEL_SUBGRAPHS))[0]
        found = {}
        for tensor in _tables(content, _field(content, graph, SUBGRAPH_TENSORS)):
            kind = _field(content, tensor, TENSOR_TYPE)
            number = _field(content, tensor, TENSOR_BUFFER)
            data = _field(content, buffers[_number(content, number) if number else 0], BUFFER_DATA)
            if data is None or (kind is not None and content[kind] != FLOAT32):
                continue  # made while the graph runs, or of another type
            name = _vector(content, _field(content, tensor, TENSOR_NAME), "u1").tobytes().decode()
            shape = _vector(content, _field(content, tensor, TENSOR_SHAPE), "<i4")
            found[name] = _vector(content, data, "u1").view("<f4").reshape(shape)
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(f"{file} is not a complete TensorFlow Lite file: {error}.") from None
    return found


def _number(content: bytes, position: int) -> int:
    return int(struct.unpack_from("<I", content, position)[0])


def _follow(content: bytes, position: int) -> int:
    """Where the thing lies that is pointed at from here."""
    return position + _number(content, position)


def _field(content: bytes, table: int, number: int) -> int | None:
    """Where a table has its field, or None where it has none."""
    offsets = table - int(struct.unpack_from("<i", content, table)[0])
    size = int(struct.unpack_from("<H", content, offsets)[0])
    place = 4 + 2 * number  # behind two sizes
    offset = int(struct.unpack_from("<H", content, offsets + place)[0]) if place < size else 0
    return table + offset if offset else None


def _vector(content: bytes, field: int | None, kind: str) -> NDArray[np.generic]:
    """The numbers of a vector; none where the field is missing."""
    if field is None:
        return np.zeros(0, kind)
    start = _follow(content, field)
    return np.frombuffer(content, kind, _number(content, start), start + 4)


def _tables(content: bytes, field: int | None) -> list[int]:
    """Where the tables of a vector of tables lie."""
    if field is None:
        return []
    start = _follow(content, field) + 4
    return [_follow(content, start + 4 * number) for number in range(_number(content, start - 4))]
