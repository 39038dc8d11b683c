"""What a recipe asks of a segmenter's loss is what it gets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from handlens.losses.pixel import cross_entropy, dice, focal
from handlens.palette import IGNORE
from handlens.preprocess import Preprocess
from handlens.tasks import TASKS
from handlens.tasks.segment.training import SegmenterTraining
from handlens.training.recipe import Recipe

PREPROCESS = Preprocess(height=32, width=32, resize="stretch")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, lambda logits, truth: cross_entropy(logits, truth) + dice(logits, truth)),
        (
            {"dice": 0.0, "label_smoothing": 0.1},
            lambda logits, truth: cross_entropy(logits, truth, label_smoothing=0.1),
        ),
        ({"dice": 0.5, "pixel_loss": "focal"}, lambda logits, truth: focal(logits, truth) + 0.5 * dice(logits, truth)),
    ],
)
def test_the_loss_is_the_one_asked_for(asked, expected):
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 1)
    training = SegmenterTraining(
        net,
        recipe=Recipe(**asked).settled("scratch", TASKS["segment"].defaults),
        preprocess=PREPROCESS,
        total_steps=1,
        num_classes=4,
    )
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    truth = torch.randint(0, 4, (2, 32, 32), dtype=torch.uint8)
    truth[0, :5] = IGNORE
    loss = training.loss((images, truth))
    torch.testing.assert_close(loss, expected(net(training.normalized(images)), truth.long()))
