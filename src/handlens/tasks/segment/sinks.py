"""Class maps as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from handlens.files import write_bytes
from handlens.tasks.sinks import Shown, new_name


@contextmanager
def mask_folder(folder: Path) -> Iterator[Callable[[Shown], None]]:
    """A PNG per image, whose numbers are the class indices and whose palette shows them."""
    folder.mkdir(parents=True, exist_ok=True)
    yield lambda image: write_bytes(new_name(folder, image.path, suffix=".png"), image.result.png())
