"""Labels by a rule on the file's name: cat.0.jpg, dog_017.png; also below train/, val/ and test/."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found, assemble
from handlens.data.formats.split_names import split_of
from handlens.data.listing import LeftAside, Tree
from handlens.data.record import Dataset, Split, nfc
from handlens.errors import InputError

FORMAT = "filename"
# The rule that is guessed: a name, a separator or none, a number.
GUESS = r"^(?P<label>.*[^\d\s._-])[\s._-]*\d+$"
# What cameras and programs write in front of a number says nothing about the image.
NO_LABELS = frozenset(
    {
        "img",
        "image",
        "dsc",
        "dscn",
        "dscf",
        "pxl",
        "mvimg",
        "gopr",
        "vid",
        "pic",
        "picture",
        "photo",
        "frame",
        "scan",
        "screenshot",
        "untitled",
        "file",
        "sample",
        "p",
    }
)


def recognize(path: Path) -> bool:
    """Whether all names fit the guessed rule and give two classes of two images or more."""
    return bool(_guessed(Tree(path), path, aside=None)[0])


def read(path: Path, config: DataConfig) -> Dataset:
    """With `label_pattern` all images below the folder; without, those that the guessed rule fits.

    Raises:
        InputError: names that do not fit the pattern; no pattern and nothing to guess.
    """
    aside = LeftAside()
    tree = Tree(path, ignore=tuple(config.ignore))
    if config.label_pattern is None:
        found, notes = _guessed(tree, path, aside=aside)
        if not found:
            raise InputError(
                f"the file names in {path} show no pattern; set label_pattern in handlens.yaml, "
                r"for example (?P<label>[^.]+)\.\d+"
            )
        return assemble(path, format=FORMAT, found=found, config=config, notes=[*notes, *aside.notes()])

    pattern = re.compile(config.label_pattern)
    found, misfits = [], []
    for image in tree.images(path, aside=aside):
        match = pattern.search(image.stem)
        if match and match["label"]:
            found.append(Found(path=image, label=match["label"], split=_split(tree, image)))
        else:
            misfits.append(tree.id(image))
    if misfits:
        raise InputError(
            f"{len(misfits)} file names do not match label_pattern {config.label_pattern!r}, for example {misfits[0]!r}"
            "; change the pattern, or list them under ignore in handlens.yaml."
        )
    return assemble(path, format=FORMAT, found=found, config=config, notes=aside.notes())


def _guessed(tree: Tree, root: Path, *, aside: LeftAside | None) -> tuple[list[Found], list[str]]:
    """Images and notes; no images where the rule does not fit. Parts where it fits no name are skipped."""
    parts: list[tuple[Path, Split | None]] = [(root, None)]
    parts += [(sub, split_of(sub.name)) for sub in tree.folders(root) if split_of(sub.name) is not None]
    found: list[Found] = []
    notes: list[str] = []
    for part, split in parts:
        images = list(tree.files(part, aside=aside))
        labels = [_label(image) for image in images]
        if all(label is None for label in labels):
            if images:
                notes.append(f"skipped, names without a label: {len(images)} in {part.name}")
        elif None in labels:
            return [], []
        else:
            found += [Found(path=p, label=label, split=split) for p, label in zip(images, labels, strict=True)]
    counts = Counter(nfc(item.label) for item in found if item.label is not None)
    if len(counts) < 2 or min(counts.values()) < 2:
        return [], []
    return found, [f"labels guessed from file names: {', '.join(sorted(counts)[:10])}", *notes]


def _label(image: Path) -> str | None:
    match = re.match(GUESS, image.stem)
    return match["label"] if match and match["label"].lower() not in NO_LABELS else None


def _split(tree: Tree, image: Path) -> Split | None:
    """By the folder just below the root."""
    parts = tree.id(image).split("/")
    return split_of(parts[0]) if len(parts) > 1 else None
