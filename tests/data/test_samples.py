"""Generated breads: the same everywhere, with masks and boxes that are right."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from handlens.data.bakery.scene import BREADS, bakery_scene
from handlens.data.samples import write_bakery
from handlens.errors import InputError


def digest(**arguments: object) -> str:
    return hashlib.sha256(bakery_scene(**arguments).image.tobytes()).hexdigest()  # type: ignore[arg-type]


def test_ten_kinds_in_order():
    assert len(BREADS) == 10
    assert list(BREADS) == sorted(set(BREADS))


def test_one_seed_one_picture_also_in_another_process():
    here = digest(kind="bagel", index=3, seed=1, size=96)
    assert here == digest(kind="bagel", index=3, seed=1, size=96)
    assert here != digest(kind="bagel", index=4, seed=1, size=96)
    assert here != digest(kind="bagel", index=3, seed=2, size=96)
    code = (
        "import hashlib; from handlens.data.bakery.scene import bakery_scene;"
        "print(hashlib.sha256(bakery_scene(kind='bagel', index=3, seed=1, size=96).image.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("index", range(6))
def test_boxes_bound_masks_and_masks_do_not_overlap(index: int, count: int):
    scene = bakery_scene(kind=None, index=index, seed=0, size=128, count=count)
    assert scene.image.shape == (128, 128, 3)
    assert scene.image.dtype == np.uint8
    assert len(scene.breads) >= 1
    assert np.sum([bread.mask for bread in scene.breads], axis=0).max() == 1
    for bread in scene.breads:
        rows, columns = np.nonzero(bread.mask)
        assert bread.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert bread.kind in BREADS


def test_a_folder_is_written_and_never_written_into(tmp_path: Path):
    folder = write_bakery(tmp_path / "breads", per_class=2, test_per_class=1, size=64)
    pictures = sorted(folder.rglob("*.jpg"))
    assert len(pictures) == 30
    assert len({path.read_bytes() for path in pictures}) == 30
    assert {path.parent.name for path in pictures} == set(BREADS)
    assert "not photographs" in (folder / "README.txt").read_text()
    with pytest.raises(InputError, match="not empty"):
        write_bakery(folder)


def test_kinds_can_be_told_apart_but_not_by_colour_alone():
    """Nearest mean of a coarse colour histogram: better than chance, far from perfect."""

    def histogram(kind: str, index: int) -> np.ndarray:
        image = bakery_scene(kind=kind, index=index, seed=5, size=64).image
        counts, _ = np.histogramdd(image.reshape(-1, 3), bins=4, range=[(0, 256)] * 3)
        return (counts / counts.sum()).ravel()

    train = {kind: np.mean([histogram(kind, i * 10 + k) for i in range(8)], axis=0) for k, kind in enumerate(BREADS)}
    right = [
        min(train, key=lambda name: float(np.abs(train[name] - histogram(kind, 1000 + i * 10 + k)).sum())) == kind
        for k, kind in enumerate(BREADS)
        for i in range(4)
    ]
    assert 0.12 < np.mean(right) < 0.95
