"""Graph models of TensorFlow.js, read without TensorFlow.

A graph model is model.json, which lists name, shape and type of every tensor, and shards of their bytes in that order.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError

Tensors = dict[str, NDArray[Any]]


def read_tensors(archive: Path) -> Tensors:
    """Every constant of the graph model in an npm package, by name.

    Raises:
        InputError: not such a package, or its shards do not have the bytes that model.json promises.
    """
    try:
        with tarfile.open(archive) as package:
            names = package.getnames()
            model = next((PurePosixPath(name) for name in names if PurePosixPath(name).name == "model.json"), None)
            if model is None:
                raise InputError(f"{archive} has no model.json: it is not a package with a TensorFlow.js model.")
            manifest = json.loads(_content(package, model))["weightsManifest"]
            return {
                name: values
                for group in manifest
                for name, values in _split(group, b"".join(_content(package, model.parent / p) for p in group["paths"]))
            }
    except (tarfile.TarError, EOFError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{archive} is not a complete package with a TensorFlow.js model: {error}.") from None


def _content(package: tarfile.TarFile, name: PurePosixPath) -> bytes:
    file = package.extractfile(str(name))
    if file is None:
        raise ValueError(f"{name} is not a file")
    return file.read()


def _split(group: dict[str, Any], content: bytes) -> list[tuple[str, NDArray[Any]]]:
    found, start = [], 0
    for entry in group["weights"]:
        kind = {"float32": "<f4", "int32": "<i4"}[entry["dtype"]]
        count = int(np.prod(entry["shape"], dtype=int))
        found.append((entry["name"], np.frombuffer(content, kind, count, start).reshape(entry["shape"])))
        start += 4 * count
    if start != len(content):
        raise ValueError(f"{len(content)} bytes of weights where model.json has {start}")
    return found
