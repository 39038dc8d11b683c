"""PASCAL VOC: boxes in XML (Annotations/ beside JPEGImages/), classes per pixel (SegmentationClass/), lists of splits.

VOC counts pixels from 1 and its corners lie inside the box: left - 1, top - 1, right, bottom are the edges that `Box`
holds. Corners with fractions are accepted. Tools that measure at edges need `voc: {corners: edges}`.

Source: Everingham and Winn, The PASCAL VOC 2012 Development Kit, sections 5 and 8.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path

from handlens.data.config import DataConfig, VocFiles
from handlens.data.formats.assemble import Found, assemble_boxes, corners, named, named_classes
from handlens.data.formats.label_files import Pairs, all_or_none, pair, pictures_below, split_by_folder
from handlens.data.formats.masks import from_pairs
from handlens.data.listing import Tree
from handlens.data.record import Box, Dataset, Split, nfc
from handlens.errors import InputError

FORMAT = "voc"
MASKS_FORMAT = "voc-masks"
FOLDERS = frozenset({"annotations", "annotation", "labels", "xmls", "xml", "annotations_xml"})
# Number 0 to 20 in the masks of VOC 2007 to 2012; 255 is the border of an object.
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Labelled:
    """A box whose label is still as the file spells it."""

    name: str
    box: Box


def recognise(path: Path) -> bool:
    """Whether an XML file about a picture lies below the folder."""
    tree = Tree(path)
    first = next(tree.labels(path, ".xml"), None)
    return first is not None and _is_annotation(first) and tree.has_pictures(path)


def read(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: an XML file that is damaged or lacks a corner; no XML for any picture; a class that is not in
            `class_names`; a picture in two lists; no box at all.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    convention = (config.voc or VocFiles.model_validate({})).corners
    pictures, notes = pictures_below(tree, path)
    pictures = [picture for picture in pictures if not _is_mask(tree, picture)]
    pairs = pair(tree, pictures, tree.labels(path, ".xml"), folders=FOLDERS)
    if not pairs.pairs:
        raise InputError(f"{path} has no picture with an XML file of the same name; put them into Annotations/.")
    notes = [*pairs.orphans(tree, what="XML"), *notes]
    chosen, said = _by_lists(path, tree, pairs, sets="Main")
    objects = {picture: _objects(xml, convention=convention) for picture, xml, _ in chosen}
    labels = {item.name: f"{xml}: " for picture, xml, _ in reversed(chosen) for item in objects[picture]}
    class_names, index, merged = named_classes(labels, config)
    found = [
        Found(
            path=picture,
            boxes=tuple(replace(item.box, label=index[item.name]) for item in objects[picture]),
            split=split,
        )
        for picture, _, split in chosen
    ]
    if convention == "pixels":
        notes.append(
            "corners are read as VOC counts them, from 1 and the last pixel included; else voc: corners: edges"
        )
    return assemble_boxes(
        path, format=FORMAT, class_names=class_names, found=found, config=config, notes=[*notes, *said, *merged]
    )


def recognise_masks(path: Path) -> bool:
    """Whether there are SegmentationClass/ and its lists, and no boxes."""
    base = _base(path)
    return (
        (base / "SegmentationClass").is_dir() and (base / "ImageSets" / "Segmentation").is_dir() and not recognise(path)
    )


def read_masks(path: Path, config: DataConfig) -> Dataset:
    """
    Raises:
        InputError: no mask for any picture; a picture in two lists; as `masks.read`.
    """
    tree = Tree(path, ignore=tuple(config.ignore))
    base = _base(path)
    for name in ("JPEGImages", "SegmentationClass"):
        if not (base / name).is_dir():
            raise InputError(
                f"{base / name} is missing; --format {MASKS_FORMAT} reads JPEGImages and SegmentationClass."
            )
    pairs = pair(
        tree, tree.pictures(base / "JPEGImages"), tree.pictures(base / "SegmentationClass"),
        folders={"segmentationclass"},
    )  # fmt: skip
    if not pairs.pairs:
        raise InputError(f"{base} has no picture with a mask of the same name in SegmentationClass.")
    chosen, notes = _by_lists(path, tree, pairs, sets="Segmentation")
    names = VOC_CLASSES if re.fullmatch(r"VOC20\d\d", base.name) else ()
    kept = Pairs([(picture, mask) for picture, mask, _ in chosen], [], [])
    dataset = from_pairs(
        path, kept, format=MASKS_FORMAT, config=config,
        notes=[*pairs.orphans(tree, what="a mask"), *notes], names=names,
    )  # fmt: skip
    split_of = {tree.id(picture): split for picture, _, split in chosen}
    return dataset.with_records([replace(record, split=split_of[record.id]) for record in dataset.records])


def _base(path: Path) -> Path:
    """The folder itself, or VOCdevkit/VOC2012 in it."""
    while not (path / "JPEGImages").is_dir():
        folders = Tree(path).folders(path)
        if len(folders) != 1:
            break
        path = folders[0]
    return path


def _is_mask(tree: Tree, picture: Path) -> bool:
    return any(part.lower().startswith("segmentation") for part in tree.id(picture).split("/")[:-1])


def _is_annotation(path: Path) -> bool:
    try:
        for _, element in ET.iterparse(path, events=("start",)):
            return element.tag == "annotation"
    except (ET.ParseError, OSError):  # some other XML, or one that `read` will name
        return path.parent.name.lower() in FOLDERS
    return False


def _by_lists(
    root: Path, tree: Tree, pairs: Pairs, *, sets: str
) -> tuple[list[tuple[Path, Path, Split | None]], list[str]]:
    """(picture, file, split) of the pairs that ImageSets lists; all of them, by folder, where there are no lists."""
    folder = _base(root) / "ImageSets" / sets
    split_of: dict[str, Split] = {}
    source: dict[str, str] = {}
    for name, split in LISTS.items():
        for stem in _listed(folder / f"{name}.txt"):
            if stem in split_of:
                raise InputError(f"{stem} is in {source[stem]}.txt and in {name}.txt of {folder}; keep it in one.")
            split_of[stem], source[stem] = split, name
    for stem in _listed(folder / "trainval.txt"):
        split_of.setdefault(stem, "train")
    if not split_of:
        chosen = [(picture, file, split_by_folder(tree, picture)) for picture, file in pairs.pairs]
        all_or_none([split for _, _, split in chosen], str(root))
        return list(chosen), []
    chosen = [(picture, file, split_of.get(nfc(picture.stem))) for picture, file in pairs.pairs]
    unlisted = [tree.id(picture) for picture, _, split in chosen if split is None]
    missing = sorted(split_of.keys() - {nfc(picture.stem) for picture, _ in pairs.pairs})
    notes = [f"left aside, in no list of ImageSets/{sets}: {named(unlisted)}"] if unlisted else []
    notes += [f"in a list of ImageSets/{sets} and not found: {named(missing)}"] if missing else []
    if len(unlisted) == len(chosen):
        raise InputError(f"none of the {len(chosen)} pictures in {root} is in the lists of {folder}.")
    return [item for item in chosen if item[2] is not None], notes


def _listed(path: Path) -> list[str]:
    """The stems in one list; a second column (1, -1) is left out."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}.") from None
    stems = [re.sub(r"\s+-?[01]$", "", line.strip()) for line in lines]
    return list(dict.fromkeys(nfc(stem) for stem in stems if stem))


def _objects(path: Path, *, convention: str) -> list[Labelled]:
    """Every object of one file; none is a picture without any."""
    try:
        root = ET.parse(path).getroot()
    except (ET.ParseError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is not XML: {error}.") from None
    if root.tag != "annotation":
        raise InputError(f"{path} begins with <{root.tag}>; VOC's files begin with <annotation>.")
    found = []
    for number, element in enumerate(root.findall("object"), start=1):
        where = f"object {number} of {path}"
        name = (element.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where} has no name.")
        left, top, right, bottom = (_corner(element, key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
        # A single point is a slip of the mouse, not an object of one pixel: its box would have no area either.
        if convention == "pixels" and (left, top) != (right, bottom):
            left, top = left - 1, top - 1
        difficult = (element.findtext("difficult") or "").strip() == "1"
        box = replace(corners(0, left, top, right, bottom), difficult=difficult)
        found.append(Labelled(name, box))
    return found


def _corner(element: ET.Element, key: str, where: str) -> float:
    text = (element.findtext(f"bndbox/{key}") or "").strip()
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where} has {key} = {text!r}; a number of pixels is expected.") from None
    if not math.isfinite(value):
        raise InputError(f"{where} has {key} = {text}; a number of pixels is expected.")
    return value
