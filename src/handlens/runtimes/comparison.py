"""The gate: an export is done when its own runtime, in a process without PyTorch and without handlens, answers
as PyTorch does. What an app's own resize changes is stated beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.agreement import TOLERANCE, Agreement
from handlens.runtimes.engine import Arrays
from handlens.runtimes.parity import FULL, OWN, OtherKernels, Parity, Row
from handlens.runtimes.resizers import RESIZERS
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.separate import run_outside

BATCH = 16  # images
ROUNDING, MAPS_CHANGE = 0.10, 0.15  # other kernels: of labels, by rounding alone at most; of pixels or boxes, bearable
KERNEL_IMAGES, KERNEL_SECONDS, SLOWER = 48, 15, 20  # images at most, and as many as take so long with slow kernels
FEWEST_LABELS, FEWEST_MAPS = 14, 4  # images nevertheless: of a label each, and of many pixels or boxes each
Z_95 = 1.96
UNLABELED = 0.95  # of the labels, pixels or boxes must be the same where nothing says which are right
SMALLEST_GROUP = 10  # images, for metrics that are no means
GROUPS, STUDENT = 10, 2.262  # parts of the images; 97.5 % quantile of Student's t with one degree of freedom less
Pixels = NDArray[np.uint8]


class Score(Protocol):
    def __call__(self, arrays: Arrays, keep: Sequence[int] | None = None) -> float | None:
        """Of predictions (N, ...) for the images of a Proof, or for some of them, by the task's metric."""
        ...


@dataclass(frozen=True)
class Proof:
    """Images as files of pixels, and what PyTorch answers.

    Attributes:
        folder: own/0.npy, each image as the model takes it; others/<number>.npy, by each resizer. Each file is batches,
            one array after the other.
        expected: arrays (N, ...) by output name, on Preprocess's pixels.
        score: None where there are no labels.
        available: how many images there are, of which these are some.
        resizers: names, in the order of the files.
        any_size: the model is given the full images and resizes inside.
    """

    folder: Path
    ids: tuple[str, ...]
    expected: Arrays
    score: Score
    available: int
    resizers: tuple[str, ...]
    any_size: bool

    def interval(self, values: Arrays) -> tuple[float, float] | None:
        """As `Row.score_interval`, by the method of random groups: the spread of the change over GROUPS parts of the
        images.

        Source: Wolter 2007, Introduction to Variance Estimation, chapter 2.
        """
        if len(self.ids) < SMALLEST_GROUP * GROUPS:
            return None
        groups = [range(first, len(self.ids), GROUPS) for first in range(GROUPS)]
        scores = [(self.score(values, part), self.score(self.expected, part)) for part in [None, *groups]]
        changes = [its - reference for its, reference in scores if its is not None and reference is not None]
        if len(changes) < len(scores) or not np.isfinite(changes).all():
            return None
        change, *parts = changes
        margin = STUDENT * float(np.std(parts, ddof=1)) / GROUPS**0.5
        return change - margin, change + margin


def prepare(
    folder: Path,
    images: Iterable[tuple[str, Pixels]],
    *,
    preprocess: Preprocess,
    reference: Callable[[Pixels], Arrays],
    score: Score,
    available: int,
    any_size: bool = False,
    with_resizers: bool = True,
) -> Proof:
    """
    Args:
        folder: an empty one, which is filled.
        images: (id, decoded image (H, W, 3) uint8 at full size), each taken once.
        reference: PyTorch fp32, (N, height, width, C) uint8 -> arrays (N, ...) by output name.
        with_resizers: also pixels as apps resize otherwise; not of a model that resizes.
    """
    resizers = RESIZERS if with_resizers and not any_size else {}
    ids: list[str] = []
    expected: list[Arrays] = []
    with ExitStack() as stack:
        files = []
        for place, count in (("own", 1), ("others", len(resizers))):
            (folder / place).mkdir()
            files += [stack.enter_context((folder / place / f"{number}.npy").open("wb")) for number in range(count)]
        for chunk in _chunks(images, 1 if any_size else BATCH):
            ids += [name for name, _ in chunk]
            pixels = np.stack([preprocess.pixels(image) for _, image in chunk])
            expected.append(reference(pixels))
            np.save(files[0], chunk[0][1][None] if any_size else pixels)
            for file, resize in zip(files[1:], resizers.values(), strict=True):
                np.save(file, np.stack([resize(image, preprocess) for _, image in chunk]))
    answers = {name: np.concatenate([part[name] for part in expected]) for name in expected[0]}
    return Proof(folder, tuple(ids), answers, score, available, tuple(resizers), any_size)


