"""Images and masks: images/ beside masks/, below or above train/, val/, test/, or told by a suffix (a_mask.png).

The numbers in the masks are the class indices, unless `masks: values` or `masks: colors` in handlens.yaml says
otherwise; what was assumed is said in the notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from handlens.data.config import IGNORED, DataConfig, MaskFiles
from handlens.data.formats.assemble import Found, assemble_masks, named
from handlens.data.formats.class_names import listed_names, numbered_classes
from handlens.data.formats.label_files import (
    IMAGE_FOLDERS,
    all_or_none,
    images_below,
    in_folder,
    pair,
    split_by_folder,
    voc_folder,
)
from handlens.data.formats.split_names import companion_of
from handlens.data.labels.finding import Level
from handlens.data.labels.mask_files import MaskCoding, stored_numbers
from handlens.data.listing import Tree
from handlens.data.record import Dataset, Remark, nfc
from handlens.errors import InputError
from handlens.machine import cores
from handlens.palette import IGNORE

FORMAT = "masks"
MASK_FOLDERS = frozenset(
    {
        "mask",
        "masks",
        "label",
        "labels",
        "annotation",
        "annotations",
        "annot",
        "trimaps",
        "segmentation",
        "segmentations",
        "segmentationclass",
        "ground_truth",
        "groundtruth",
        "gt",
    }
)
SUFFIXES = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "-mask", "-seg")
PAIRED_SUFFIXES = (*SUFFIXES, "_L")  # CamVid's own, of files that their folder has shown to be masks
JPEG = (".jpg", ".jpeg")
MOST_NUMBERS = 64  # our choice: above this, masks without class names hold shades of gray rather than classes
LOOKED_AT = 20  # masks, to see whether their values number objects
STRAY = 0.01  # our choice: of the pixels of 255; other numbers on fewer are the soft edge of an outline


def recognize(path: Path) -> bool:
    """Whether a folder for images and one for masks hold pairs, or most images have a mask told by a suffix."""
    if (voc_folder(path) / "ImageSets" / "Segmentation").is_dir():  # voc-masks
        return False
    tree = Tree(path)
    if not any(_has_suffix(p) or _in_folder(tree, p, MASK_FOLDERS) for p in tree.images(path)):
        return False  # before a list of a million images is made
    images, masks = _told_apart(tree, path, list(tree.images(path)), MaskFiles.model_validate({}))
    pairs = pair(tree, images, masks, folders=MASK_FOLDERS, suffixes=PAIRED_SUFFIXES, guess=True)
    by_folder = any(
        _in_folder(tree, mask, MASK_FOLDERS)
        and (_in_folder(tree, image, IMAGE_FOLDERS) or _companions(tree, mask))
        # images/mask/1.jpg beside images/no_mask/1.jpg are two classes
        and (mask.suffix.lower() not in JPEG or image.parent.name.lower() in IMAGE_FOLDERS)
        for image, mask in pairs.pairs
    )
    by_suffix = sum(_has_suffix(mask) for _, mask in pairs.pairs)
    return by_folder or 2 * by_suffix > len(images) or (by_suffix > 1 and not pairs.files)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no pairs; two images of one stem; masks in colors without a list of colors; more numbers
            than classes.
    """
    stated = config.masks or MaskFiles.model_validate({})
    tree = Tree(path, ignore=tuple(config.ignore))
    for folder in (stated.images, stated.masks):
        if folder is not None and not (path / folder).is_dir():
            raise InputError(f"{path / folder} is not a folder; it is set under masks: in handlens.yaml.")
    everything, notes = images_below(tree, path, labels=())
    images, masks = _told_apart(tree, path, everything, stated)
    if stated.masks is None:
        _require_one_folder(tree, masks)
    suffixes = PAIRED_SUFFIXES if stated.suffix is None else (stated.suffix,)
    folders = MASK_FOLDERS | {
        part.lower() for folder in (stated.images, stated.masks) if folder for part in folder.split("/")
    }
    image_suffixes = () if stated.image_suffix is None else (stated.image_suffix,)
    pairs = pair(tree, images, masks, folders=folders, suffixes=suffixes, image_suffixes=image_suffixes)
    if not pairs.pairs:
        raise InputError(
            f"{path} has {len(images)} images and {len(masks)} masks, none of which share a name; put them into "
            f"images/ and masks/ as a.jpg and a.png, or give masks: in handlens.yaml."
        )
    if stated.images is not None:
        beside = sorted({*everything} - {*images, *masks})
        notes += [f"skipped, outside {stated.images}: {named([tree.id(p) for p in beside])}"] if beside else []
    said: list[str | Remark] = [*pairs.orphans(tree, what="a mask"), *notes]
    return from_pairs(path, pairs.pairs, format=FORMAT, config=config, notes=said)


