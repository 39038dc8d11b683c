"""Which files of a folder are images, in an order that is the same on every system.

Hidden files, what operating systems leave behind, and files that are no images are skipped and
counted. A known extension is believed here, so that a broken image stays in the list and is reported;
a file without one is an image when its first bytes say so.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from handlens.data.image_format import true_format
from handlens.data.record import IMAGE_EXTENSIONS
from handlens.errors import InputError
from handlens.reading.files import UnreadableFileError, read_start

SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found"})
# Left aside without a look inside: reading a million label files would take minutes. Raw camera files
# begin like a TIFF, and would be taken for the small preview that they carry.
NOT_IMAGES = frozenset(
    {
        ".txt",
        ".csv",
        ".tsv",
        ".json",
        ".jsonl",
        ".xml",
        ".yaml",
        ".yml",
        ".toml",
        ".md",
        ".rst",
        ".html",
        ".htm",
        ".pdf",
        ".doc",
        ".docx",
        ".xls",
        ".xlsx",
        ".ppt",
        ".pptx",
        ".py",
        ".ipynb",
        ".m",
        ".mat",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".onnx",
        ".db",
        ".sqlite",
        ".log",
        ".ini",
        ".cfg",
        ".lock",
        ".url",
        ".lnk",
        ".zip",
        ".tar",
        ".gz",
        ".tgz",
        ".bz2",
        ".xz",
        ".7z",
        ".rar",
        ".mp4",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mp3",
        ".wav",
        ".svg",
        ".psd",
        ".dng",
        ".nef",
        ".cr2",
        ".cr3",
        ".arw",
        ".orf",
        ".rw2",
        ".pef",
        ".srw",
        ".raf",
    }
)
HEAD_BYTES = 64

HIDDEN, NOT_A_IMAGE, LOOP, IGNORED = "hidden", "not an image", "a link back", "ignored by handlens.yaml"

Identity = tuple[int, int]  # device and inode: the same for a folder and every link to it


@dataclass
class LeftAside:
    """What was met and not taken: how many, and the first few names, by reason.

    Attributes:
        labels: extensions (".xml") of files that are no images and read all the same.
    """

    labels: frozenset[str] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        if reason == NOT_A_IMAGE and Path(name).suffix.lower() in self.labels:
            return
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.examples.setdefault(reason, [])
        if len(names) < 3:
            names.append(name)

    def notes(self) -> tuple[str, ...]:
        """One sentence per reason: "skipped, not an image: 2 (notes.txt, labels.csv)"."""
        return tuple(
            f"skipped, {reason}: {count} ({', '.join(self.examples[reason])}{', ...' if count > 3 else ''})"
            for reason, count in sorted(self.counts.items())
        )


class Tree:
    """A folder of images, listed one folder at a time and never all at once.

    Args:
        root: where links that lead back are measured from, and what `ignore` patterns are relative to.
        ignore: patterns as in a shell; one that fits a folder leaves out all below it.
        hand_on_unlistable: `images` yields a folder that cannot be listed as if it were an image, and a pipe that is
            called one, so that whoever opens it names it and the rest goes on; otherwise the first is an error.
    """

    def __init__(self, root: Path, *, ignore: tuple[str, ...] = (), hand_on_unlistable: bool = False) -> None:
        self.root = root
        self.ignore = ignore
        self.hand_on_unlistable = hand_on_unlistable

    def folders(self, folder: Path, *, aside: LeftAside | None = None) -> list[Path]:
        """The visible folders directly in `folder`, sorted by code point; links that lead back are left out."""
        trail = self._trail(folder)
        found = [folder / name for name in self._entries(folder, aside) if name.endswith("/")]
        return [path for path in found if _identity(path) not in trail]

    def files(self, folder: Path, *, aside: LeftAside | None = None) -> Iterator[Path]:
        """The images directly in `folder`, sorted by code point."""
        for name in self._entries(folder, aside):
            if not name.endswith("/") and self._is_image(folder / name, aside):
                yield folder / name

    def images(self, folder: Path, *, aside: LeftAside | None = None) -> Iterator[Path]:
        """All images below `folder`, in the order of their paths with "/".

        A link to a folder is followed unless that folder contains the link, and each such folder once:
        then links in any arrangement end.
        """
        yield from self._below(folder, trail=self._trail(folder), followed=set(), aside=aside)

    def labels(self, folder: Path, extension: str) -> Iterator[Path]:
        """All files with the extension (".xml") below `folder`, in the order and with the links of `images`."""
        yield from self._below(folder, trail=self._trail(folder), followed=set(), aside=None, extension=extension)

    def has_images(self, folder: Path) -> bool:
        """Whether any image lies below `folder`; stops at the first."""
        return next(self.images(folder), None) is not None

    def id(self, path: Path) -> str:
        """The path below the root with "/", or as the system writes it where it lies elsewhere."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return Path(os.path.relpath(path, self.root)).as_posix()

    def _below(
        self,
        folder: Path,
        *,
        trail: frozenset[Identity],
        followed: set[Identity],
        aside: LeftAside | None,
        extension: str | None = None,
    ) -> Iterator[Path]:
        """Images, or the files with the extension."""
        try:
            entries = self._entries(folder, aside)
        except InputError:
            if not self.hand_on_unlistable:
                raise
            yield folder
            return
        for name in entries:
            path = folder / name
            if not name.endswith("/"):
                if self._is_image(path, aside) if extension is None else path.suffix.lower() == extension:
                    yield path
                continue
            identity = _identity(path)
            if identity in trail or (path.is_symlink() and identity in followed):
                _count(aside, LOOP, self.id(path))
                continue
            if path.is_symlink():
                followed.add(identity)
            yield from self._below(path, trail=trail | {identity}, followed=followed, aside=aside, extension=extension)

    def _entries(self, folder: Path, aside: LeftAside | None) -> list[str]:
        """What is visible, sorted; names of folders end in "/". Only names are held: a million must fit."""
        names: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    kind = _kind(entry)
                    if entry.name == "handlens.yaml":
                        continue
                    if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                        _count(aside, HIDDEN, self.id(folder / entry.name))
                    elif self.ignore and self._ignored(self.id(folder / entry.name)):
                        _count(aside, IGNORED, self.id(folder / entry.name))
                    elif kind == "other" and not (self.hand_on_unlistable and _is_called_an_image(entry.name)):
                        _count(aside, NOT_A_IMAGE, self.id(folder / entry.name))
                    else:
                        names.append(entry.name + ("/" if kind == "folder" else ""))
        except OSError as error:
            raise InputError(f"{folder} cannot be listed: {error.strerror}; check its permissions.") from None
        names.sort()  # a folder's "/" makes it sort like the paths of what it holds
        return names

    def _ignored(self, id: str) -> bool:
        name = id.rsplit("/", 1)[-1]
        return any(
            fnmatch.fnmatchcase(id, pattern.rstrip("/")) or fnmatch.fnmatchcase(name, pattern.rstrip("/"))
            for pattern in self.ignore
        )

    def _is_image(self, path: Path, aside: LeftAside | None) -> bool:
        extension = path.suffix.lower()
        if extension in IMAGE_EXTENSIONS or (extension not in NOT_IMAGES and _begins_like_a_image(path)):
            return True
        _count(aside, NOT_A_IMAGE, self.id(path))
        return False

    def _trail(self, folder: Path) -> frozenset[Identity]:
        """The folder and those above it up to the root: a link to any of them leads back."""
        trail = {_identity(folder), _identity(self.root)}
        if folder.is_relative_to(self.root):
            trail |= {_identity(above) for above in folder.parents if above.is_relative_to(self.root)}
        return frozenset(trail)


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "other"]:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself; like any broken link it is reported when it is read
        return "file"
    return "file" if entry.is_symlink() else "other"  # a pipe or a socket could make its reader wait for ever


def _is_called_an_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS  # noqa: PTH122 - of a million names


def _identity(folder: Path) -> Identity:
    try:
        stat = folder.stat()
    except OSError as error:
        raise InputError(f"{folder} cannot be opened: {error.strerror}; check its permissions.") from None
    return stat.st_dev, stat.st_ino


def _begins_like_a_image(path: Path) -> bool:
    try:
        return true_format(read_start(path, HEAD_BYTES)) is not None
    except UnreadableFileError:  # not known to be an image, and cannot be read: nothing to report about it
        return False


def _count(aside: LeftAside | None, reason: str, name: str) -> None:
    if aside is not None:
        aside.add(reason, name)
