"""PASCAL VOC: boxes in XML (Annotations/ beside JPEGImages/), classes per pixel (SegmentationClass/), lists of splits.

VOC counts pixels from 1 and its corners lie inside the box: left - 1, top - 1, right, bottom are the edges that `Box`
holds. Corners with fractions are accepted. Tools that measure at edges need `voc: {corners: edges}`.

Source: Everingham and Winn, The PASCAL VOC 2012 Development Kit, sections 5 and 8.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handlens.data.config import DataConfig, VocFiles
from handlens.data.formats.assemble import Found, assemble_boxes, corners, named
from handlens.data.formats.class_names import named_classes
from handlens.data.formats.label_files import (
    Pairs,
    all_or_none,
    images_below,
    in_folder,
    pair,
    read_each,
    remark,
    split_by_folder,
    voc_folder,
)
from handlens.data.formats.masks import from_pairs
from handlens.data.labels.boxes import Box
from handlens.data.listing import Tree
from handlens.data.record import IMAGE_EXTENSIONS, Dataset, Remark, Split, nfc
from handlens.data.voc_classes import VOC_CLASSES
from handlens.errors import InputError
from handlens.reading.parsed import read_xml
from handlens.reading.text import read_text, read_text_start

FORMAT = "voc"
SIZE = re.compile(r"[0-9]{1,9}")
HEAD = 64 * 1024  # bytes that are looked at to see whether an XML is an annotation
MASKS_FORMAT = "voc-masks"
FOLDERS = frozenset({"annotations", "annotation", "labels", "xmls", "xml", "annotations_xml"})
MASK_FOLDERS = frozenset({"segmentationclass"})
LISTS: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Labeled:
    """A box whose label is still as the file spells it.

    Attributes:
        at_zero: a corner is at 0, where VOC, which counts from 1, has none.
    """

    name: str
    box: Box
    at_zero: bool


@dataclass(frozen=True)
class Annotation:
    """One file.

    Attributes:
        size: (width, height) of the image, where the file says it.
        unkept: tags with something to say that `Box` has no place for.
    """

    objects: list[Labeled]
    size: tuple[int, int] | None
    unkept: tuple[str, ...]


def recognize(path: Path) -> bool:
    """Whether an XML file about an image lies below the folder."""
    tree = Tree(path)
    return any(map(_is_annotation, tree.labels(path, ".xml"))) and tree.has_images(path)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: all XML files are damaged or lack a corner; no XML for any image; a class that is not in
            `class_names`; an image in two lists; no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    convention = (config.voc or VocFiles.model_validate({})).corners
    everything, notes = images_below(tree, path, labels={".xml", ".txt"})
    images = [image for image in everything if not _is_mask(tree, image)]
    masks = [tree.id(image) for image in everything if _is_mask(tree, image)]
    if masks:
        notes.append(f"skipped, masks, which --format {MASKS_FORMAT} reads: {named(masks)}")
    pairs = pair(tree, images, tree.labels(path, ".xml"), folders=FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{path} has no image with an XML file of the same name; put them into Annotations/.")
    chosen, remarks = _by_lists(path, tree, pairs, sets="Main", what="XML")
    files, damaged = read_each(
        tree, [(image, xml) for image, xml, _ in chosen], lambda _, xml: _annotation(xml, convention=convention)
    )
    chosen = [item for item in chosen if item[0] in files]
    labels = {item.name: f"{xml}: " for image, xml, _ in reversed(chosen) for item in files[image].objects}
    class_names, index, merged = named_classes(labels, config)
    found = [
        Found(
            path=image,
            label=tuple(replace(item.box, label=index[item.name]) for item in files[image].objects),
            split=split,
        )
        for image, _, split in chosen
    ]
    if convention == "pixels":
        remarks += _counted_from_0({tree.id(image): file.objects for image, file in files.items()})
        notes += [
            "box corners follow the VOC convention (1-based, last pixel included); otherwise set voc: corners: edges"
        ]
    remarks += _not_kept({tree.id(image): files[image].unkept for image, _, _ in chosen})
    return assemble_boxes(
        path,
        format=FORMAT,
        class_names=class_names,
        found=found,
        config=config,
        stated_sizes={image: file.size for image, file in files.items() if file.size},
        notes=[*notes, *merged, *remarks, *damaged],
    )


def recognize_masks(path: Path) -> bool:
    """Whether there are SegmentationClass/ and its lists, and no boxes."""
    base = voc_folder(path)
    return (
        (base / "SegmentationClass").is_dir() and (base / "ImageSets" / "Segmentation").is_dir() and not recognize(path)
    )


def read_masks(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no mask for any image; an image in two lists; as `masks.read`.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    base = voc_folder(path)
    for name in ("JPEGImages", "SegmentationClass"):
        if not (base / name).is_dir():
            raise InputError(
                f"{base / name} is missing; --format {MASKS_FORMAT} reads JPEGImages and SegmentationClass."
            )
    everything, notes = images_below(tree, path, labels={".xml", ".txt"})
    images = [image for image in everything if not _is_mask(tree, image)]
    masks = [image for image in everything if in_folder(tree, image, MASK_FOLDERS)]
    others = [tree.id(p) for p in everything if _is_mask(tree, p) and not in_folder(tree, p, MASK_FOLDERS)]
    if others:
        notes.append(f"skipped, instance masks: {named(others)}")
    pairs = pair(tree, images, masks, folders=MASK_FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{base} has no image with a mask of the same name in SegmentationClass.")
    chosen, remarks = _by_lists(path, tree, pairs, sets="Segmentation", what="a mask")
    names = VOC_CLASSES if re.fullmatch(r"VOC20\d\d", base.name) else ()
    kept = [(image, mask) for image, mask, _ in chosen]
    dataset = from_pairs(path, kept, format=MASKS_FORMAT, config=config, notes=[*notes, *remarks], names=names)
    split_of = {tree.id(image): split for image, _, split in chosen}
    return dataset.with_records([replace(record, split=split_of[record.id]) for record in dataset.records])


def _is_mask(tree: Tree, image: Path) -> bool:
    return any(part.lower().startswith("segmentation") for part in tree.id(image).split("/")[:-1])


def _is_annotation(path: Path) -> bool:
    """By the name of its first element; of one that has none, by its folder: `read` names it."""
    text = read_text_start(path, HEAD)
    first = re.search(
        r"<([^\s<>/!?]+)", re.sub(r"<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>", "", text, flags=re.DOTALL)
    )
    return first[1] == "annotation" if first else path.parent.name.lower() in FOLDERS


def _by_lists(
    root: Path, tree: Tree, pairs: Pairs, *, sets: str, what: str
) -> tuple[list[tuple[Path, Path, Split | None]], list[Remark]]:
    """(image, file, split) of the pairs that ImageSets lists; all of them, by folder, where there are no lists."""
    folder = voc_folder(root) / "ImageSets" / sets
    paired = {nfc(image.stem) for image, _ in pairs.pairs}
    alone = [*pairs.images, *pairs.strays]
    stems = paired | {nfc(image.stem) for image in alone}
    split_of: dict[str, Split] = {}
    source: dict[str, str] = {}
    for name, split in LISTS.items():
        for stem in _listed(folder / f"{name}.txt", stems):
            if split_of.get(stem, split) != split:
                raise InputError(f"{stem} is in {source[stem]}.txt and in {name}.txt of {folder}; keep it in one.")
            split_of[stem], source[stem] = split, name
    for stem in _listed(folder / "trainval.txt", stems):
        split_of.setdefault(stem, "train")
    if not split_of:
        chosen = [(image, file, split_by_folder(tree, image)) for image, file in pairs.pairs]
        all_or_none([split for _, _, split in chosen], str(root))
        return list(chosen), pairs.orphans(tree, what=what)
    chosen = [(image, file, split_of.get(nfc(image.stem))) for image, file in pairs.pairs]
    unlisted = [tree.id(image) for image, _, split in chosen if split is None]
    unlisted += [tree.id(image) for image in alone if nfc(image.stem) not in split_of]
    missing = sorted(split_of.keys() - paired)
    remarks = replace(pairs, strays=[]).orphans(tree, what=what, images=False)
    if unlisted:  # VOC's own lists for masks name one image of six
        remarks.append(remark("not_listed", f"skipped, in no list of ImageSets/{sets}", unlisted, level="note"))
    if missing:
        remarks.append(remark("listed_missing", f"in a list of ImageSets/{sets} but without image or {what}", missing))
    if not any(split for _, _, split in chosen):
        raise InputError(f"none of the {len(chosen)} images in {root} is in the lists of {folder}.")
    return [item for item in chosen if item[2] is not None], remarks


def _counted_from_0(objects: Mapping[str, Sequence[Labeled]]) -> list[Remark]:
    """A warning where corners stand at 0: then the tool may have counted from there, and each box is a pixel off."""
    ids = tuple(id for id, items in objects.items() if any(item.at_zero for item in items))
    if not ids:
        return []
    boxes = sum(item.at_zero for items in objects.values() for item in items)
    count = "1 box has" if boxes == 1 else f"{boxes} boxes have"
    message = (
        f"{count} a corner at 0, but VOC is 1-based: if your tool is 0-based, set voc: {{corners: edges}} in "
        f"handlens.yaml, or every box is off by a pixel. The first: {ids[0]}"
    )
    return [Remark(code="corners_at_zero", message=message, files=ids, lost=False)]


def _not_kept(tags: Mapping[str, Sequence[str]]) -> list[Remark]:
    """id -> tags of its file that are not kept."""
    ids = [id for id, unkept in tags.items() if unkept]
    if not ids:
        return []
    listed = ", ".join(sorted({tag for unkept in tags.values() for tag in unkept}))
    return [remark("not_kept", f"{listed} of objects (not kept) in the files of", ids, level="note")]


def _listed(path: Path, stems: Collection[str]) -> list[str]:
    """The stems in one list: a whole line, or one without its second column (1, -1) or the image's extension."""
    if not path.is_file():
        return []
    found = []
    for line in (nfc(line.strip()) for line in read_text(path, "annotations").splitlines()):
        first = re.sub(r"\s+-?[01]$", "", line)
        spellings = (line, first, *(Path(name).stem for name in (line, first) if _is_file_name(name)))
        found.append(next((name for name in spellings if name in stems), first))
    return list(dict.fromkeys(stem for stem in found if stem))