def _require_one_folder(tree: Tree, masks: Sequence[Path]) -> None:
    """
    Raises:
        InputError: masks of the same names lie in two folders, masks/ and trimaps/.
    """
    stems: dict[str, set[str]] = {}
    for mask in masks:
        above = next((part for part in tree.id(mask).split("/")[:-1] if part.lower() in MASK_FOLDERS), None)
        if above is not None:
            stems.setdefault(above, set()).add(mask.stem)
    names = sorted(stems)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            if stems[name] & stems[other]:
                raise InputError(
                    f"{tree.root} has masks of the same images in {name} and in {other}; choose one with "
                    f"masks: {{masks: {name}}} in handlens.yaml, and list the other under ignore."
                )


def from_pairs(
    root: Path,
    pairs: Sequence[tuple[Path, Path]],
    *,
    format: str,
    config: DataConfig,
    notes: Sequence[str | Remark],
    names: Sequence[str] = (),
) -> Dataset:
    """
    Args:
        pairs: (image, mask).
        names: of the classes by number, where the data has no other; `class_names` in handlens.yaml goes before.

    Raises:
        InputError: the configuration and the masks disagree about the classes.
    """
    tree = Tree(root)
    found = [Found(path=p, label=m, split=split_by_folder(tree, p)) for p, m in pairs]
    all_or_none([item.split for item in found], str(root))
    class_names, coding, said = _coding([mask for _, mask in pairs], config, listed_names(config) or tuple(names))
    return assemble_masks(
        root, format=format, class_names=class_names, coding=coding, found=found, config=config, notes=[*notes, *said]
    )


def _told_apart(tree: Tree, root: Path, everything: list[Path], stated: MaskFiles) -> tuple[list[Path], list[Path]]:
    """Images and masks."""
    images = root / stated.images if stated.images else root
    if stated.masks is not None:
        ending = (stated.suffix or "").lower()
        masks = [p for p in everything if p.is_relative_to(root / stated.masks) and p.stem.lower().endswith(ending)]
    else:
        among = [path for path in everything if not stated.suffix or path.is_relative_to(images)]
        masks = [path for path in among if _in_folder(tree, path, MASK_FOLDERS)]
        if not masks:
            suffixes = SUFFIXES if stated.suffix is None else (stated.suffix,)
            masks = [path for path in among if path.stem.lower().endswith(tuple(s.lower() for s in suffixes))]
    taken = set(masks)
    return [path for path in everything if path not in taken and path.is_relative_to(images)], masks


def _in_folder(tree: Tree, path: Path, folders: frozenset[str]) -> bool:
    return in_folder(tree, path, folders) or (folders is MASK_FOLDERS and _companions(tree, path))


def _companions(tree: Tree, mask: Path) -> bool:
    """Whether it lies in a folder named after another, as trainannot after train."""
    return any(companion_of(part) for part in tree.id(mask).split("/")[:-1])


def _has_suffix(path: Path) -> bool:
    return path.stem.lower().endswith(SUFFIXES)


