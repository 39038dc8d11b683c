"""Images that int8 is calibrated with, and learns from: of the training split, never those that judge it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from handlens.data import open_dataset, walk
from handlens.data.decode import UnreadableImageError, decode
from handlens.errors import InputError
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
CALIBRATION = 128  # images


def calibration_images(run: Run, folder: Path | str | None, *, count: int = CALIBRATION) -> NDArray[np.uint8]:
    """(N, height, width, C) uint8, at most so many images: of a folder, or of the run's training split.

    Never of its validation or test images.

    Raises:
        InputError: there are none, or none can be read.
    """
    paths = _training_images(run, count) if folder is None else list(_spread(list(walk([Path(folder)])), count))
    found: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            found.append(run.preprocess.pixels(decode(path)))
        except UnreadableImageError:  # check names them
            continue
    if not found:
        raise InputError(f"{folder or run.folder} has no images to calibrate int8 with; give some with --calibrate.")
    return np.stack(found)


def _training_images(run: Run, count: int) -> list[Path]:
    """Spread evenly over the classes, where an image has one, and within each."""
    trained_on = run.model.data
    if trained_on is None or not run.has_images:
        raise InputError(
            f"int8 is calibrated on training images, and those of {run.folder.name} are not here; give images that are "
            "like them with --calibrate FOLDER."
        )
    started = run.started()
    dataset = open_dataset(Path(trained_on.root), format=started["format"], config=run.config(), task=run.task)
    training = set(started["splits"].get("train", ()))
    of_class: dict[Any, list[Path]] = defaultdict(list)
    for record in dataset.records:
        if record.id in training:
            of_class[record.label if isinstance(record.label, int) else None].append(record.path)
    classes = list(_spread(list(of_class.values()), count))
    each = -(-count // max(1, len(classes)))
    rounds = zip_longest(*(_spread(paths, each) for paths in classes))
    return [path for paths in rounds for path in paths if path is not None][:count]


def _spread(items: Sequence[T], count: int) -> Iterator[T]:
    """At most so many of them, evenly."""
    return (items[int(i)] for i in np.linspace(0, len(items) - 1, min(count, len(items))))
