"""Attacks by what is around a process: signals, disks, folders, limits; and by numbers that fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from attack.case import CHECK, PREDICT, TRAIN, Case
from attack.make import classes, flat

TWICE = (*TRAIN, "--epochs", "2")


def identical(folder: Path) -> None:
    """A class of one image over and over, at the smallest size."""
    for name, color in (("a", (90, 90, 90)), ("b", (200, 10, 10))):
        (folder / name).mkdir()
        for number in range(12):
            Image.new("RGB", (32, 32), color).save(folder / name / f"{number}.png")


def noise(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(12):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / name / f"{number}.png")


def _no_run(outcome: object) -> None:
    assert not (outcome.folder / "out" / "model.json").exists()  # type: ignore[attr-defined]


CASES = [
    Case("no HOME", flat, PREDICT, exit=(0,), environment={"HOME": "", "XDG_CACHE_HOME": ""}),
    Case(
        "HOME that cannot be written",
        flat,
        PREDICT,
        exit=(0,),
        environment={"HOME": "/proc/none", "XDG_CACHE_HOME": ""},
    ),
    Case("a cache that is a file", flat, PREDICT, exit=(0,), environment={"XDG_CACHE_HOME": "/dev/null"}),
    Case(
        "a cache in a folder that cannot be written",
        classes,
        TWICE,
        exit=(0, 2),
        environment={"XDG_CACHE_HOME": "/proc/none"},
        seconds=90,
    ),
    Case("no temporary folder", flat, PREDICT, exit=(0,), environment={"TMPDIR": "/nowhere"}),
    Case(
        "an output folder that cannot be written",
        classes,
        ("train", "{data}", "--out", "/proc/none/run", "--mode", "scratch", "--image-size", "32", "--epochs", "1"),
        exit=(2,),
        says=("/proc/none",),
        seconds=60,
    ),
    Case(
        "a CSV on a full disk",
        flat,
        ("predict", "{run}", "{data}", "--csv", "/dev/full"),
        exit=(2,),
        says=("/dev/full|full",),
    ),
    Case(
        "a CSV in a folder that is none",
        flat,
        ("predict", "{run}", "{data}", "--csv", "/dev/null/x.csv"),
        exit=(2,),
        says=("/dev/null",),
    ),
    Case(
        "a sheet in a folder that is none",
        flat,
        ("show", "{data}", "--out", "/dev/null/x.png"),
        exit=(2,),
        says=("/dev/null",),
    ),
    Case("a very narrow terminal", flat, CHECK, exit=(0, 1), environment={"COLUMNS": "1"}),
    Case("a terminal of no known kind", flat, CHECK, exit=(0, 1), environment={"TERM": "none"}),
    Case("a width that is no number", flat, CHECK, exit=(0, 1), environment={"COLUMNS": "wide"}),
    Case(
        "an unknown locale",
        flat,
        CHECK,
        exit=(0, 1),
        environment={"LANG": "xx_YY.klingon", "LC_ALL": "xx_YY.klingon"},
        own_process=True,
    ),
    Case(
        "a learning rate at which training diverges",
        noise,
        (*TWICE, "--learning-rate", "1e30"),
        exit=(1, 2),
        says=("nan|infinite|diverged",),
        verify=_no_run,
        seconds=90,
    ),
    Case(
        "a learning rate of nan",
        noise,
        (*TWICE, "--learning-rate", "nan"),
        exit=(2,),
        says=("learning",),
        verify=_no_run,
    ),
    Case(
        "a learning rate of infinity",
        noise,
        (*TWICE, "--learning-rate", "inf"),
        exit=(2,),
        says=("learning",),
        verify=_no_run,
    ),
    Case("a width of nan", noise, (*TWICE, "--width", "nan"), exit=(2,), verify=_no_run),
    Case(
        "an image size of 10^9",
        noise,
        (*TWICE, "--image-size", "1000000000"),
        exit=(2,),
        says=("size",),
        verify=_no_run,
    ),
    Case("a batch of 10^9", noise, (*TWICE, "--batch-size", "1000000000"), exit=(0, 2), seconds=90),
    Case(
        "no epochs",
        noise,
        (*TRAIN, "--epochs", "0"),
        exit=(2,),
        says=("epoch",),
        verify=_no_run,
    ),
    Case(
        "classes of identical images: head",
        identical,
        (
            "train",
            "{data}",
            "--out",
            "{out}",
            "--mode",
            "head",
            "--model",
            "mobilenet_v2",
            "--image-size",
            "32",
            "--width",
            "0.35",
            "--weights",
            "{run}/model.safetensors",
        ),
        exit=(0, 1, 2),
        seconds=90,
    ),
    Case("classes of identical images: scratch", identical, TRAIN, exit=(0, 1, 2), seconds=90),
]
