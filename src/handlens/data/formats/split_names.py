"""How people call the parts of a data set."""

from __future__ import annotations

import re

from handlens.data.record import Split

SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "valset": "validation",
    "test": "test",
    "testing": "test",
    "testset": "test",
}


COMPANION = re.compile(
    r"(train|training|val|valid|validation|test)[\s._-]?"
    r"(annot|annotations?|masks?|labels?|gt|ground_?truth|segmentations?)",
    re.IGNORECASE,
)


def companion_of(name: str) -> str | None:
    """The folder of images that a folder of labels is named after: trainannot, val_labels, "test masks"."""
    match = COMPANION.fullmatch(name)
    return match[1] if match else None


def split_of(name: str) -> Split | None:
    """The split that a folder's name stands for: train, Training_Set, seg_test, val2017; None for any other name."""
    words = [word.rstrip("0123456789") for word in re.split(r"[\s._-]+", name.lower())]
    for word in (words[0], words[-1]):
        if word in SPLIT_WORDS:
            return SPLIT_WORDS[word]
    return None
