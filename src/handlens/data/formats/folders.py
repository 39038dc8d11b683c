"""A folder per class, below train/, val/ and test/ or without them.

Also what archives make of it: a folder inside a folder of the same name (seg_train/seg_train/...), one folder
around everything, names such as training_set, images nested below the class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found, assemble
from handlens.data.formats.label_files import IMAGE_FOLDERS
from handlens.data.formats.split_names import companion_of, split_of
from handlens.data.listing import LeftAside, Tree
from handlens.data.record import Dataset, Split
from handlens.errors import InputError

FORMAT = "folders"

COMPANIONS = frozenset(
    {
        "mask",
        "masks",
        "label",
        "labels",
        "annotation",
        "annotations",
        "segmentationclass",
        "segmentationobject",
    }
)


@dataclass
class Layout:
    """Where the class folders are."""

    parents: list[tuple[Path, Split | None]]  # folders whose subfolders are classes
    notes: list[str] = field(default_factory=list)


def recognize(path: Path) -> bool:
    tree = Tree(path)
    return _layout(tree, path) is not None


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: there are no class folders with images.
    """
    aside = LeftAside()
    tree = Tree(path, ignore=tuple(config.ignore))
    layout = _layout(tree, path)
    if layout is None:
        raise InputError(f"{path} has no class folders with images; make one folder per class.")
    found: list[Found] = []
    outside: list[str] = []
    empty: list[str] = []
    for parent, split in layout.parents:
        outside += [tree.id(image) for image in tree.files(parent, aside=aside)]
        for folder in tree.folders(parent):
            images = list(tree.images(folder, aside=aside))
            found += [Found(path=image, label=folder.name, split=split) for image in images]
            if not images:
                empty.append(tree.id(folder))
    if outside:
        layout.notes.append(f"skipped, outside the class folders: {_named(outside)}")
    if empty:
        layout.notes.append(f"folders without an image, not classes: {_named(empty)}")
    return assemble(path, format=FORMAT, found=found, config=config, notes=[*layout.notes, *aside.notes()])


def _layout(tree: Tree, folder: Path) -> Layout | None:
    holding = [sub for sub in tree.folders(folder) if tree.has_images(sub)]
    names = {sub.name.lower() for sub in holding}
    if any((companion_of(sub.name) or "").lower() in names for sub in holding):  # trainannot beside train
        return None
    named = [sub for sub in holding if split_of(sub.name) is not None]
    splits = [(inner, split_of(sub.name)) for sub in named if _holds_classes(tree, inner := _inner(tree, sub))]
    others = [sub for sub in holding if sub not in named]
    one_word_among_classes = len(named) == 1 and len(others) >= 2 and any(_files(tree, sub) for sub in others)
    if splits and not one_word_among_classes:
        taken = {parent for parent, _ in splits}
        left = [tree.id(sub) for sub in holding if _inner(tree, sub) not in taken]
        notes = [f"skipped, contains no class folders: {_named(left)}"] if left else []
        doubled = [tree.id(parent) for parent, _ in splits if parent.parent != folder]
        notes += [f"class folders found one level deeper, in {_named(doubled)}"] if doubled else []
        return Layout(splits, notes)
    if named and not others:  # train/ and test/ full of images: parts without classes
        return None
    if len(holding) >= 2 and _for_another_task(holding):
        return None
    if len(holding) == 1:
        return _single(tree, folder, holding[0])
    return Layout([(folder, None)]) if holding else None


def _single(tree: Tree, folder: Path, only: Path) -> Layout | None:
    """One folder with images: a wrapper around the data, a heap without labels, or a data set of one class."""
    if not _files(tree, only):
        layout = _layout(tree, only)
        if layout is not None:
            layout.notes.insert(0, f"using the only folder with images, {tree.id(only)}")
        return layout
    if only.name.lower() in IMAGE_FOLDERS or _files(tree, folder):
        return None
    return Layout([(folder, None)])


def _inner(tree: Tree, folder: Path) -> Path:
    """The folder itself, or the only one in it where an archive doubled the name."""
    holding = [sub for sub in tree.folders(folder) if tree.has_images(sub)]
    if len(holding) == 1 and not _files(tree, folder):
        only = holding[0]
        if only.name.lower() == folder.name.lower() or split_of(only.name) == split_of(folder.name) is not None:
            return _inner(tree, only)
    return folder


def _holds_classes(tree: Tree, folder: Path) -> bool:
    """Two folders with images, or one and no image beside it."""
    holding = [sub for sub in tree.folders(folder) if tree.has_images(sub)]
    if not holding or _for_another_task(holding):
        return False
    return len(holding) >= 2 or not _files(tree, folder)


def _for_another_task(holding: list[Path]) -> bool:
    """images/ and masks/, images/ beside labels/ full of text: no classes."""
    return all(sub.name.lower() in IMAGE_FOLDERS | COMPANIONS for sub in holding)


def _files(tree: Tree, folder: Path) -> bool:
    return next(tree.files(folder), None) is not None


def _named(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
