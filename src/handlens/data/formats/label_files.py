"""Images and the files that say something about each: paired by name, never by position in two lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from handlens.data.decode import UnreadableImageError, probe
from handlens.data.formats.assemble import named
from handlens.data.formats.split_names import companion_of, split_of
from handlens.data.labels.finding import Level
from handlens.data.listing import LeftAside, Tree
from handlens.data.record import Remark, Split, nfc
from handlens.errors import InputError
from handlens.reading.files import UnreadableFileError, read_bytes, read_start

# Compared in lower case. Such a folder holds images and is no class; it does not tell images apart:
# images/train/a.jpg belongs to labels/train/a.txt.
IMAGE_FOLDERS = frozenset(
    {
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "jpegimages",
        "data",
    }
)
Label = TypeVar("Label")
HEADER_BYTES = 256 * 1024  # a JPEG's EXIF block with its preview has 64 KB at most, and stands before the size


@dataclass(frozen=True)
class Pairs:
    """Attributes:
    pairs: (image, the file about it).
    images: those without a file about them.
    strays: also without, outside the folders for images, and with no paired one beside them.
    files: those without an image.
    """

    pairs: list[tuple[Path, Path]]
    images: list[Path]
    strays: list[Path]
    files: list[Path]

    def orphans(self, tree: Tree, *, what: str, images: bool = True) -> list[Remark]:
        """What was skipped."""
        remarks = []
        without = [*(self.images if images else ()), *self.strays]
        if without:
            remarks.append(remark("without_label", f"skipped, images without {what}", map(tree.id, without)))
        if self.files:
            remarks.append(remark("without_image", f"skipped, {what} without an image", map(tree.id, self.files)))
        return remarks


def remark(code: str, what: str, ids: Iterable[str], *, level: Level = "warning") -> Remark:
    """A sentence with a count and the first names: "skipped, XML without an image: 7 (a.xml, b.xml, ...)"."""
    files = tuple(ids)
    return Remark(code=code, message=f"{what}: {named(files)}", files=files, level=level)


def read_each(
    tree: Tree, pairs: Iterable[tuple[Path, Path]], read: Callable[[Path, Path], Label]
) -> tuple[dict[Path, Label], list[Remark]]:
    """What `read(image, file)` makes of each pair, by image; a damaged file is set aside with its image and
    named, so that the rest goes on.

    Raises:
        InputError: none can be read; the first one's reason.
    """
    labels: dict[Path, Label] = {}
    reasons: dict[str, InputError] = {}
    for image, file in pairs:
        try:
            labels[image] = read(image, file)
        except InputError as error:
            reasons[tree.id(image)] = error
    if not reasons:
        return labels, []
    if not labels:
        raise next(iter(reasons.values()))
    return labels, [unusable({id: str(error) for id, error in reasons.items()})]


def unusable(reasons: Mapping[str, str]) -> Remark:
    """That labels were skipped with their images; id of the image -> what is wrong with its label."""
    count = "1 label" if len(reasons) == 1 else f"{len(reasons)} labels"
    message = f"{count} cannot be used, skipped with their images. The first: {next(iter(reasons.values()))}"
    return Remark(code="label_unreadable", message=message, files=tuple(reasons), reasons=tuple(reasons.values()))


def pair(
    tree: Tree,
    images: Iterable[Path],
    files: Iterable[Path],
    *,
    folders: Collection[str],
    suffixes: Collection[str] = (),
    image_suffixes: Collection[str] = (),
    guess: bool = False,
) -> Pairs:
    """Pair by path without extension, folders for images and `folders` for files left out of it; then the rest by
    stem, where a stem is there once on each side. Of several of one name, those in such folders go before the others.

    Args:
        folders: what folders of such files are called, lower case.
        suffixes: what the stem of such a file may have after its image's. image_suffixes: what an image's own may.
        guess: of several of one name take the first, to see what a folder may be.

    Raises:
        InputError: two images, or two files, of a pair have one name but for the extension.
    """
    images, files = list(images), list(files)
    by_key = _by_key(tree, images, inside=IMAGE_FOLDERS, folders=IMAGE_FOLDERS | set(folders), suffixes=image_suffixes)
    files_by_key = _by_key(tree, files, inside=folders, folders=IMAGE_FOLDERS | set(folders), suffixes=suffixes)
    both = {key: key for key in by_key if key in files_by_key}
    alone = _by_stem(tree, {key: paths for key, paths in by_key.items() if key not in both}, inside=IMAGE_FOLDERS)
    files_alone = _by_stem(tree, {key: paths for key, paths in files_by_key.items() if key not in both}, inside=folders)
    for stem in alone.keys() & files_alone.keys():
        if len(alone[stem]) == len(files_alone[stem]) == 1:
            both[alone[stem][0]] = files_alone[stem][0]
    for paths in [*(by_key[key] for key in both), *(files_by_key[key] for key in both.values())]:
        if len(paths) > 1 and not guess:
            raise InputError(
                f"{' and '.join(map(tree.id, paths))} have the same name, so images and labels cannot be paired; "
                f"rename one, or list it under ignore in handlens.yaml."
            )
    pairs = [(by_key[key][0], files_by_key[both[key]][0]) for key in by_key if key in both]
    taken = {path for pair in pairs for path in pair}
    alone_images = [path for path in images if path not in taken]
    homes = {image.parent for image, _ in pairs}
    inside = any(in_folder(tree, image, IMAGE_FOLDERS) for image, _ in pairs)
    strays = {
        path
        for path in alone_images
        if inside and path.parent not in homes and not in_folder(tree, path, IMAGE_FOLDERS)
    }
    return Pairs(
        pairs=pairs,
        images=[path for path in alone_images if path not in strays],
        strays=[path for path in alone_images if path in strays],
        files=[path for path in files if path not in taken],
    )


def in_folder(tree: Tree, path: Path, folders: Collection[str]) -> bool:
    """Whether one of the folders that a file lies in, below the root, has one of the names (lower case)."""
    return any(part.lower() in folders for part in tree.id(path).split("/")[:-1])


def images_below(tree: Tree, folder: Path, *, labels: Collection[str]) -> tuple[list[Path], list[str]]:
    """All images and the notes about the rest.

    Args:
        labels: extensions (".xml") of files that are read elsewhere, and are no stray files here.
    """
    aside = LeftAside(frozenset(labels))
    found = list(tree.images(folder, aside=aside))
    return found, list(aside.notes())


def split_by_folder(tree: Tree, path: Path) -> Split | None:
    """By the first folder of the path that is called like a split."""
    splits = (split_of(part) for part in tree.id(path).split("/")[:-1])
    return next((split for split in splits if split is not None), None)


def voc_folder(path: Path) -> Path:
    """Where JPEGImages is: the folder itself, or VOCdevkit/VOC2012 in it."""
    while not (path / "JPEGImages").is_dir():
        folders = Tree(path).folders(path)
        if len(folders) != 1:
            break
        path = folders[0]
    return path


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image in pixels, from its header.

    Raises:
        UnreadableImageError: no image, or a damaged header.
    """
    try:
        head = read_start(path, HEADER_BYTES)
        try:
            if not head.startswith(b"\xff\xd8"):  # other formats may say the size or the turn at their end
                head = read_bytes(path, "image")
            info = probe(head, str(path))
        except UnreadableImageError:
            info = probe(read_bytes(path, "image"), str(path))
    except UnreadableFileError as error:
        raise UnreadableImageError(f"{path}: {error.reason}.") from None
    return info.height, info.width


