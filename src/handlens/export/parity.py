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

from handlens.deploy.graph_names import PROBABILITIES
from handlens.preprocess import Preprocess

TOLERANCE = 1e-4  # of a probability, in f32
RESIZE_TOLERANCE = 2e-2  # one level of 255 in some pixels, where the two resizes round differently
BATCH = 16  # pictures
RUNNERS = Path(__file__).parent / "runners"
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One engine at one precision on the pixels of one resizer, against PyTorch fp32.

    Attributes:
        labels_equal: share of pictures whose label is the same.
        largest_difference: of any probability.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids whose label differs without that excuse.
        top1: share of right labels, None without labels; reference_top1: PyTorch's on the same pixels.
        passed: None where the row informs and does not decide.
    """

    engine: str
    precision: str
    pixels: str
    pictures: int
    labels_equal: float
    largest_difference: float
    excused: tuple[str, ...]
    differing: tuple[str, ...]
    top1: float | None
    reference_top1: float | None
    passed: bool | None


@dataclass(frozen=True)
class Parity:
    """The report. `passed` is what the exit code follows.

    Attributes:
        resizers: per way of resizing, how many labels differ from those on Preprocess's pixels, both in PyTorch:
            what an app changes by resizing otherwise.
    """

    tolerance: float
    rows: tuple[Row, ...]
    resizers: tuple[dict[str, Any], ...] = field(default=())

    @property
    def passed(self) -> bool:
        decided = [row.passed for row in self.rows if row.passed is not None]
        return bool(decided) and all(decided)

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "tolerance": self.tolerance,
            "rows": [asdict(row) for row in self.rows],
            "resizers": list(self.resizers),
        }


def measure_parity(
    model: Path,
    *,
    runner: str,
    precisions: Sequence[str],
    images: Iterable[tuple[str, Pixels, int | None]],
    preprocess: Preprocess,
    reference: Callable[[Pixels], Floats],
    any_size: bool = False,
) -> Parity:
    """
    Args:
        model: the exported file. runner: "onnx" or "openvino".
        precisions: "fp32" decides; "auto", the runtime's default, informs.
        images: (id, decoded picture (H, W, 3) uint8 at full size, class index or None), each taken once: what is
            kept of them is on disk.
        reference: PyTorch fp32, (N, height, width, C) uint8 -> (N, K) probabilities.
        any_size: the model resizes inside: it is given the full pictures, and compared with PyTorch on
            Preprocess's pixels. Resizing rounds to whole levels, so RESIZE_TOLERANCE applies.
    """
    kinds = {"full pictures, resized inside": lambda image, _: image} if any_size else RESIZERS
    tolerance = RESIZE_TOLERANCE if any_size else TOLERANCE
    with tempfile.TemporaryDirectory() as scratch:
        pixels = Path(scratch) / "pixels"
        pixels.mkdir()
        ids, truth, own, expected = _write_pixels(
            pixels, kinds, images, preprocess=preprocess, reference=reference, any_size=any_size
        )
        rows = []
        for precision in precisions:
            answers, engine = run_outside(model, runner=runner, precision=precision, pixels=pixels)
            name, computed = engine.rsplit(" ", 1)
            decides = precision == "fp32"
            for number, kind in enumerate(kinds):
                row = _compare(
                    answers[f"{number}/{PROBABILITIES}"], expected[kind], ids, truth, engine=name, pixels=kind,
                    precision=computed if decides else f"{computed} (default)", decides=decides, tolerance=tolerance,
                )  # fmt: skip
                rows.append(row)
    if any_size:
        return Parity(tolerance, tuple(rows))
    resizers = tuple(
        {
            "pixels": kind,
            "labels_changed": float((values.argmax(axis=1) != own.argmax(axis=1)).mean()),
            "top1": _share(values.argmax(axis=1) == truth, truth >= 0),
        }
        for kind, values in expected.items()
    )
    return Parity(tolerance, tuple(rows), resizers)


def _write_pixels(
    folder: Path, kinds: Mapping[str, Callable[[Pixels, Preprocess], Pixels]],
    images: Iterable[tuple[str, Pixels, int | None]], *, preprocess: Preprocess,
    reference: Callable[[Pixels], Floats], any_size: bool,
) -> tuple[list[str], NDArray[np.int64], Floats, dict[str, Floats]]:  # fmt: skip
    """Every picture as every kind of pixels, in <number of the kind>.npy: batches, one array after the other.

    Returns:
        ids, class indices (-1 where unknown), the reference's answers to Preprocess's pixels, and those to each kind's
        (to Preprocess's again, where the model resizes inside).
    """
    ids: list[str] = []
    truth: list[int] = []
    own: list[Floats] = []
    expected: dict[str, list[Floats]] = {kind: [] for kind in kinds}
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{number}.npy").open("wb")) for number in range(len(kinds))]
        for chunk in _chunks(images, 1 if any_size else BATCH):
            ids += [name for name, _, _ in chunk]
            truth += [-1 if label is None else label for _, _, label in chunk]
            own.append(reference(np.stack([preprocess.pixels(image) for _, image, _ in chunk])))
            for file, (kind, resize) in zip(files, kinds.items(), strict=True):
                batch = np.stack([resize(image, preprocess) for _, image, _ in chunk])
                np.save(file, batch)
                expected[kind].append(own[-1] if any_size else reference(batch))
    answers = {kind: np.concatenate(parts) for kind, parts in expected.items()}
    return ids, np.array(truth), np.concatenate(own), answers


def _chunks(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(images)
    while chunk := list(itertools.islice(source, size)):
        yield chunk


def run_outside(model: Path, *, runner: str, precision: str, pixels: Path) -> tuple[dict[str, Any], str]:
    """Run a model in a new process that imports its runtime and numpy only.

    Args:
        pixels: a folder of .npy files, in each of which batches follow each other.

    Returns:
        arrays by "file/output", and "runtime version precision".

    Raises:
        RuntimeError: the process failed; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "out.npz"
        script = RUNNERS / f"{runner}_runner.py"
        command = [sys.executable, "-I", str(script), str(model), str(pixels), str(destination), precision]
        # ONNX Runtime leaves a device identifier in the user's cache: it gets a home that is thrown away.
        homes = {"HOME": folder, "XDG_CACHE_HOME": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | homes)
        if done.returncode:
            raise RuntimeError(f"{runner} could not run {model}:\n{done.stderr.strip()}")
        with np.load(destination) as loaded:
            return dict(loaded), done.stdout.strip().splitlines()[-1]


def _compare(
    values: NDArray[np.float32], expected: NDArray[np.float32], ids: Sequence[str], truth: NDArray[np.int64],
    *, engine: str, precision: str, pixels: str, decides: bool, tolerance: float,
) -> Row:  # fmt: skip
    label, reference = values.argmax(axis=1), expected.argmax(axis=1)
    top_two = np.sort(expected, axis=1)[:, -2:]
    tied = top_two[:, 1] - top_two[:, 0] <= 2 * tolerance
    other = label != reference
    differing = tuple(ids[int(i)] for i in np.flatnonzero(other & ~tied))
    largest = float(np.abs(values - expected).max()) if np.isfinite(values).all() else float("inf")
    return Row(
        engine=engine, precision=precision, pixels=pixels, pictures=len(ids),
        labels_equal=float((~other).mean()), largest_difference=largest,
        excused=tuple(ids[int(i)] for i in np.flatnonzero(other & tied)), differing=differing,
        top1=_share(label == truth, truth >= 0), reference_top1=_share(reference == truth, truth >= 0),
        passed=(not differing and largest <= tolerance) if decides else None,
    )  # fmt: skip


def _share(right: NDArray[np.bool_], known: NDArray[np.bool_]) -> float | None:
    return float(right[known].mean()) if known.any() else None


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
        if preprocess.colour == "grey":
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
