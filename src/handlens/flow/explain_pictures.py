"""What explain writes: a picture per image, or one of all channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlens.flow.explain import Activations, Explanation, FilterImages

SHOWN = 64  # channels of a layer


def write_explanations(
    found: Iterable[list[Explanation]], folder: Path
) -> Iterator[tuple[Path | None, list[Explanation]]]:
    """One picture per image: the image as the model was given it, and each heat map beside it.

    Yields:
        the file, None of an image in which there is nothing to explain; what it shows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for explanations in found:
        file = None
        if explanations:
            first = explanations[0]
            file = _save(
                [first.image, *(one.picture() for one in explanations)],
                [f"{first.path.name}\n{first.method}", *(one.title for one in explanations)],
                folder,
                first.path,
            )
        yield file, explanations


def write_activations(found: Iterable[Activations], folder: Path) -> Iterator[tuple[Path, Activations]]:
    """One picture per image: the image, and its strongest channels."""
    from handlens.explanation.pictures import channel_pictures

    folder.mkdir(parents=True, exist_ok=True)
    for one in found:
        order = one.order[:SHOWN]
        captions = [f"{channel}: {one.maps[channel].max():.3g}" for channel in order]
        shown = f"{len(order)} of {len(one.maps)} channels: largest value"
        pictures = [one.image, *channel_pictures(one.maps, order)]
        yield _save(pictures, [f"{one.path.name}\n{one.layer}\n{shown}", *captions], folder, one.path, tile=96), one


def write_filters(found: FilterImages, folder: Path) -> Path:
    """One picture with all channels."""
    folder.mkdir(parents=True, exist_ok=True)
    values = [""] * len(found.channels) if found.values is None else [f": {value:.3g}" for value in found.values]
    captions = [f"{channel}{value}" for channel, value in zip(found.channels, values, strict=True)]
    return _save(list(found.images), captions, folder, Path(f"{found.layer}-filters.png"), sharp=found.values is None)


def _save(
    pictures: list[NDArray[np.uint8]],
    captions: list[str],
    folder: Path,
    name: Path,
    *,
    tile: int = 224,
    sharp: bool = False,
) -> Path:
    """
    Args:
        name: of a file whose stem the picture bears.
        sharp: enlarged without blurring: a kernel has few pixels.
    """
    from PIL import Image

    from handlens.evaluation.contact_sheet import contact_sheet
    from handlens.files import atomic_path
    from handlens.tasks.sinks import new_name

    if sharp:
        pictures = [one.repeat(tile // 4 // len(one), axis=0).repeat(tile // 4 // len(one), axis=1) for one in pictures]
        tile = tile // 4
    path = new_name(folder, name, suffix=".png")
    with atomic_path(path) as temporary:
        Image.fromarray(contact_sheet(pictures, captions, tile=tile)).save(temporary, "PNG")
    return path
