"""What predict and check write for people: CSV, JSON lines, annotated copies, contact sheets."""

from __future__ import annotations

import csv as csv_module
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from handlens.errors import InputError
from handlens.files import atomic_path, write_bytes, write_text
from handlens.results import Boxes, Mask, Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.data.check import Audit
    from handlens.prediction.predictor import Prediction

SHEET_LIMIT = 400  # tiles; a sheet of more is no longer looked at
TILE = 160  # pixels


class PredictionWriter:
    """Writes predictions as they come. A CSV appears whole or not at all; where Ctrl-C ended it, the rows so far are
    kept beside it as NAME.partial.csv.

    Args:
        kind: of the results, for the table's columns.
        csv: file for id, what the results say, and error (UTF-8 with BOM). An image has a row at least, with
            detection one per object, with segmentation one per class.
        category_ids: of the classes, in a COCO result list; None counts from 1.
        as_json: one JSON object per line to `print_line`; otherwise, without a csv, tab-separated text.
        images: folder for copies with the answer on them or below.
        masks: folder for class maps as PNG, of segmentation only.
        coco: file for a COCO result list, of detection only: image_id is the number that is the file's name, as in
            COCO, or else the image's place in the list, from 1; file_name stands beside it.
        yolo: folder for a YOLO text per image, with scores, and classes.txt; of detection only.
        sheet: file for one contact sheet of the first SHEET_LIMIT images.
        top: classes per image.

    Attributes:
        count: images written so far.
        partial: where the rows of an interrupted CSV are, or None.
    """

    def __init__(
        self,
        kind: type[Result],
        *,
        csv: Path | None = None,
        as_json: bool = False,
        images: Path | None = None,
        masks: Path | None = None,
        coco: Path | None = None,
        yolo: Path | None = None,
        sheet: Path | None = None,
        category_ids: Sequence[int] | None = None,
        top: int = 1,
        print_line: Callable[[str], None],
    ) -> None:
        if yolo and yolo.is_dir() and any(yolo.iterdir()):
            raise InputError(f"--yolo {yolo} is not empty; choose a new folder.")
        if masks and kind is not Mask:
            raise InputError("--masks needs a segmentation model.")
        if (coco or yolo) and kind is not Boxes:
            raise InputError("--coco and --yolo need a detection model.")
        self.columns = kind.columns(top)
        self.category_ids = category_ids
        self.masks, self.coco, self.yolo = masks, coco, yolo
        self.csv, self.as_json, self.images, self.sheet, self.top = csv, as_json, images, sheet, top
        self.print_line = print_line
        self.count = 0
        self.partial: Path | None = None
        self._stack = ExitStack()
        self._image_ids: set[int] = set()
        self._rows: Any = None
        self._tiles: list[NDArray[Any]] = []
        self._captions: list[str] = []

    def __enter__(self) -> PredictionWriter:
        if self.sheet:
            sheet_format(self.sheet)
        if self.csv:
            temporary = self._stack.enter_context(atomic_path(self.csv))
            self._file: TextIO = self._stack.enter_context(temporary.open("w", encoding="utf-8-sig", newline=""))
            self._rows = csv_module.writer(self._file)
            self._rows.writerow(["id", *self.columns, "error"])
        if self.coco:
            temporary = self._stack.enter_context(atomic_path(self.coco))
            self._results: TextIO = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
            self._results.write("[")
            self._separator = "\n"
        for folder in (self.images, self.masks, self.yolo):
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self.csv and kind is not None and issubclass(kind, KeyboardInterrupt):
            self._file.flush()
            self.partial = self.csv.with_suffix(f".partial{self.csv.suffix}")
            with atomic_path(self.partial) as kept:
                shutil.copyfile(self._file.name, kept)
        if self.coco:
            self._results.write("\n]\n")
        self._stack.__exit__(kind, error, trace)
        if kind is None and self.sheet and self._tiles:
            save_sheet(self._tiles, self._captions, self.sheet)

    def write(self, prediction: Prediction) -> None:
        self.count += 1
        self._write_row(prediction)
        if prediction.result is None:
            return
        if self.images:
            self._write_image(prediction)
        if self.masks and isinstance(prediction.result, Mask):
            write_bytes(_new_name(self.masks, prediction.path), prediction.result.png())
        if isinstance(prediction.result, Boxes):
            self._write_boxes(prediction.path, prediction.result)
        if self.sheet and len(self._tiles) < SHEET_LIMIT:
            self._tiles.append(_thumbnail(self._tile(prediction)))
            self._captions.append(prediction.result.caption())

    def _write_row(self, prediction: Prediction) -> None:
        result = prediction.result
        rows = result.rows(self.top) if result else []
        if self._rows:
            for row in rows or [[]]:  # an image of which there is nothing to say has a row all the same
                padding = [""] * (len(self.columns) - len(row))
                self._rows.writerow([str(prediction.path), *row, *padding, prediction.error or ""])
        if self.as_json:
            value: dict[str, Any] = {"id": str(prediction.path)}
            value |= result.to_dict(self.top) if result else {"error": prediction.error}
            self.print_line(json.dumps(value, ensure_ascii=False))
        elif result and not self.csv:
            for row in rows or [[]]:
                self.print_line("\t".join([str(prediction.path), *row]))

    def _write_boxes(self, path: Path, boxes: Boxes) -> None:
        if self.coco:
            for row in boxes.to_coco(self._image_id(path), self.category_ids):
                self._results.write(self._separator + json.dumps(row | {"file_name": path.name}, ensure_ascii=False))
                self._separator = ",\n"
        if self.yolo:
            if not (self.yolo / "classes.txt").exists():  # with the first image
                write_text(self.yolo / "classes.txt", "".join(f"{name}\n" for name in boxes.names))
            lines = "".join(f"{line}\n" for line in boxes.to_yolo())
            write_text(_new_name(self.yolo, path, suffix=".txt"), lines)

    def _image_id(self, path: Path) -> int:
        """The number that is the file's name, or the image's place; or the next that no other image has."""
        id = int(path.stem) if path.stem.isdecimal() else self.count
        while id in self._image_ids:
            id += 1
        self._image_ids.add(id)
        return id

    def _tile(self, prediction: Prediction) -> NDArray[Any]:
        """What has a place in the image is drawn there, at full size; the rest stands in the caption."""
        from handlens.data.decode import decode

        assert prediction.result is not None
        if prediction.result.on_pixels:
            return prediction.result.draw(decode(prediction.path))
        return decode(prediction.path, at_least=(TILE, TILE))

    def _write_image(self, prediction: Prediction) -> None:
        from PIL import Image

        from handlens.data.decode import decode

        assert self.images is not None and prediction.result is not None
        drawn = prediction.result.draw(decode(prediction.path))
        photo = prediction.path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
        suffix, format = (".jpg", "JPEG") if photo else (".png", "PNG")
        with atomic_path(_new_name(self.images, prediction.path, suffix=suffix)) as temporary:
            Image.fromarray(drawn).save(temporary, format, **({"quality": 90} if photo else {}))


