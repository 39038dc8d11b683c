"""What a net is trained on: images with what they are labeled with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from handlens.data.augment import image_augment
from handlens.data.decode import decode
from handlens.data.examples import ImageExamples
from handlens.data.labels.boxes import Box
from handlens.data.record import Record
from handlens.preprocess import Preprocess
from handlens.tasks.classify.training import class_of
from handlens.tasks.detect.augment import detection_augment
from handlens.tasks.detect.examples import BoxedImages

PREPROCESS = Preprocess(height=64, width=64, resize="stretch")
GRAYS = (30, 90, 150, 210)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Each image of one gray, and one box in its middle."""
    made = []
    for label, gray in enumerate(GRAYS):
        path = tmp_path / f"{label}.png"
        Image.fromarray(np.full((80, 100, 3), gray, np.uint8)).save(path)
        made.append(Record(path=path, id=path.name, label=(Box(label=label, left=20, top=20, right=80, bottom=60),)))
    return made


def examples(records: list[Record], *, mosaic: float) -> BoxedImages:
    still = detection_augment(PREPROCESS, flip=0, crop_area=1, color=0, zoom_out=1)
    return BoxedImages(records, preprocess=PREPROCESS, transform=still, mosaic=mosaic, seed=1)


def grays_in(image: torch.Tensor) -> set[int]:
    """Without the padding of what looks out over an image's edge."""
    return set(image.unique().tolist()) & set(GRAYS)


def test_mosaics_show_other_images_with_their_boxes(records):
    together = examples(records, mosaic=1)
    seen = [together[epoch, 0] for epoch in range(8)]
    assert max(len(boxes) for _, boxes, _ in seen) > 1
    for image, boxes, labels in seen:
        assert image.shape == (3, 64, 64)
        for (left, top, right, bottom), label in zip((boxes * 64).tolist(), labels.tolist(), strict=True):
            x, y = int((left + right) / 2), int((top + bottom) / 2)
            assert int(image[0, y, x]) == GRAYS[label]
    again, _, _ = together[3, 0]
    assert torch.equal(seen[3][0], again)


def test_without_mosaics_an_image_comes_alone(records):
    for epoch in range(4):
        image, _, labels = examples(records, mosaic=0)[epoch, 2]
        assert grays_in(image) == {GRAYS[2]}
        assert labels.tolist() == [2]


def test_half_of_them_are_mosaics(records):
    half = examples(records, mosaic=0.5)
    alone = sum(grays_in(half[epoch, 0][0]) == {GRAYS[0]} for epoch in range(40))
    assert 8 < alone < 32


def test_small_images_are_opened_once_and_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng, opened = np.random.default_rng(0), []
    sizes = {"small": 64, "also small": 20, "large": 65}
    for name, side in sizes.items():
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    records = [Record(id=name, path=tmp_path / f"{name}.png", label=0) for name in sizes]

    def counting(path: Path, **options: Any) -> NDArray[np.uint8]:
        opened.append(path.stem)
        return decode(path, **options)

    monkeypatch.setattr("handlens.data.examples.decode", counting)
    preprocess = Preprocess(height=64, width=64, short_side=64)
    # Upside down, in whole images: what writes into a kept image would be seen in the next round.
    transform = image_augment(preprocess, flip=0, vertical_flip=1, crop_area=1.0, color=0.3)
    images = ImageExamples(
        records, preprocess=preprocess, transform=transform, at_least=(64, 64), label=class_of, seed=0
    )
    rounds = [[images[(0, index)][0].clone() for index in range(3)] for _ in range(3)]
    assert sorted(opened) == ["also small", *["large"] * 3, "small"]
    for again in rounds[1:]:
        for one, other in zip(rounds[0], again, strict=True):
            assert torch.equal(one, other)
    monkeypatch.setattr("handlens.data.examples.KEPT", 0)
    opened.clear()
    none_kept = ImageExamples(records, preprocess=preprocess, transform=None, at_least=(64, 64), label=class_of, seed=0)
    for _ in range(2):
        none_kept[(0, 0)]
    assert opened == ["small", "small"]