def all_or_none(splits: Collection[Split | None], what: str) -> None:
    """
    Raises:
        InputError: some images have a split and some have none.
    """
    without = sum(split is None for split in splits)
    if 0 < without < len(splits):
        raise InputError(f"{without} of the {len(splits)} images in {what} have no split; give a split to all or none.")


def _by_key(
    tree: Tree, paths: Iterable[Path], *, inside: Collection[str], folders: Collection[str], suffixes: Collection[str]
) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        *above, _ = tree.id(path).split("/")
        above = [companion_of(part) or part for part in above]  # trainannot/a.png belongs to train/a.png
        stem = path.stem
        for suffix in suffixes:
            if len(stem) > len(suffix) and stem.lower().endswith(suffix.lower()):
                stem = stem[: -len(suffix)]
                break
        key = nfc("/".join([*(part for part in above if part.lower() not in folders), stem]))
        found.setdefault(key, []).append(path)
    return {key: [path for path in paths if in_folder(tree, path, inside)] or paths for key, paths in found.items()}


def _by_stem(tree: Tree, by_key: Mapping[str, list[Path]], *, inside: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in by_key:
        found.setdefault(key.rsplit("/", 1)[-1], []).append(key)
    return {
        stem: [key for key in keys if in_folder(tree, by_key[key][0], inside)] or keys for stem, keys in found.items()
    }
