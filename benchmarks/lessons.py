"""Every classifier is trained from scratch on handwritten digits, to check that it learns.

The digits are scikit-learn's: 1,797 scans of 8 x 8 (Alpaydin and Kaynak 1998, Optical Recognition of Handwritten
Digits), upscaled to 28 x 28. A stratified random fifth is the test split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Lesson(NamedTuple):
    """
    Attributes:
        at_least: share of the test digits that the net gets right.
        size: side of what it is fed, pixels; small, so that it ends in seconds to minutes on two cores.
        options: of the net. SMALL_HEAD: 256 units per dense layer where the paper has 4096, which would take all the
            time.
    """

    at_least: float
    size: int
    epochs: int
    learning_rate: float
    options: dict[str, Any] | None = None


# Of every lesson. No mirror images: a 2 is none of a digit's.
LESSON = {
    "mode": "scratch",
    "optimizer": "adam",
    "weight_decay": 0.0,
    "label_smoothing": 0.1,
    "batch_size": 64,
    "validation": 0.1,
    "dropout": 0.0,
    "augment": {"flip": 0.0, "crop_area": 0.7, "color": 0.0},
}

SMALL_HEAD = {"hidden": 256}
LESSONS = {
    "lenet5": Lesson(0.985, 28, 50, 5e-3),
    "dense": Lesson(0.9, 28, 20, 3e-3),
    "lenet_color": Lesson(0.9, 32, 8, 1e-3),
    "alexnet": Lesson(0.9, 64, 8, 5e-4, SMALL_HEAD),
    "vgg11": Lesson(0.9, 32, 10, 5e-4, SMALL_HEAD),
    "vgg11_bn": Lesson(0.9, 32, 4, 5e-4, SMALL_HEAD),
    "vgg13": Lesson(0.9, 32, 10, 5e-4, SMALL_HEAD),
    "vgg13_bn": Lesson(0.9, 32, 4, 5e-4, SMALL_HEAD),
    "vgg16": Lesson(0.9, 32, 12, 3e-4, SMALL_HEAD),
    "vgg16_bn": Lesson(0.9, 32, 4, 5e-4, SMALL_HEAD),
    "vgg19": Lesson(0.9, 32, 14, 3e-4, SMALL_HEAD),
    "vgg19_bn": Lesson(0.9, 32, 4, 5e-4, SMALL_HEAD),
    "googlenet": Lesson(0.9, 64, 5, 1e-3),
    "resnet18": Lesson(0.9, 32, 4, 1e-3),
    "resnet34": Lesson(0.9, 32, 6, 1e-3),
    "resnet50": Lesson(0.9, 32, 8, 1e-3),
    "resnet101": Lesson(0.9, 32, 12, 1e-3),
    "resnet152": Lesson(0.9, 32, 14, 1e-3),
    "mobilenet_v1": Lesson(0.9, 64, 8, 2e-3),
    "mobilenet_v1_mnist": Lesson(0.9, 12, 10, 3e-4),
    "mobilenet_v2": Lesson(0.9, 64, 6, 2e-3),
    "efficientnet_lite0": Lesson(0.9, 64, 10, 2e-3),
    "simple_convnet": Lesson(0.9, 80, 12, 1e-3),
    "residual_convnet": Lesson(0.9, 32, 6, 2e-3),
    "mini_xception": Lesson(0.9, 64, 6, 1e-3),
    "xception": Lesson(0.9, 71, 10, 1e-3),
}


def write_digits(folder: Path, *, seed: int = 0) -> None:
    """train/ and test/ with a folder per digit; a stratified random fifth is the test, by the seed."""
    from sklearn.datasets import load_digits

    found, rng = load_digits(), np.random.default_rng(seed)
    for label in range(10):
        places = rng.permutation(np.flatnonzero(found.target == label))
        test = round(0.2 * len(places))
        for part, chosen in (("test", places[:test]), ("train", places[test:])):
            (folder / part / str(label)).mkdir(parents=True)
            for place in chosen:
                image = Image.fromarray((found.images[place] * 255 / 16).round().astype(np.uint8))
                image.resize((28, 28), Image.Resampling.BICUBIC).save(folder / part / str(label) / f"{place}.png")


def recipe_of(name: str, *, seed: int = 0) -> dict[str, Any]:
    """What `handlens train --recipe` takes."""
    lesson = LESSONS[name]
    return LESSON | {
        "model": name,
        "image_size": lesson.size,
        "epochs": lesson.epochs,
        "learning_rate": lesson.learning_rate,
        "seed": seed,
        "options": lesson.options or {},
    }