def _coding(
    masks: Sequence[Path], config: DataConfig, names: tuple[str, ...]
) -> tuple[tuple[str, ...], MaskCoding, list[str | Remark]]:
    """Class names, what the masks' numbers or colors stand for, and notes."""
    stated = config.masks or MaskFiles.model_validate({})
    if stated.colors and not stated.objects:
        return _of_colors(stated, names)
    ignored = {stored for stored, index in stated.values.items() if index == IGNORED}
    values = {stored: index for stored, index in stated.values.items() if isinstance(index, int)}
    by_name = {stored: nfc(name) for stored, name in stated.values.items() if isinstance(name, str) and name != IGNORED}
    if by_name:
        names = names or tuple(dict.fromkeys(by_name[stored] for stored in sorted(by_name)))
        strange = sorted({*by_name.values()} - {*names})
        if strange:
            raise InputError(f"masks: values names {named(strange)}, not among class_names in handlens.yaml.")
        return _named(names, {stored: names.index(name) for stored, name in by_name.items()}, ignored, [], config)
    if stated.objects:
        if names and len(names) != 2:
            raise InputError(
                f"masks: objects needs two class_names, background and the kind of the objects, got {len(names)}."
            )
        if values or stated.colors:
            raise InputError(
                "masks: objects in handlens.yaml makes all values one class; omit other values and colors."
            )
        skipped = ignored | {IGNORE}
        one = {0: 0} | {number: 1 for number in range(1, 65536) if number not in skipped}
        return _named(names or ("background", "object"), one, skipped, [], config)
    if values:
        names = names or tuple(str(index) for index in range(max(values.values()) + 1))
        moved = [f"{stored} is {index}" for stored, index in sorted(values.items()) if stored != index]
        said = [f"pixel values in masks: {', '.join(moved)}"] if moved else []
        if max(values.values()) >= len(names):
            raise InputError(f"masks: values names class {max(values.values())}, and class_names has {len(names)}.")
        return _named(names, values, ignored, said, config)
    if names and (len(names) != 2 or ignored):
        kept = [number for number in range(len(names) + len(ignored)) if number not in ignored][: len(names)]
        if kept != list(range(len(names))):
            raise InputError(
                f"masks: values ignores {sorted(ignored)}, indices of class_names; map every value to its class."
            )
        return _named(names, {n: n for n in kept}, ignored | {IGNORE}, [], config)

    counts = _found(masks)
    numbers = set(counts)
    between = numbers - ignored - {0, IGNORE}
    soft = sum(counts[number] for number in between) < STRAY * counts[IGNORE]
    if {0, IGNORE} <= numbers - ignored and (not between or (soft and not (names and between == {1}))):
        said = ["masks contain 0 and 255, read as classes 0 and 1"]
        if between:
            said.append(f"other values in a few pixels, as from soft edges: {named([str(n) for n in sorted(between)])}")
        return _named(names or ("0", "1"), {0: 0, 255: 1}, ignored, said, config)
    if names:
        return _named(names, {0: 0, 1: 1}, ignored | {IGNORE}, [], config)
    kept = sorted(numbers - ignored - {IGNORE})
    if not kept:
        raise InputError(f"the {len(masks)} masks contain only ignored pixels; set masks: values in handlens.yaml.")
    if len(kept) > MOST_NUMBERS:
        raise InputError(
            f"the masks contain {len(kept)} different values ({kept[0]} to {kept[-1]}), like shades of gray; set "
            f"class_names or masks: values in handlens.yaml."
        )
    notes: list[str | Remark] = [
        f"classes are named after the values in {len(masks)} masks; set class_names in handlens.yaml to name them"
    ]
    if kept == [1, 2, 3]:
        notes.append(_look_like("a trimap", "{values: {1: object, 2: background, 3: ignore}}"))
    if kept == [0, 1]:
        notes.append(
            _look_like("one kind of object and background", "{values: {0: background, 1: object}}", level="note")
        )
    if number_objects(masks):
        raise InputError(
            f"the {len(masks)} masks seem to number the objects of one kind (1 to {kept[-1]}, a connected area each), "
            "and would become as many classes. For one class, set masks: {objects: true} in handlens.yaml; objects "
            "cannot be told apart yet. If they are classes, name them with class_names."
        )
    classes = tuple(map(str, kept))
    return _named(classes, {n: i for i, n in enumerate(kept)}, ignored | ({IGNORE} & numbers), notes, config)