def _new_name(folder: Path, image: Path, *, suffix: str = ".png") -> Path:
    """<name>.png, or <name>-2.png ...: two folders may hold images of one name, and nothing is overwritten."""
    target, number = folder / f"{image.stem}{suffix}", 1
    while target.exists():
        number += 1
        target = folder / f"{image.stem}-{number}{suffix}"
    return target


def suspects_sheet(audit: Audit, suspected: Sequence[dict[str, Any]], path: Path) -> Path:
    """A contact sheet of images with a suspected label error."""
    from handlens.data.decode import decode

    files = {record.id: record.path for record in audit.dataset.records}
    shown = suspected[:SHEET_LIMIT]
    tiles = [_thumbnail(decode(files[entry["file"]], at_least=(TILE, TILE))) for entry in shown]
    captions = [f"{entry['label']}? {entry['suggested']} {100 * entry['probability']:.0f} %" for entry in shown]
    return save_sheet(tiles, captions, path)


def save_sheet(tiles: Sequence[NDArray[Any]], captions: Sequence[str], path: Path) -> Path:
    """
    Raises:
        InputError: the name does not end in .png, .jpg or .jpeg.
    """
    from PIL import Image

    from handlens.evaluation.contact_sheet import contact_sheet

    format = sheet_format(path)
    with atomic_path(path) as temporary:
        Image.fromarray(contact_sheet(tiles, captions)).save(temporary, format)
    return path


def sheet_format(path: Path) -> str:
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise InputError(f"a contact sheet is a .png or .jpg file, got {path}.")
    return kinds[path.suffix.lower()]


def _thumbnail(image: NDArray[Any]) -> NDArray[Any]:
    """A copy no larger than a tile, so that a sheet of many images stays small in memory."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((TILE, TILE))
    return np.asarray(small)
