"""Images and masks: images/ beside masks/, below or above train/, val/, test/, or told by a suffix (a_mask.png).

The numbers in the masks are the class indices, unless `masks: values` or `masks: colors` in handlens.yaml says
otherwise; what was assumed is said in the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handlens.data.config import DataConfig, MaskFiles
from handlens.data.formats.assemble import Found, assemble_masks, named
from handlens.data.formats.class_names import listed_names
from handlens.data.formats.label_files import (
    IMAGE_FOLDERS,
    all_or_none,
    images_below,
    in_folder,
    pair,
    split_by_folder,
    voc_folder,
)
from handlens.data.formats.mask_values import coding_of
from handlens.data.formats.split_names import companion_of
from handlens.data.listing import Tree
from handlens.data.record import Dataset, Remark
from handlens.errors import InputError

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
    class_names, coding, said = coding_of([mask for _, mask in pairs], config, listed_names(config) or tuple(names))
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
