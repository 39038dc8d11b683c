"""The folder for apps beside an exported file: its images and expected outputs are chosen here, and its own self-test
must pass before it counts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.app.folder import app_folder, refuse_others, write_app_folder
from handlens.app.golden import GoldenImage, golden_images
from handlens.errors import InputError
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json
from handlens.runtimes.alone import environment
from handlens.runtimes.names import INPUT
from handlens.runtimes.separate import run_outside

if TYPE_CHECKING:
    from handlens.flow.gate import Gate
    from handlens.runtimes.engine import Arrays
    from handlens.runtimes.runtime import Runtime

__all__ = ["app_folder", "make_app_folder", "place_app_folder", "refuse_others"]


def make_app_folder(gate: Gate, runtime: Runtime, file: Path, *, metadata: Mapping[str, Any], precision: str) -> Path:
    """Write it beside a file that has passed its comparison, and run its self-test.

    Args:
        metadata: what the file says of itself.
        precision: of `ExportOptions`. In float32 the expected outputs are PyTorch's, else the file's own.

    Raises:
        InputError: no image can be read, or the self-test fails.
    """
    gate.report.say("Writing the folder for apps, and running its self-test.")
    gate.report.progress("folder for apps", 0, None)
    run, task, preprocess, exact = gate.run, gate.task, gate.run.preprocess, precision == "fp32"
    images = golden_images(_sources(gate))
    pixels = np.stack([preprocess.pixels(image.image) for image in images])
    expected = gate.expected(pixels) if exact else _answered(file, runtime, images, gate)
    told = task.for_apps(run.model.chosen, expected, exact=exact)
    size: list[Any] = ["height", "width", 3] if gate.with_resize else list(pixels.shape[1:])
    model = {
        **{key: metadata[key] for key in ("handlens", "task", "model", "class_names", "preprocess")},
        "file": file.name,
        "files": {part.name: sha256_of(part) for part in runtime.files(file)},
        "precision": precision,
        "thresholds": list(task.thresholds(run.model.chosen)),
        "resizes": gate.with_resize,
        "suppress": gate.suppress,
        "input": {"name": INPUT, "shape": [1, *size], "dtype": "uint8", "normalized": "inside the model"},
        "outputs": [
            {"name": name, "shape": [1, *values.shape[1:]], "meaning": told.meanings[name]}
            for name, values in expected.items()
        ],
        "check": told.check,
        **told.model,
    }
    folder = app_folder(file)
    folder.mkdir()
    write_app_folder(
        folder,
        model=model,
        images=images,
        expected=expected,
        preprocess=preprocess,
        runtime=runtime,
        answer=told.answer,
    )
    _run_self_test(folder)
    return folder


def place_app_folder(made: Path | None, folder: Path, *, scratch: Path) -> None:
    """Put it in the place of the one before, which `refuse_others` has found to be ours; with None there is none then.

    A folder that is not empty cannot be replaced in one step: for the time between two renames there is none.

    Args:
        scratch: an emptied folder on the same disk, to which the one before goes.
    """
    if folder.exists():
        folder.replace(scratch / "before")
    if made is not None:
        made.replace(folder)


def _sources(gate: Gate) -> list[tuple[str, Path]]:
    """(id, file): the run's golden images, or else those of the comparison."""
    golden = gate.run.golden()
    if golden is not None and (golden / "golden.json").is_file():
        files = read_json(golden / "golden.json")["files"]
        return [(entry["id"], golden / entry["file"]) for entry in files]
    return gate.sources()


def _answered(file: Path, runtime: Runtime, images: list[GoldenImage], gate: Gate) -> Arrays:
    """What the file itself answers, (N, ...) by output name."""
    preprocess = gate.run.preprocess
    with tempfile.TemporaryDirectory() as scratch:
        with (Path(scratch) / "0.npy").open("wb") as stream:
            for image in images:
                np.save(stream, image.image[None] if gate.with_resize else preprocess.pixels(image.image)[None])
        answers, _ = run_outside(file, runtime, precision="fp32", pixels=Path(scratch))
    return {name: answers[f"0/{name}"] for name in gate.task.outputs}


def _run_self_test(folder: Path) -> None:
    """As an app's developer does it: in a new process, without handlens."""
    with tempfile.TemporaryDirectory() as home:  # where ONNX Runtime leaves a device identifier
        done = subprocess.run(
            [sys.executable, "-B", str(folder / "selftest.py")],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment() | {"PYTHONIOENCODING": "utf-8", "HOME": home, "XDG_CACHE_HOME": home},
        )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.startswith("FAIL ")] or done.stderr.splitlines()
        raise InputError(
            f"the self-test of the folder for apps fails: {'; '.join(lines[-4:]) or 'it says nothing'}. "
            "With --no-app there is none."
        )
