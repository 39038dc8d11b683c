"""Small images and masks for the tests of formats."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from handlens.data.findings import Audit
from handlens.data.labels.boxes import Box, BoxLabels
from handlens.data.labels.finding import Finding
from handlens.data.record import Dataset

BREAD = "식빵"
NFD = unicodedata.normalize("NFD", BREAD)


def write_image(path: Path, *, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 100, 50)).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def mask(path: Path, values: object, *, mode: str = "L") -> Path:
    """(H, W) or (H, W, 3) numbers, as a file of Pillow's mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values)
    if mode == "I;16":
        image = Image.fromarray(array.astype(np.uint16))
    elif mode == "1":
        image = Image.fromarray((array * 255).astype(np.uint8)).convert("1")
    else:
        image = Image.fromarray(array.astype(np.uint8))
        if mode == "P":
            image.putpalette([value for i in range(256) for value in (255 - i, i, 7)])
    assert image.mode == mode
    image.save(path)
    return path


def said(dataset: Dataset) -> list[str]:
    """Notes and remarks."""
    return [*dataset.notes, *(remark.message for remark in dataset.remarks)]


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def found(dataset: Dataset) -> dict[str, list[tuple[str, float, float, float, float]]]:
    """Name and corners of every box, by the image's id."""
    names = dataset.class_names
    return {r.id: [(names[box.label], *corners(box)) for box in r.label or ()] for r in dataset.records}


def without_area(dataset: Dataset) -> list[tuple[float, float, float, float]]:
    """Corners of what was set aside."""
    assert isinstance(dataset.kind, BoxLabels)
    return [corners(box) for boxes in dataset.kind.without_area.values() for box in boxes]


def of_level(audit: Audit, level: str) -> list[Finding]:
    return [finding for finding in audit.findings if finding.level == level]
