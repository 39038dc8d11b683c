"""show: a contact sheet of what a data set holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.errors import InputError
from handlens.files import atomic_path
from handlens.reporter import QUIET, Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Resampling

    from handlens.data.record import Box, Dataset, Record, Split

TILE = 320  # pixels: boxes need more room than a label


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
    records = dataset.records if split is None else dataset.part(split)
    if not records:
        there = ", ".join(dataset.splits()) or "no splits"
        raise InputError(f"{data} holds no images{f' of {split!r}; it has {there}' if split else ''}.")
    folder = dataset.root.resolve()
    if out.resolve().is_relative_to(folder):
        raise InputError(f"{out} lies in {folder}, where it would count as an image; name a place outside by --out.")
    order = np.random.default_rng(seed_for(seed, "show")).permutation(len(records))[:count]
    tiles, captions = [], []
    seen: set[int] = set()
    for done, place in enumerate(sorted(order.tolist()), start=1):
        tile, caption, classes = _tile(dataset, records[place])
        tiles.append(tile)
        captions.append(caption)
        seen |= classes
        report.progress("drawing", done, len(order))
    sheet = contact_sheet(tiles, captions, tile=TILE)
    if dataset.task in ("segment", "detect"):
        sheet = with_legend(sheet, {index: dataset.class_names[index] for index in sorted(seen)})
    with atomic_path(out) as temporary:
        Image.fromarray(sheet).save(temporary, kind)
    return out


def _tile(dataset: Dataset, record: Record) -> tuple[NDArray[np.uint8], str, set[int]]:
    """A small copy with what is known drawn on it, its caption, and the classes that it shows.

    An image or mask that cannot be read is a gray tile that says so: the sheet is there to find such things.
    """
    import numpy as np
    from PIL import Image

    from handlens.data.decode import decode
    from handlens.data.masks import read_mask

    try:
        image = decode(record.path, at_least=(TILE, TILE) if dataset.task in ("classify", "tag") else None)
        mask = None
        if record.mask is not None and dataset.coding is not None:
            mask = read_mask(record.mask, dataset.coding, size=(image.shape[0], image.shape[1]))
    except InputError as error:
        reason = str(error).replace(f"{record.path}: ", "").replace(str(record.mask), "")
        return np.full((TILE, TILE, 3), 224, dtype=np.uint8), f"{record.id}\n{reason}", set()
    if mask is not None:
        return _masked_tile(dataset, image, mask)
    if record.boxes is not None:
        return _boxed_tile(dataset, image, record.boxes)
    small = _shrunk(image, Image.Resampling.LANCZOS)
    if record.tags is not None:
        return small, _caption([dataset.class_names[tag] for tag in record.tags]) or "none of the labels", set()
    return small, "no label" if record.target is None else dataset.class_names[record.target], set()


def _masked_tile(
    dataset: Dataset, image: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], str, set[int]]:
    import numpy as np
    from PIL import Image

    from handlens.drawing import with_mask

    names = dataset.class_names
    counts = np.bincount(mask.ravel(), minlength=256)[: len(names)]
    small = _shrunk(image, Image.Resampling.LANCZOS)
    drawn = with_mask(small, _shrunk(mask, Image.Resampling.NEAREST), names)
    largest = [int(index) for index in np.argsort(-counts, kind="stable")[:4] if counts[index]]
    caption = _caption([f"{names[index]} {100 * counts[index] / mask.size:.0f} %" for index in largest])
    return drawn, caption or "nothing that counts", {int(index) for index in np.flatnonzero(counts)}


def _boxed_tile(
    dataset: Dataset, image: NDArray[np.uint8], boxes: Sequence[Box]
) -> tuple[NDArray[np.uint8], str, set[int]]:
    import numpy as np
    from PIL import Image

    from handlens.drawing import with_boxes

    small = _shrunk(image, Image.Resampling.LANCZOS)
    scale = np.tile([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]], 2)
    corners = np.array([(box.left, box.top, box.right, box.bottom) for box in boxes]).reshape(-1, 4) * scale
    labels = [box.label for box in boxes]
    drawn = with_boxes(small, corners, labels, [dataset.class_names[label] for label in labels])
    counts = Counter(box.label for box in boxes)
    caption = _caption([f"{dataset.class_names[label]} {count}" for label, count in counts.most_common()])
    return drawn, caption or "no objects", set(counts)


def _caption(parts: Sequence[str]) -> str:
    """The first four, in two lines."""
    return "\n".join(", ".join(parts[start : start + 2]) for start in range(0, min(len(parts), 4), 2))


def _shrunk(image: NDArray[np.uint8], resampling: Resampling) -> NDArray[np.uint8]:
    """So large that it fills a tile: lines and names are drawn in the size in which they are seen."""
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, resampling))
