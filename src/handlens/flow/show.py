"""show: a contact sheet of what a data set holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from handlens.errors import InputError
from handlens.files import atomic_path
from handlens.reporter import QUIET, Reporter
from handlens.tasks import TASKS
from handlens.tasks.pieces import Tile
from handlens.tasks.task import Task
from handlens.tasks.tiles import TILE

if TYPE_CHECKING:
    from handlens.data.record import Dataset, Record, Split


def show(
    data: Path | str,
    *,
    out: Path,
    count: int = 12,
    seed: int = 0,
    split: Split | None = None,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> Path:
    """Draw images with their labels, masks or boxes on one sheet, PNG or JPEG by the name of `out`.

    Args:
        count: images, drawn by lot from `seed`, in the order of their ids; all where there are fewer.
        split: only from this one.

    Raises:
        InputError: no image to show, an unknown split, or an `out` that is neither PNG nor JPEG or lies
            among the images.
    """
    import numpy as np
    from PIL import Image

    from handlens.data import open_dataset
    from handlens.data.seeds import seed_for
    from handlens.drawing import with_legend
    from handlens.evaluation.contact_sheet import contact_sheet
    from handlens.flow.sheets import sheet_format

    kind = sheet_format(out)
    dataset = open_dataset(Path(data), format=format, config=config)
    report.say(f"{dataset.summary()}.")
    task = TASKS[dataset.task]
    records = dataset.records if split is None else dataset.part(split)
    if not records:
        there = ", ".join(dataset.splits()) or "no splits"
        raise InputError(f"{data} contains no images{f' of {split!r}; it has {there}' if split else ''}.")
    folder = dataset.root.resolve()
    if out.resolve().is_relative_to(folder):
        raise InputError(
            f"{out} lies in {folder}, where it would be read as an image; choose a path outside with --out."
        )
    order = np.random.default_rng(seed_for(seed, "show")).permutation(len(records))[:count]
    tiles, captions = [], []
    seen: set[int] = set()
    for done, place in enumerate(sorted(order.tolist()), start=1):
        tile = _tile(task, dataset, records[place])
        tiles.append(tile.image)
        captions.append(f"{records[place].path.name}\n{tile.caption}")
        seen |= tile.classes
        report.progress("drawing", done, len(order))
    sheet = contact_sheet(tiles, captions, tile=TILE)
    if seen:
        sheet = with_legend(sheet, {index: dataset.class_names[index] for index in sorted(seen)})
    with atomic_path(out) as temporary:
        Image.fromarray(sheet).save(temporary, kind)
    return out


def _tile(task: Task, dataset: Dataset, record: Record) -> Tile:
    """An image or label that cannot be read is a gray tile that says so: the sheet is there to find such things."""
    import numpy as np

    try:
        return task.tile(record, dataset)
    except InputError as error:
        reason = str(error).replace(f"{record.path}: ", "").replace(str(record.label), "")
        return Tile(np.full((TILE, TILE, 3), 224, dtype=np.uint8), reason)
