"""The images on which one model does better than another: which, what each says of them, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.flow.labeled_images import TestImages
from handlens.flow.same_images import Compared
from handlens.prediction.predictor import Predictor
from handlens.reporter import Reporter
from handlens.tasks import TASKS
from handlens.tasks.tiles import TILE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlens.data.record import Record
    from handlens.evaluation.paired import EachImage
    from handlens.runtimes.engine import Precision

DESCRIBED = 100  # images of a side whose predictions are written out
SHOWN, SHOWN_PLACES = 24, 8  # images of a sheet; of masks and boxes, which are drawn three times
GAP = 6  # pixels between them
LINES = 8  # of a caption: each of four names may need two
LONGEST, LONGEST_BESIDE = 44, 90  # characters of two lines; of one below three images
LEGEND = 40  # classes; of more, nobody tells the colors apart


@dataclass(frozen=True)
class Meaning:
    """What the labels mean, for `Task.tile`."""

    class_names: tuple[str, ...]
    kind: Any


@dataclass(frozen=True)
class Side:
    """Images on which one of two models does better, the largest difference first.

    Attributes:
        images: {"file", "first_score", "second_score"} each, and of the first ones "truth", "first" and "second".
        sheet: the first of them as a JPEG, or None where there is none.
        shown: how many are on it.
    """

    images: list[dict[str, Any]]
    sheet: bytes | None
    shown: int


def changed_sides(
    pair: tuple[Compared, Compared],
    each: tuple[EachImage, EachImage],
    test: TestImages,
    *,
    precision: Precision,
    report: Reporter,
) -> tuple[Side, Side]:
    """The images that only the first of two models got right, or got better, and those of the second.

    Args:
        test: its records are those of `each`.
    """
    import numpy as np

    apart = each[1].scores - each[0].scores
    fine = each[1].fine - each[0].fine
    first = sorted(np.flatnonzero(apart < 0).tolist(), key=lambda place: (apart[place], fine[place], place))
    second = sorted(np.flatnonzero(apart > 0).tolist(), key=lambda place: (-apart[place], -fine[place], place))
    made = _Made(pair, test, precision, report)
    return made.side(first, each), made.side(second, each)


class _Made:
    def __init__(
        self, pair: tuple[Compared, Compared], test: TestImages, precision: Precision, report: Reporter
    ) -> None:
        run = pair[0].run
        self.pair, self.test, self.report = pair, test, report
        self.task = TASKS[run.task]
        self.meaning = Meaning(run.class_names, test.kind)
        self.predictors = [Predictor(entry.run, precision=precision) for entry in pair]  # with the run's thresholds

    def side(self, places: Sequence[int], each: tuple[EachImage, EachImage]) -> Side:
        rows: list[dict[str, Any]] = [
            {
                "file": self.test.records[place].id,
                "first_score": float(each[0].scores[place]),
                "second_score": float(each[1].scores[place]),
            }
            for place in places
        ]
        on_pixels = self.task.result.on_pixels
        most = SHOWN_PLACES if on_pixels else SHOWN
        records = [self.test.records[place] for place in places[: most if on_pixels else DESCRIBED]]
        streams = [predictor.predict(record.path for record in records) for predictor in self.predictors]
        images: list[NDArray[np.uint8]] = []
        captions, colored = [], False
        for done, (row, record, *answers) in enumerate(zip(rows, records, *streams, strict=False), start=1):
            results = [answer.result for answer in answers]
            if None in results:
                raise InputError(f"{record.path} could be read before and cannot be read now.")
            tile = self.task.tile(record, self.meaning)
            colored |= bool(tile.classes)
            row["truth"] = tile.caption.replace("\n", " ")
            row["first"], row["second"] = (result.caption() for result in results if result is not None)
            if len(images) < most:
                images.append(self._beside(record, tile.image, results) if on_pixels else tile.image)
                captions.append(self._caption(record, row))
            self.report.progress("drawing changed images", done, len(records))
        return Side(rows, self._sheet(images, captions, colored) if images else None, len(images))

    def _caption(self, record: Record, row: dict[str, Any]) -> str:
        wide = self.task.result.on_pixels
        most = LONGEST_BESIDE if wide else LONGEST
        first, second = (_cut(entry.name, most // 2) for entry in self.pair)
        said = (f"truth: {row['truth']}", f"{first}: {row['first']}", f"{second}: {row['second']}")
        name = _cut(record.path.name, most)
        if not wide and len(name) > most // 2 and " " not in name:  # else a line of the caption would cut it
            name = f"{name[: most // 2]}\n{name[most // 2 :]}"
        return "\n".join((name, *(_cut(text, most, end=False) for text in said)))

    def _beside(self, record: Record, truth: NDArray[np.uint8], results: Sequence[Any]) -> NDArray[np.uint8]:
        import numpy as np

        from handlens.data.decode import decode

        image = decode(record.path)
        drawn = [truth, *(result.on_tile(image, TILE) for result in results)]
        gap = np.full((truth.shape[0], GAP, 3), 255, dtype=np.uint8)
        return np.concatenate([drawn[0], gap, drawn[1], gap, drawn[2]], axis=1)

    def _sheet(self, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], colored: bool) -> bytes:
        from handlens.drawing import with_legend
        from handlens.evaluation.contact_sheet import contact_sheet, jpeg_bytes

        if not self.task.result.on_pixels:
            return jpeg_bytes(contact_sheet(images, captions, tile=240, lines=LINES))
        width, height = (max(image.shape[axis] for image in images) for axis in (1, 0))
        sheet = contact_sheet(images, captions, columns=1, tile=width, tile_height=height, lines=LINES)
        if colored:
            sheet = with_legend(sheet, dict(enumerate(self.meaning.class_names[:LEGEND])))
        return jpeg_bytes(sheet)


def _cut(text: str, most: int, *, end: bool = True) -> str:
    """No longer than two lines of a caption: its end, where names differ, or its beginning."""
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if end else f"{text[: most - 1]}…"
