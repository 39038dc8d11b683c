"""The gate: an export is done when its own runtime, in a process without PyTorch and without handlens, answers
as PyTorch does on pixels that our Preprocess did not make.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlens.errors import InputError
from handlens.preprocess import Preprocess
from handlens.runtimes.agreement import TOLERANCE, Agreement
from handlens.runtimes.engine import Arrays
from handlens.runtimes.runtime import UNREADABLE, Runtime

BATCH = 16  # images
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One engine at one precision on the pixels of one resizer, against PyTorch fp32.

    Attributes:
        equal: share of the labels, of the pixels or of the boxes that are the same.
        largest_difference: of a probability, or of the scores of boxes that are the same; None for class maps.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids that differ without that excuse.
        score: of these answers by the task's metric, None without labels or where they are not numbers.
        reference_score: PyTorch's on the same pixels.
        passed: None where the row informs and does not decide.
    """

    engine: str
    precision: str
    pixels: str
    images: int
    equal: float
    largest_difference: float | None
    excused: tuple[str, ...]
    differing: tuple[str, ...]
    score: float | None
    reference_score: float | None
    passed: bool | None


@dataclass(frozen=True)
class Parity:
    """The report. `passed` is what the exit code follows.

    Attributes:
        task: decides what is compared: labels and probabilities, of one class or of each on its own, pixels, or boxes.
        tolerance: of a probability; of masks and boxes see `agreement`.
        resizers: per way of resizing, what share of the labels, pixels or boxes is another than on Preprocess's
            pixels, both in PyTorch: what an app changes by resizing otherwise. None where no box reaches the threshold.
    """

    task: str
    tolerance: float
    rows: tuple[Row, ...]
    resizers: tuple[dict[str, Any], ...] = field(default=())

    @property
    def passed(self) -> bool:
        decided = [row.passed for row in self.rows if row.passed is not None]
        return bool(decided) and all(decided)

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "passed": self.passed,
            "tolerance": self.tolerance,
            "rows": [asdict(row) for row in self.rows],
            "resizers": list(self.resizers),
        }


def measure_parity(
    model: Path,
    *,
    task: str,
    compare: Callable[..., Agreement],
    changed: Callable[..., float | None],
    runtime: Runtime,
    images: Iterable[tuple[str, Pixels]],
    preprocess: Preprocess,
    reference: Callable[[Pixels], Arrays],
    score: Callable[[Arrays], float | None],
    any_size: bool = False,
    thresholds: Sequence[float] = (),
) -> Parity:
    """
    Args:
        model: the exported file, of this runtime.
        compare, changed: as those of a Task.
        images: (id, decoded image (H, W, 3) uint8 at full size), each taken once: what is kept of them is on disk.
        reference: PyTorch fp32, (N, height, width, C) uint8 -> arrays (N, ...) by output name.
        score: the answers to all the images -> the task's metric, or None where it is not known.
        thresholds: the score from which an app shows a box; of labels, of images that may have several, one per
            class.
        any_size: the model resizes inside: it is given the full images, and compared with PyTorch on
            Preprocess's pixels.
    """
    kinds = {"full images, resized inside": lambda image, _: image} if any_size else RESIZERS
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        pixels = Path(scratch) / "pixels"
        pixels.mkdir()
        proof = _write_pixels(pixels, kinds, images, preprocess=preprocess, reference=reference, any_size=any_size)
        reference_scores = {kind: score(values) for kind, values in proof.expected.items()}
        for precision in runtime.precisions:
            answers, engine = run_outside(model, runtime, precision=precision, pixels=pixels)
            name, computed = engine.rsplit(" ", 1)
            decides = precision == "fp32"
            for number, (kind, expected) in enumerate(proof.expected.items()):
                values = {output: answers[f"{number}/{output}"] for output in expected}
                finite = all(np.isfinite(value).all() for value in values.values())  # no metric takes anything else
                found = compare(values, expected, proof.ids, thresholds=thresholds)
                row = Row(
                    engine=name,
                    precision=computed if decides else f"{computed} (default)",
                    pixels=kind,
                    images=len(proof.ids),
                    **asdict(found) | {"passed": found.passed if decides else None},
                    score=score(values) if finite else None,
                    reference_score=reference_scores[kind],
                )
                rows.append(row)
    if any_size:
        return Parity(task, TOLERANCE, tuple(rows))
    resizers = tuple(
        {
            "pixels": kind,
            "changed": changed(values, proof.own, thresholds=thresholds),
            "score": reference_scores[kind],
        }
        for kind, values in proof.expected.items()
    )
    return Parity(task, TOLERANCE, tuple(rows), resizers)


