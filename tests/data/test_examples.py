"""What a net is trained on: pictures with what they are labelled with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handlens.data.augment import detection_augment
from handlens.data.examples import BoxedPictures
from handlens.data.record import Box, Record
from handlens.preprocess import Preprocess

PREPROCESS = Preprocess(height=64, width=64, resize="stretch")
GREYS = (30, 90, 150, 210)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Each picture of one grey, and one box in its middle."""
    made = []
    for label, grey in enumerate(GREYS):
        path = tmp_path / f"{label}.png"
        Image.fromarray(np.full((80, 100, 3), grey, np.uint8)).save(path)
        made.append(Record(path=path, id=path.name, boxes=(Box(label=label, left=20, top=20, right=80, bottom=60),)))
    return made


def examples(records: list[Record], *, mosaic: float) -> BoxedPictures:
    still = detection_augment(PREPROCESS, flip=0, crop_area=1, colour=0, zoom_out=1)
    return BoxedPictures(records, preprocess=PREPROCESS, transform=still, mosaic=mosaic, seed=1)


def greys_in(image: torch.Tensor) -> set[int]:
    """Without the padding of what looks out over a picture's edge."""
    return set(image.unique().tolist()) & set(GREYS)


def test_mosaics_show_other_pictures_with_their_boxes(records):
    together = examples(records, mosaic=1)
    seen = [together[epoch, 0] for epoch in range(8)]
    assert max(len(boxes) for _, boxes, _ in seen) > 1
    for image, boxes, labels in seen:
        assert image.shape == (3, 64, 64)
        for (left, top, right, bottom), label in zip((boxes * 64).tolist(), labels.tolist(), strict=True):
            x, y = int((left + right) / 2), int((top + bottom) / 2)
            assert int(image[0, y, x]) == GREYS[label]
    again, _, _ = together[3, 0]
    assert torch.equal(seen[3][0], again)


def test_without_mosaics_a_picture_comes_alone(records):
    for epoch in range(4):
        image, _, labels = examples(records, mosaic=0)[epoch, 2]
        assert greys_in(image) == {GREYS[2]}
        assert labels.tolist() == [2]


def test_half_of_them_are_mosaics(records):
    half = examples(records, mosaic=0.5)
    alone = sum(greys_in(half[epoch, 0][0]) == {GREYS[0]} for epoch in range(40))
    assert 8 < alone < 32
