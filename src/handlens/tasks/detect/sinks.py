"""Boxes as other tools read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from handlens.errors import InputError
from handlens.files import atomic_path, write_text
from handlens.names import as_json
from handlens.tasks.sinks import Shown, new_name


@contextmanager
def coco_file(file: Path, *, category_ids: Sequence[int] | None) -> Iterator[Callable[[Shown], None]]:
    """A COCO result list. image_id is the number that is the file's name, as in COCO, or else the image's place in the
    list, from 1; or the next that no other image has. file_name stands beside it.

    Args:
        category_ids: of the classes in index order; None counts from 1.
    """
    taken: set[int] = set()
    separator = "\n"
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8") as results:

        def write(image: Shown) -> None:
            nonlocal separator
            first = int(image.path.stem) if image.path.stem.isdecimal() else image.place
            id = next(number for number in count(first) if number not in taken)
            taken.add(id)
            for row in image.result.to_coco(id, category_ids):
                results.write(separator + as_json(row | {"file_name": image.path.name}))
                separator = ",\n"

        results.write("[")
        yield write
        results.write("\n]\n")


@contextmanager
def yolo_folder(folder: Path) -> Iterator[Callable[[Shown], None]]:
    """A text per image, with scores, and classes.txt with the first.

    Raises:
        InputError: there is something in the folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--yolo {folder} is not empty; choose a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    classes = folder / "classes.txt"

    def write(image: Shown) -> None:
        if not classes.exists():
            write_text(classes, "".join(f"{name}\n" for name in image.result.names))
        lines = "".join(f"{line}\n" for line in image.result.to_yolo())
        write_text(new_name(folder, image.path, suffix=".txt"), lines)

    yield write
