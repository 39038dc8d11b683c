"""The images that an export is proved with, and how good answers to them are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from handlens.data import walk
from handlens.data.decode import UnreadableImageError, decode
from handlens.data.labels.kind import Kind
from handlens.data.record import Record
from handlens.errors import InputError
from handlens.flow.labeled_images import test_images
from handlens.reporter import QUIET, Reporter
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlens.runtimes.engine import Arrays
EXAMPLES = 4  # images that tell how long one takes


class ProofImages:
    """Images of the run's test or validation split, or of `data`, or the run's golden ones.

    Args:
        prefer: as of `test_images`.
        report: told why labels are not used.

    Attributes:
        labeled: there are labels, so that answers have a score.

    Raises:
        InputError: there are no images.
    """

    def __init__(
        self,
        run: Run,
        data: Path | str | None,
        *,
        prefer: Literal["test", "validation"] = "test",
        report: Reporter = QUIET,
    ) -> None:
        self.run = run
        found, self.kind, self.labeled = _found(run, data, prefer, report)
        self.records = list(found)
        self._sizes: dict[str, tuple[int, int]] = {}  # (height, width) of those that could be read

    def __len__(self) -> int:
        return len(self.records)

    def keep(self, count: int) -> None:
        """At most so many of them, spread evenly."""
        chosen = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        self.records = [self.records[i] for i in chosen]

    def examples(self) -> list[NDArray[np.uint8]]:
        """A few of them, (H, W, 3) uint8; those that cannot be read are left out."""
        found = []
        for place in np.linspace(0, len(self) - 1, min(EXAMPLES, len(self))).astype(int):
            try:
                found.append(decode(self.records[place].path))
            except UnreadableImageError:  # as in `decoded`
                continue
        return found

    def decoded(self, report: Reporter) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """(id, (H, W, 3) uint8), one at a time at full size.

        Raises:
            InputError: not one can be read.
        """
        for done, record in enumerate(self.records, start=1):
            report.progress("reading images", done, len(self))
            try:
                image = decode(record.path)
            except UnreadableImageError:  # the audit and evaluate name them; the proof needs images, not these ones
                continue
            self._sizes[record.id] = image.shape[0], image.shape[1]
            yield record.id, image
        if not self._sizes:
            raise InputError(
                f"none of the {len(self)} images for the parity check can be read; give others with --data."
            )

    def score(self, arrays: Arrays, keep: Sequence[int] | None = None) -> float | None:
        """What `evaluate` would say of these answers, by the task's metric; None without labels, or where the metric is
        not defined for them, as mAP is not of images without an object.

        Args:
            arrays: (N, ...) by output name, of the images that `decoded` gave, in its order.
            keep: places of those that count; None is all.
        """
        if not self.labeled:
            return None
        run, task = self.run, TASKS[self.run.task]
        measure = task.measure(run, self.kind)
        readable = [record for record in self.records if record.id in self._sizes]
        for place in range(len(readable)) if keep is None else keep:
            record = readable[place]
            answer = {name: values[place] for name, values in arrays.items()}
            height, width = self._sizes[record.id]
            result = task.answer(
                answer,
                height,
                width,
                preprocess=run.preprocess,
                names=run.class_names,
                thresholds=() if task.evaluated_at is not None else task.thresholds(run.model.chosen),
            )
            try:
                measure.add(record, result)
            except InputError:  # of its mask: evaluate names it
                continue
        if not measure.records:
            return None
        try:
            value = measure.metrics()[task.metric]
        except InputError:  # masks of nothing but ignored pixels
            return None
        return None if value is None else float(value)


def _found(
    run: Run, data: Path | str | None, prefer: Literal["test", "validation"], report: Reporter
) -> tuple[Sequence[Record], Kind | None, bool]:
    """Records, the kind of their labels, and whether they are labeled."""
    if data is None and not run.has_images:
        folder = run.golden()
        golden = [] if folder is None else _loose(folder)
        if not golden:
            raise InputError(f"there are no images for the parity check of {run.folder.name}; give some with --data.")
        return golden, None, False
    try:
        test = test_images(run, data, format=None, config=None, prefer=prefer)
    except InputError as error:
        loose = _loose(Path(data)) if data is not None and Path(data).is_dir() else []  # a comparison needs no labels
        if not loose:
            raise
        report.say(f"The images of {data} are used without labels: {error}")
        return loose, None, False
    if prefer == "validation" and test.split == "test":
        report.say(f"{test.root} has test images alone: what is chosen on them is also measured on them.")
    return test.records, test.kind, True


def _loose(folder: Path) -> list[Record]:
    return [Record(path=path, id=path.name) for path in walk([folder])]
