"""The images on a classifier's report: those to look at first, and those behind the cells of the confusion
matrix."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from handlens.data.decode import UnreadableImageError, decode
from handlens.drawing import fitted
from handlens.evaluation.report import Example, Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlens.tasks.pieces import HeatMaps

LARGE, SMALL = 160, 112  # pixels of the longer side
QUALITY = 82
# Our choices: a page of 814 photographs stays below 6 MB. What does not fit is counted.
WRONG_BYTES, RIGHT_BYTES = 1_600_000, 600_000
RIGHT_OF_A_CLASS = 12


@dataclass(frozen=True)
class Cell:
    """The images of one true class that were predicted as one class.

    Attributes:
        truth, predicted: class indices.
        count: of all images.
        examples: those that are shown.
    """

    truth: int
    predicted: int
    count: int
    examples: list[Example]


def large_examples(
    entries: Sequence[Mapping[str, Any]], paths: Mapping[str, Path], names: Sequence[str], heat: HeatMaps | None
) -> list[Example]:
    """
    Args:
        entries: as `evaluation.errors.ranked` gives them.
        paths: of images, by id.
        heat: beside each image what speaks for the predicted class and, where it is another, for the true one.
    """
    wanted = [
        [entry["predicted"]] if entry["predicted"] == entry["label"] else [entry["predicted"], entry["label"]]
        for entry in entries
    ]
    asked = [(paths[entry["id"]], index) for entry, indices in zip(entries, wanted, strict=True) for index in indices]
    maps: Iterator[NDArray[np.uint8] | None] = iter(()) if heat is None else heat.pictures(asked)
    found = []
    for entry, indices in zip(entries, wanted, strict=True):
        pictures = _image(paths[entry["id"]], LARGE)
        for index in indices if heat is not None else ():
            drawn = next(maps)
            if drawn is not None:
                pictures.append(_picture(drawn, LARGE, f"what speaks for {names[index]}"))
        found.append(_example(entry, names, pictures))
    return found


def cells(
    ranked: Mapping[str, Sequence[Mapping[str, Any]]],
    paths: Mapping[str, Path],
    names: Sequence[str],
    *,
    pairs: Container[tuple[int, int]] | None,
) -> list[Cell]:
    """Of pairs of classes that have images; of wrong ones the most confident first, of right ones the least.

    Args:
        ranked: as `evaluation.errors.ranked` gives it.
        pairs: that the page leads to; None is all.
    """
    counts: dict[tuple[int, int], int] = {}
    shown: dict[tuple[int, int], list[Example]] = {}
    for kind, budget in (("wrong", WRONG_BYTES), ("right", RIGHT_BYTES)):
        for entry in ranked[kind]:
            place = entry["label"], entry["predicted"]
            if pairs is not None and place not in pairs:
                continue
            counts[place] = counts.get(place, 0) + 1
            examples = shown.setdefault(place, [])
            if budget <= 0 or (kind == "right" and len(examples) == RIGHT_OF_A_CLASS):
                continue
            pictures = _image(paths[entry["id"]], SMALL)
            budget -= sum(len(picture.content) for picture in pictures)
            examples.append(_example(entry, names, pictures))
    return [Cell(*place, counts[place], shown[place]) for place in sorted(counts)]


def _example(entry: Mapping[str, Any], names: Sequence[str], pictures: Sequence[Picture]) -> Example:
    wrong = entry["predicted"] != entry["label"]
    predicted, truth = f"{names[entry['predicted']]} {100 * entry['confidence']:.0f} %", f"is {names[entry['label']]}"
    return Example(entry["id"], (predicted, truth) if wrong else (predicted,), tuple(pictures), wrong)


def _image(path: Path, side: int) -> list[Picture]:
    """Empty where the file cannot be read any more: its name and what was predicted are shown all the same."""
    try:
        return [_picture(decode(path, at_least=(side, side)), side, "the image")]
    except UnreadableImageError:
        return []


def _picture(image: NDArray[np.uint8], side: int, title: str) -> Picture:
    buffer = BytesIO()
    Image.fromarray(fitted(image, side)).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return Picture(buffer.getvalue(), title)
