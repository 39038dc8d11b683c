"""Folders for apps around outputs that are made up: what their own code does is compared with the project's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from handlens.app.folder import write_app_folder
from handlens.app.golden import GoldenImage
from handlens.preprocess import Preprocess
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS

# (height, width): enlarged and reduced, margins that are odd, long and thin, one pixel, the size itself.
SIZES = ((97, 130), (161, 53), (390, 301), (1, 1), (3, 60), (64, 64), (48, 65), (201, 77), (77, 203), (640, 479))
WAYS: dict[str, dict[str, Any]] = {
    "crop": {"height": 64, "width": 64, "short_side": 64},
    "larger crop, not square": {"height": 50, "width": 31, "short_side": 57},
    "stretch, gray": {"height": 28, "width": 41, "resize": "stretch", "color": "gray", "mean": (0.5,), "std": (0.5,)},
    "pad": {"height": 48, "width": 65, "resize": "pad"},
    "pad, gray": {"height": 33, "width": 20, "resize": "pad", "color": "gray", "mean": (0.5,), "std": (0.5,)},
}
OUTPUTS = {"probabilities": np.array([0.25, 0.75], dtype=np.float32)}


def image(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: blocks of many levels, and noise on them."""
    rng = np.random.default_rng(height * 1000 + width)
    blocks = rng.integers(0, 256, (4, 5, 3)).repeat(-(-height // 4), axis=0).repeat(-(-width // 5), axis=1)
    noise = rng.integers(-60, 60, (height, width, 3))
    return np.clip(blocks[:height, :width] + noise, 0, 255).astype(np.uint8)


def write(
    folder: Path, preprocess: Preprocess, *, runtime: str = "onnx", task: str = "classify", **changes: Any
) -> Path:
    """A folder whose golden images are of SIZES, of a model with two classes."""
    images = [GoldenImage(str(i), f"{i}.png", b"", image(*size), str(size)) for i, size in enumerate(SIZES)]
    made = outputs_of(task, preprocess.height, preprocess.width)
    expected = {name: np.stack([values] * len(images)) for name, values in made.items()}
    told = TASKS[task].for_apps({"training_std": [10.0, 1.0]}, expected, exact=True)
    model = {
        "handlens": "0",
        "task": task,
        "model": "net",
        "class_names": ["a", "b"],
        "preprocess": preprocess.to_dict(),
        "file": "a.bin",
        "files": {"a.bin": ""},
        "precision": "fp32",
        "thresholds": {"tag": [0.5, 0.5], "detect": [0.3]}.get(task, []),
        "resizes": False,
        "suppress": True,
        "check": told.check,
        "input": {"name": "images", "shape": [1, preprocess.height, preprocess.width, preprocess.channels]},
        "outputs": [
            {"name": name, "shape": [1, *values.shape], "meaning": told.meanings[name]} for name, values in made.items()
        ],
    }
    folder.mkdir(parents=True)
    write_app_folder(
        folder,
        model=model | changes,
        images=images,
        expected=expected,
        preprocess=preprocess,
        runtime=RUNTIMES[runtime],
        answer=told.answer,
    )
    return folder


def java_stubs(folder: Path) -> Path:
    """The Java files of java_stubs.txt."""
    text = Path(__file__).with_name("java_stubs.txt").read_text(encoding="utf-8")
    for name, content in re.findall(r"^// (\S+\.java)\n(.*?)(?=^// \S+\.java\n|\Z)", text, re.MULTILINE | re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def outputs_of(task: str, height: int, width: int) -> dict[str, np.ndarray]:
    """What a model of this task could give."""
    rng = np.random.default_rng(len(task))
    if task == "segment":
        return {"classes": rng.integers(0, 2, (height, width)).astype(np.uint8)}
    if task == "detect":
        scores = np.array([0.9, 0.8, 0.6, 0.02, 0], dtype=np.float32)
        corners = np.sort(rng.uniform(0, 1, (5, 2, 2)), axis=1).reshape(5, 4).astype(np.float32)
        return {"boxes": corners * (scores > 0)[:, None], "scores": scores, "labels": np.array([0, 1, 1, 0, 0])}
    if task == "regress":
        return {"values": np.array([120.0, -3.0], dtype=np.float32)}
    return OUTPUTS