def _is_file_name(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_EXTENSIONS


def _annotation(path: Path, *, convention: str) -> Annotation:
    """Every object of one file; none is an image without any."""
    root = read_xml(path)
    if root.tag != "annotation":
        raise InputError(f"{path} begins with <{root.tag}>; VOC's files begin with <annotation>.")
    found = []
    unkept: set[str] = set()
    for number, element in enumerate(root.findall("object"), start=1):
        where = f"object {number} of {path}"
        name = (element.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where} has no name.")
        left, top, right, bottom = (_corner(element, key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
        at_zero = 0 in (left, top)
        # A single point is a slip of the mouse, not an object of one pixel: its box would have no area either.
        if convention == "pixels" and (left, top) != (right, bottom):
            left, top = left - 1, top - 1
        box = replace(corners(0, left, top, right, bottom), difficult=_is_true(element, "difficult"))
        found.append(Labeled(name, box, at_zero))
        unkept |= {tag for tag in ("truncated", "occluded") if _is_true(element, tag)}
        unkept |= {"pose"} if (element.findtext("pose") or "").strip().lower() not in ("", "unspecified") else set()
        unkept |= {tag for tag in ("part", "polygon", "attributes") if element.find(tag) is not None}
    width, height = ((root.findtext(f"size/{key}") or "").strip() for key in ("width", "height"))
    stated = (int(width), int(height)) if SIZE.fullmatch(width) and SIZE.fullmatch(height) else (0, 0)
    size = stated if min(stated) > 0 else None  # some tools write 0
    return Annotation(found, size, tuple(sorted(unkept)))


def _is_true(element: ET.Element, tag: str) -> bool:
    return (element.findtext(tag) or "").strip().lower() in ("1", "true", "yes")


def _corner(element: ET.Element, key: str, where: str) -> float:
    text = (element.findtext(f"bndbox/{key}") or "").strip()
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where} has {key} = {text!r}; a number of pixels is expected.") from None
    if not math.isfinite(value):
        raise InputError(f"{where} has {key} = {text}; a number of pixels is expected.")
    return value
