"""What the numbers or colors of masks stand for: as handlens.yaml says, or as they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from handlens.data.budget import BUDGET
from handlens.data.config import IGNORED, DataConfig, MaskFiles
from handlens.data.formats.assemble import named
from handlens.data.formats.class_names import numbered_classes
from handlens.data.labels.finding import Level
from handlens.data.labels.mask_files import MaskCoding, stored_numbers
from handlens.data.record import Remark, nfc
from handlens.errors import InputError
from handlens.machine import cores
from handlens.palette import IGNORE

MOST_NUMBERS = 64  # our choice: above this, masks without class names hold shades of gray rather than classes
LOOKED_AT = 20  # masks, to see whether their values number objects
STRAY = 0.01  # our choice: of the pixels of 255; other numbers on fewer are the soft edge of an outline


def coding_of(
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
    with BUDGET.hold():
        return _counted(path)


def _counted(path: Path) -> dict[int, int] | InputError:
    try:
        stored = stored_numbers(path)
    except InputError as error:
        return error
    parts = np.array_split(stored.ravel(), 1 + stored.size // (1 << 22))  # of which NumPy makes 8 bytes per pixel
    counts = np.sum([np.bincount(part, minlength=int(stored.max()) + 1) for part in parts], axis=0)
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
