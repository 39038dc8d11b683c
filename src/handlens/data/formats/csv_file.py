"""A CSV as it stands in a folder: its rows, its columns by the names that they go by, and the files that it names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from handlens.data.config import DataConfig
from handlens.data.formats.assemble import Found
from handlens.data.formats.label_files import images_below, remark
from handlens.data.formats.split_names import SPLIT_WORDS, split_of
from handlens.data.listing import Tree
from handlens.data.record import IMAGE_EXTENSIONS, Remark, Split, nfc
from handlens.errors import InputError
from handlens.reading.files import MissingFileError
from handlens.reading.rows import peek_rows, read_rows

# Folders beside the table in which its files are looked for.
IMAGE_FOLDERS = (
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "JPEGImages",
    "data",
    "train",
    "train_images",
)
# Folders beside the images in which a table is looked for, where none lies in the data's folder itself.
TABLE_FOLDERS = frozenset(
    {"annotation", "annotations", "csv", "data", "gt", "label", "labels", "meta", "metadata", "table", "tables"}
)
# Names that columns go by, compared in lower case. The first of each decides even where others are there.
FILE_COLUMNS = (
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "image",
    "image_name",
    "image_path",
    "image_file",
    "img",
    "img_path",
    "picture",
    "photo",
)
ID_COLUMNS = ("image_id", "imageid", "id")  # Kaggle's; files only where no column above is there
LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "class_name",
    "classname",
    "class_label",
    "category",
    "target",
    "species",
    "breed",
    "wnid",
    "synset",
    "class_index",
    "class_id",
    "category_id",
    "label_name",
    "label_id",
    "tags",
    "finding labels",
)
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold_name")
GROUP_COLUMNS = ("group", "patient", "patient_id", "subject", "subject_id", "session")


@dataclass(frozen=True)
class Table:
    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]  # (line in the file, cells)


class Finder:
    """Where the files are that a table names; by NFC, since macOS spells the same name in NFD.

    Args:
        root: of the data. folder: of the table, where its files are looked for first.
        anywhere: a name that stands in no such folder is that of the one image of this name below the root.
    """

    def __init__(self, root: Path, folder: Path, *, anywhere: bool = True) -> None:
        self.root = root
        self.anywhere = anywhere
        bases = dict.fromkeys((folder, root))
        self.folders = [base / name for base in bases for name in ("", *IMAGE_FOLDERS) if (base / name).is_dir()]
        self._names: dict[Path, dict[str, str]] = {}
        self._below_root: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        """The path as found on disk, or None. Kaggle's ids have no extension: the usual ones are tried."""
        if not name or "\0" in name:
            return None
        parts = nfc(name.replace("\\", "/")).split("/")
        endings = ("", *sorted(IMAGE_EXTENSIONS))
        for folder in [Path("/")] if name.startswith("/") else self.folders:
            for ending in endings:
                path = self._below(folder, [*parts[:-1], parts[-1] + ending])
                if path is not None:
                    return path
        if not self.anywhere:
            return None
        same = next((found for ending in endings if (found := self._anywhere(parts[-1] + ending))), [])
        return same[0] if len(same) == 1 else None

    def _anywhere(self, name: str) -> list[Path]:
        if self._below_root is None:
            self._below_root = {}
            for path in Tree(self.root).images(self.root):
                self._below_root.setdefault(nfc(path.name), []).append(path)
        return self._below_root.get(name, [])

    def _below(self, folder: Path, parts: Sequence[str]) -> Path | None:
        path = folder
        for part in parts:
            if part in ("", "."):
                continue
            name = ".." if part == ".." else self._listing(path).get(part)
            if name is None:
                return None
            path = path / name
        return path if path != folder and not path.is_dir() else None

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            try:
                self._names[folder] = {nfc(path.name): path.name for path in sorted(folder.iterdir())}
            except OSError:  # no folder, or one that cannot be listed: nothing is found in it
                self._names[folder] = {}
        return self._names[folder]