@dataclass(frozen=True)
class _Proof:
    """What PyTorch answers.

    Attributes:
        own: the answers to Preprocess's pixels. expected: those to each kind's (to Preprocess's again, where the model
            resizes inside).
    """

    ids: list[str]
    own: Arrays
    expected: dict[str, Arrays]


def _write_pixels(
    folder: Path,
    kinds: Mapping[str, Callable[[Pixels, Preprocess], Pixels]],
    images: Iterable[tuple[str, Pixels]],
    *,
    preprocess: Preprocess,
    reference: Callable[[Pixels], Arrays],
    any_size: bool,
) -> _Proof:
    """Every image as every kind of pixels, in <number of the kind>.npy: batches, one array after the other."""
    ids: list[str] = []
    own: list[Arrays] = []
    expected: dict[str, list[Arrays]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{number}.npy").open("wb")) for number in range(len(kinds))]
        for chunk in _chunks(images, 1 if any_size else BATCH):
            ids += [name for name, _ in chunk]
            own.append(reference(np.stack([preprocess.pixels(image) for _, image in chunk])))
            for file, (kind, resize) in zip(files, kinds.items(), strict=True):
                batch = np.stack([resize(image, preprocess) for _, image in chunk])
                np.save(file, batch)
                expected[kind].append(own[-1] if any_size else reference(batch))
    return _Proof(ids, _joined(own), {kind: _joined(parts) for kind, parts in expected.items()})


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _chunks(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(images)
    while chunk := list(itertools.islice(source, size)):
        yield chunk


def run_outside(model: Path, runtime: Runtime, *, precision: str, pixels: Path) -> tuple[dict[str, Any], str]:
    """Run a model in a new process that imports its runtime and numpy only.

    Args:
        pixels: a folder of .npy files, in each of which batches follow each other.

    Returns:
        arrays by "file/output", and "runtime version precision".

    Raises:
        InputError: the runtime cannot read the model.
        RuntimeError: the process failed otherwise; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "out.npz"
        command = [sys.executable, "-I", str(runtime.runner), str(model), str(pixels), str(destination), precision]
        # ONNX Runtime leaves a device identifier in the user's cache: it gets a home that is thrown away.
        homes = {"HOME": folder, "XDG_CACHE_HOME": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | homes)
        if done.returncode == UNREADABLE:
            raise InputError(done.stderr.strip().splitlines()[-1])
        if done.returncode:
            raise RuntimeError(f"{runtime.name} could not run {model}:\n{done.stderr.strip()}")
        with np.load(destination) as loaded:
            return dict(loaded), done.stdout.strip().splitlines()[-1]


def _with(resize: Callable[[Pixels, int, int], Pixels]) -> Callable[[Pixels, Preprocess], Pixels]:
    """The geometry that Preprocess states, with another library's resize: what an app would write."""

    def apply(image: Pixels, preprocess: Preprocess) -> Pixels:
        height, width = image.shape[:2]
        if preprocess.resize == "crop":
            scale = preprocess.short_side / min(height, width)
            image = resize(image, round(height * scale), round(width * scale))
            top = (image.shape[0] - preprocess.height) // 2
            left = (image.shape[1] - preprocess.width) // 2
            image = image[top : top + preprocess.height, left : left + preprocess.width]
        elif preprocess.resize == "stretch":
            image = resize(image, preprocess.height, preprocess.width)
        else:
            scale = min(preprocess.height / height, preprocess.width / width)
            small = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
            image = np.full((preprocess.height, preprocess.width, 3), 114, dtype=np.uint8)
            top, left = (preprocess.height - small.shape[0]) // 2, (preprocess.width - small.shape[1]) // 2
            image[top : top + small.shape[0], left : left + small.shape[1]] = small
        if preprocess.color == "gray":
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)[:, :, None]
        return np.ascontiguousarray(image)

    return apply


def _opencv(interpolation: int) -> Callable[[Pixels, int, int], Pixels]:
    return lambda x, h, w: np.asarray(cv2.resize(x, (w, h), interpolation=interpolation), dtype=np.uint8)


RESIZERS: dict[str, Callable[[Pixels, Preprocess], Pixels]] = {
    "Pillow bilinear": _with(lambda x, h, w: np.asarray(Image.fromarray(x).resize((w, h), Image.Resampling.BILINEAR))),
    "OpenCV linear (no antialias)": _with(_opencv(cv2.INTER_LINEAR)),
    "OpenCV area": _with(_opencv(cv2.INTER_AREA)),
    "nearest (no antialias)": _with(_opencv(cv2.INTER_NEAREST)),
}
