"""The gate: an export is done when its own runtime, in a process without PyTorch and without handlens, answers
as PyTorch does. What an app's own resize changes is stated beside it.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
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
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.agreement import TOLERANCE, Agreement
from handlens.runtimes.engine import Arrays
from handlens.runtimes.runtime import UNREADABLE, Runtime

BATCH = 16  # images
OUTSIDE = Path(__file__).with_name("outside.py")
UNLABELED = 0.95  # of the labels, pixels or boxes must be the same where nothing says which are right
OWN, FULL = "as handlens resizes", "full images, resized inside"
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One engine at one precision against PyTorch fp32 on the same pixels.

    Attributes:
        pixels: OWN, or FULL where the model resizes.
        equal: share of the labels, of the pixels or of the boxes that are the same.
        largest_difference: of a probability, or of the scores of boxes that are the same; None for class maps.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids that differ without that excuse.
        score: of these answers by the task's metric, None without labels or where they are not numbers.
        reference_score: PyTorch's.
        passed: None where the row informs and does not decide.
        size_mb: of the files, 10^6 bytes.
        latency_ms: of one image, with all cores; median.
        peak_mb: memory of the process with one image, 10^6 bytes; None where the system does not say.
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
    size_mb: float
    latency_ms: float
    peak_mb: float | None


@dataclass(frozen=True)
class Parity:
    """The report. `passed` is what the exit code follows.

    Attributes:
        task: decides what is compared: labels and probabilities, of one class or of each on its own, pixels, or boxes.
        tolerance: of a probability; of masks and boxes see `agreement`.
        available: how many images there were; `images` of a row is how many were compared.
        resizers: per way of resizing, our own first: what share of the file's labels, pixels or boxes is another than
            on our own pixels, and its score: what an app changes by resizing otherwise. None where no box reaches the
            threshold. Empty where the model resizes.
        tried: of int8, the settings that were tried on validation images: `flow.int8.quantize`.
    """

    task: str
    tolerance: float
    available: int
    rows: tuple[Row, ...]
    resizers: tuple[dict[str, Any], ...] = field(default=())
    tried: tuple[dict[str, Any], ...] = field(default=())

    @property
    def passed(self) -> bool:
        decided = [row.passed for row in self.rows if row.passed is not None]
        return bool(decided) and all(decided)

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed} | asdict(self)


def measure_parity(
    model: Path,
    *,
    task: str,
    compare: Callable[..., Agreement],
    changed: Callable[..., float | None],
    runtime: Runtime,
    images: Iterable[tuple[str, Pixels]],
    available: int,
    preprocess: Preprocess,
    reference: Callable[[Pixels], Arrays],
    score: Callable[[Arrays], float | None],
    any_size: bool = False,
    thresholds: Sequence[float] = (),
    max_drop: float | None = None,
    with_resizers: bool = True,
    report: Reporter = QUIET,
) -> Parity:
    """
    Args:
        model: the exported file, of this runtime.
        compare, changed: as those of a Task.
        images: (id, decoded image (H, W, 3) uint8 at full size), each taken once: what is kept of them is on disk.
        available: how many images there are, of which `images` are some.
        reference: PyTorch fp32, (N, height, width, C) uint8 -> arrays (N, ...) by output name.
        score: the answers to all the images -> the task's metric, or None where it is not known.
        thresholds: the score from which an app shows a box; of labels, of images that may have several, one per
            class.
        any_size: the model resizes inside: it is given the full images, and compared with PyTorch on
            Preprocess's pixels.
        max_drop: what the score may lose, of a file that is not float32; without labels, UNLABELED decides. None holds
            it to the task's comparison.
        with_resizers: also say what another resize changes.
    """
    resizers = RESIZERS if with_resizers and not any_size else {}
    rows: list[Row] = []
    changes: list[dict[str, Any]] = []
    size = sum(file.stat().st_size for file in runtime.files(model)) / 1e6
    with tempfile.TemporaryDirectory() as scratch:
        own, others = Path(scratch) / "own", Path(scratch) / "others"
        ids, expected = _write_pixels(own, others, resizers, images, preprocess, reference, any_size=any_size)
        reference_score = score(expected)
        passes = len(runtime.precisions) + len(resizers)
        done = 0

        def run(precision: str, pixels: Path) -> tuple[dict[str, Any], dict[str, Any]]:
            return run_outside(
                model,
                runtime,
                precision=precision,
                pixels=pixels,
                done=lambda images: report.progress("comparing", done + images, passes * len(ids)),
            )

        for precision in runtime.precisions:
            answers, described = run(precision, own)
            done += len(ids)
            values = {output: answers[f"0/{output}"] for output in expected}
            finite = all(np.isfinite(value).all() for value in values.values())  # no metric takes anything else
            found = compare(values, expected, ids, thresholds=thresholds)
            decides = precision == "fp32"
            its_score = score(values) if finite else None
            holds = found.passed if max_drop is None else _holds(found.equal, its_score, reference_score, max_drop)
            row = Row(
                engine=described["runtime"],
                precision=described["precision"] if decides else f"{described['precision']} (default)",
                pixels=FULL if any_size else OWN,
                images=len(ids),
                **asdict(found) | {"passed": holds if decides else None},
                score=its_score,
                reference_score=reference_score,
                size_mb=size,
                latency_ms=described["latency_ms"],
                peak_mb=described["peak_mb"],
            )
            rows.append(row)
            if decides and resizers:
                changes.append({"pixels": OWN, "changed": 0.0, "score": row.score})
                answers, _ = run(precision, others)
                done += len(resizers) * len(ids)
                for number, kind in enumerate(resizers):
                    other = {output: answers[f"{number}/{output}"] for output in expected}
                    share = changed(other, values, thresholds=thresholds)
                    changes.append({"pixels": kind, "changed": share, "score": score(other) if finite else None})
    return Parity(task, TOLERANCE, available, tuple(rows), tuple(changes))


def _holds(equal: float, score: float | None, reference: float | None, max_drop: float) -> bool:
    if score is None or reference is None:
        return reference is None and equal >= UNLABELED
    return reference - score <= max_drop


def _write_pixels(
    own: Path,
    others: Path,
    resizers: Mapping[str, Callable[[Pixels, Preprocess], Pixels]],
    images: Iterable[tuple[str, Pixels]],
    preprocess: Preprocess,
    reference: Callable[[Pixels], Arrays],
    *,
    any_size: bool,
) -> tuple[list[str], Arrays]:
    """Every image as the model takes it in <own>/0.npy, and by each resizer in <others>/<number>.npy.

    Each file is batches, one array after the other.

    Returns:
        the images' ids, and what PyTorch answers to Preprocess's pixels.
    """
    ids: list[str] = []
    expected: list[Arrays] = []
    with ExitStack() as stack:
        files = []
        for folder, count in ((own, 1), (others, len(resizers))):
            folder.mkdir()
            files += [stack.enter_context((folder / f"{number}.npy").open("wb")) for number in range(count)]
        for chunk in _chunks(images, 1 if any_size else BATCH):
            ids += [name for name, _ in chunk]
            pixels = np.stack([preprocess.pixels(image) for _, image in chunk])
            expected.append(reference(pixels))
            np.save(files[0], chunk[0][1][None] if any_size else pixels)
            for file, resize in zip(files[1:], resizers.values(), strict=True):
                np.save(file, np.stack([resize(image, preprocess) for _, image in chunk]))
    return ids, {name: np.concatenate([part[name] for part in expected]) for name in expected[0]}


def _chunks(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(images)
    while chunk := list(itertools.islice(source, size)):
        yield chunk


def run_outside(
    model: Path,
    runtime: Runtime,
    *,
    precision: str,
    pixels: Path,
    done: Callable[[int], None] = lambda images: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a model in a new process that imports its runtime and NumPy only.

    Args:
        pixels: a folder of .npy files, in each of which batches follow each other.
        done: told how many images have been run.

    Returns:
        arrays by "file/output"; and runtime (with its version), precision, latency_ms and peak_mb.

    Raises:
        InputError: the runtime cannot read the model.
        RuntimeError: the process failed otherwise; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "out.npz"
        parts = (OUTSIDE, runtime.runner, model, pixels, destination, precision)
        # ONNX Runtime leaves a device identifier in the user's cache: it gets a home that is thrown away.
        homes = {"HOME": folder, "XDG_CACHE_HOME": folder}
        said: list[str] = []
        last = ""
        with subprocess.Popen(
            [sys.executable, "-I", *map(str, parts)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=os.environ | homes,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            reader = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
            reader.start()
            try:
                for line in process.stdout:
                    last = line
                    if line.startswith("done "):
                        done(int(line.removeprefix("done ")))
            except BaseException:
                process.kill()  # after Ctrl-C
                raise
            reader.join()
        errors = "".join(said).strip()
        if process.returncode == UNREADABLE:
            raise InputError(errors.splitlines()[-1])
        if process.returncode:
            raise RuntimeError(f"{runtime.name} could not run {model}:\n{errors}")
        with np.load(destination) as loaded:
            return dict(loaded), json.loads(last)


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