def number_objects(masks: Sequence[Path]) -> bool:
    """Whether the values of masks seem to be numbers of objects: in each mask 1 to n without a gap, n differs from mask
    to mask, and what has one value is one connected area."""
    import cv2  # takes a while, and is rarely needed

    counts, areas, whole = set(), 0, 0
    for path in masks[:: max(1, len(masks) // LOOKED_AT)][:LOOKED_AT]:
        try:
            stored = stored_numbers(path)
        except InputError:  # the audit names it
            continue
        numbers = np.flatnonzero(np.bincount(stored.ravel()))
        numbers = numbers[(numbers > 0) & (numbers != IGNORE)]
        if numbers.tolist() != list(range(1, len(numbers) + 1)):
            return False
        counts.add(len(numbers))
        for number in numbers:
            areas += 1
            whole += cv2.connectedComponents((stored == number).astype(np.uint8))[0] == 2  # with the background
    return len(counts) > 1 and max(counts) >= 3 and whole >= 0.9 * areas


def _look_like(what: str, line: str, *, level: Level = "warning") -> Remark:
    return Remark(
        code="masks_look_like",
        message=f"the masks look like {what}; to say so, write into handlens.yaml: masks: {line}",
        level=level,
        lost=False,
    )


def _named(
    names: tuple[str, ...], values: dict[int, int], ignored: set[int], notes: Sequence[str | Remark], config: DataConfig
) -> tuple[tuple[str, ...], MaskCoding, list[str | Remark]]:
    if len(names) > IGNORE:
        raise InputError(f"{len(names)} classes are too many for a mask; at most {IGNORE}.")
    class_names, merged, remarks = numbered_classes(dict(enumerate(names)), config)
    coding = {stored: merged[index] for stored, index in values.items()} | dict.fromkeys(ignored - set(values), IGNORE)
    numbers = sorted(stored for stored, index in coding.items() if index == IGNORE)
    said = [f"ignored values in masks: {', '.join(map(str, numbers))}"] if numbers else []
    return class_names, MaskCoding(values=coding), [*notes, *remarks, *said]


def _of_colors(stated: MaskFiles, names: tuple[str, ...]) -> tuple[tuple[str, ...], MaskCoding, list[str | Remark]]:
    by_name = {nfc(name): (color[0], color[1], color[2]) for name, color in stated.colors.items()}
    if len(set(by_name.values())) != len(by_name):
        raise InputError("masks: colors in handlens.yaml gives two classes the same color; each needs its own.")
    class_names = names or tuple(name for name in by_name if name != IGNORED)
    strange = sorted(by_name.keys() - {*class_names, IGNORED})
    if strange:
        raise InputError(f"masks: colors names {named(strange)}, not among class_names in handlens.yaml.")
    index = {name: number for number, name in enumerate(class_names)} | {IGNORED: IGNORE}
    return class_names, MaskCoding(colors={color: index[name] for name, color in by_name.items()}), []


def _found(masks: Sequence[Path]) -> Counter[int]:
    """The numbers in all masks and how many pixels hold each; the audit names masks that cannot be read.

    Raises:
        InputError: none can be read; the first one's reason.
    """
    counts: Counter[int] = Counter()
    failed: list[InputError] = []
    with ThreadPoolExecutor(cores()) as pool:
        for found in pool.map(_numbers_in, masks):
            if isinstance(found, InputError):
                failed.append(found)
            else:
                counts.update(found)
    if failed and not counts:
        raise failed[0]
    return counts


def _numbers_in(path: Path) -> dict[int, int] | InputError:
    try:
        stored = stored_numbers(path)
    except InputError as error:
        return error
    parts = np.array_split(stored.ravel(), 1 + stored.size // (1 << 22))  # of which NumPy makes 8 bytes per pixel
    counts = np.sum([np.bincount(part, minlength=int(stored.max()) + 1) for part in parts], axis=0)
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
