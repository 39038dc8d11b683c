"""Where fetched weights are kept, and which of the published ones are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handlens.files import cache_folder
from handlens.weights.sources import SOURCES


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