def measure_parity(
    model: Path,
    proof: Proof,
    *,
    task: str,
    compare: Callable[..., Agreement],
    changed: Callable[..., float | None],
    runtime: Runtime,
    thresholds: Sequence[float] = (),
    max_drop: float | None = None,
    with_resizers: bool = True,
    other_kernels: bool = False,
    report: Reporter = QUIET,
) -> Parity:
    """
    Args:
        model: the exported file, of this runtime.
        compare, changed: as those of a Task.
        thresholds: the score from which an app shows a box; of labels, of images that may have several, one per
            class.
        max_drop: what the score may lose, of a file that is not float32; without labels, UNLABELED decides. None holds
            it to the task's comparison.
        with_resizers: also say what another resize changes.
        other_kernels: also try the runtime's other kernels; of int8.
    """
    ids, expected, score = proof.ids, proof.expected, proof.score
    resizers = proof.resizers if with_resizers else ()
    rows: list[Row] = []
    changes: list[dict[str, Any]] = []
    others: list[OtherKernels] = []
    size = sum(file.stat().st_size for file in runtime.files(model)) / 1e6
    reference_score = score(expected)
    total = (len(runtime.precisions) + len(resizers)) * len(ids)
    done = 0

    def run(precision: str, pixels: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return run_outside(
            model,
            runtime,
            precision=precision,
            pixels=proof.folder / pixels,
            done=lambda images: report.progress("comparing", done + images, total),
        )

    for precision in runtime.precisions:
        answers, described = run(precision, "own")
        done += len(ids)
        values = {output: answers[f"0/{output}"] for output in expected}
        finite = all(np.isfinite(value).all() for value in values.values())  # no metric takes anything else
        found = compare(values, expected, ids, thresholds=thresholds)
        decides = precision == "fp32"
        its_score = score(values) if finite else None
        holds = found.passed
        if max_drop is not None:
            share = changed(values, expected, thresholds=thresholds) if finite else 1.0
            found = found if share is None else replace(found, equal=1 - share)
            holds = _holds(found.equal, its_score, reference_score, max_drop)
        row = Row(
            engine=described["runtime"],
            precision=described["precision"] if decides else f"{described['precision']} (default)",
            pixels=FULL if proof.any_size else OWN,
            images=len(ids),
            **asdict(found) | {"passed": holds if decides else None},
            score=its_score,
            reference_score=reference_score,
            score_interval=proof.interval(values) if decides and finite else None,
            size_mb=size,
            latency_ms=described["latency_ms"],
            peak_mb=described["peak_mb"],
        )
        rows.append(row)
        if decides and other_kernels:
            few = int(1000 * KERNEL_SECONDS / (SLOWER * described["latency_ms"]))
            one_each = all(value.ndim == 2 for value in expected.values())
            few = max(FEWEST_LABELS if one_each else FEWEST_MAPS, min(KERNEL_IMAGES, few))
            few = min(few, len(ids))
            bearable = share_by_rounding(few) if one_each else MAPS_CHANGE
            for kernels in runtime.other_kernels:
                try:
                    slow, _ = run_outside(
                        model,
                        runtime,
                        precision=precision,
                        pixels=proof.folder / "own",
                        kernels=kernels,
                        images=few,
                    )
                except InputError as error:  # OpenVINO's code generator, of some models: no proof, and none against it
                    report.say(f"With {kernels.name}, the file could not be tried: {error}")
                    others.append(OtherKernels(kernels.name, 0, None, True, bearable))
                    continue
                its = {output: slow[f"0/{output}"] for output in expected}
                same = {name: value[:few] for name, value in values.items()}
                theirs_finite = all(np.isfinite(value).all() for value in its.values())
                share = changed(its, same, thresholds=thresholds) if theirs_finite else 1.0
                others.append(OtherKernels(kernels.name, few, share, (share or 0) <= bearable, bearable))
        if decides and resizers:
            changes.append({"pixels": OWN, "changed": 0.0, "score": row.score})
            answers, _ = run(precision, "others")
            done += len(resizers) * len(ids)
            for number, kind in enumerate(resizers):
                other = {output: answers[f"{number}/{output}"] for output in expected}
                share = changed(other, values, thresholds=thresholds)
                changes.append({"pixels": kind, "changed": share, "score": score(other) if finite else None})
    return Parity(
        task, TOLERANCE, proof.available, tuple(rows), tuple(changes), max_drop=max_drop, kernels=tuple(others)
    )


def share_by_rounding(count: int) -> float:
    """Of so many labels, the share up to which a change may be rounding and chance: above it, the 95 % interval of the
    share (Wilson 1927) lies above ROUNDING."""
    return ROUNDING + Z_95 * (ROUNDING * (1 - ROUNDING) / count) ** 0.5


def _holds(equal: float, score: float | None, reference: float | None, max_drop: float) -> bool:
    if score is None or reference is None:
        return reference is None and equal >= UNLABELED
    return reference - score <= max_drop + 1e-9  # 0.90 - 0.89 is a little more than 0.01


def _chunks(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(images)
    while chunk := list(itertools.islice(source, size)):
        yield chunk