def tables_below(folder: Path) -> list[Path]:
    """The tables directly in a folder, by name; without any, those in folders for labels or splits in it."""
    found = _tables_in(folder)
    if found:
        return found
    inner = [path for path in Tree(folder).folders(folder) if _holds_tables(path.name)]
    return [table for path in inner for table in _tables_in(path)]


def _tables_in(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    return [path for path in paths if not path.name.startswith(".") and path.is_file()]


def _holds_tables(name: str) -> bool:
    return name.lower() in TABLE_FOLDERS or split_of(name) is not None


def load(path: Path, *, encoding: str | None = None) -> Table:
    """
    Raises:
        InputError: missing, in another encoding, or a row of another length than the header.
    """
    try:
        table = Table(path, *read_rows(path, encoding=encoding))
    except MissingFileError:
        raise InputError(f"{path} is missing; set csv: path relative to the data folder.") from None
    for line, cells in table.rows:
        if len(cells) != len(table.header):
            raise InputError(f"line {line} of {path.name} has {len(cells)} cells, not {len(table.header)}.")
    return table


def peek(path: Path, *, encoding: str | None = None) -> Table:
    """The header and the first rows, whatever is wrong with them: `load` says what it is."""
    return Table(path, *peek_rows(path, encoding=encoding))


def known(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that go by one of the names; the first name alone where it is there."""
    candidates = [column for column in header if column.lower() in names]
    exact = [column for column in candidates if column.lower() == names[0]]
    return exact or candidates


def column_of(table: Table, role: str, stated: str | None, names: Sequence[str]) -> int:
    """As `optional_column`, of a column that must be there.

    Raises:
        InputError: it is not.
    """
    index = optional_column(table, role, stated, names)
    if index is None:
        raise InputError(
            f"{table.path.name} has no column that could be the {role} (it has {', '.join(table.header)}); "
            f"name it with csv: {role} in handlens.yaml."
        )
    return index


def optional_column(table: Table, role: str, stated: str | None, names: Sequence[str]) -> int | None:
    """Where the column with a role stands: the stated one, or the one that goes by one of the names; None without.

    Raises:
        InputError: the stated one is not there, or several go by such names.
    """
    if stated is not None:
        if stated not in table.header:
            raise InputError(f"{table.path.name} has no column {stated!r}; it has {', '.join(table.header)}.")
        return table.header.index(stated)
    candidates = known(table.header, names)
    if len(candidates) > 1:
        raise InputError(
            f"{table.path.name} has several columns that could be the {role}: {', '.join(candidates)}; "
            f"choose one with csv: {role} in handlens.yaml."
        )
    return table.header.index(candidates[0]) if candidates else None


def file_columns(header: Sequence[str]) -> tuple[str, ...]:
    """The names by which a column of files goes in this table; () where it has none."""
    for names in (FILE_COLUMNS, ID_COLUMNS):
        if known(header, names):
            return names
    return ()


def split_in(cell: str, *, table: Table, line: int) -> Split | None:
    """
    Raises:
        InputError: the word is the name of no split.
    """
    if not cell:
        return None
    if cell.lower() not in SPLIT_WORDS:
        raise InputError(f"line {line} of {table.path.name} has the split {cell!r}; use train, validation or test.")
    return SPLIT_WORDS[cell.lower()]


def all_have_a_split(found: Sequence[Found], table: str) -> None:
    """
    Raises:
        InputError: some have one and some have none.
    """
    without = sum(item.split is None for item in found)
    if 0 < without < len(found):
        raise InputError(f"{without} of the {len(found)} images in {table} have no split; give a split to all or none.")


def not_named(root: Path, config: DataConfig, taken: Collection[Path]) -> list[str | Remark]:
    """What else lies in the folder: images that no row names, and the notes about files that are none."""
    tree = Tree(root, ignore=tuple(config.ignore))
    images, notes = images_below(tree, root, labels={".csv", ".tsv"})
    others = [tree.id(image) for image in images if image not in taken]
    remarks = [remark("without_row", "skipped, images that no row of the table names", others)] if others else []
    return [*notes, *remarks]
