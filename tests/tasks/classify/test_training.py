"""What a classifier's loss is made of, and which epoch counts as the best."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from handlens.models import build
from handlens.preprocess import Preprocess
from handlens.tasks.classify.training import ClassifierTraining
from handlens.training.recipe import Recipe
from handlens.training.tensorboard import Events
from handlens.training.writer import RunWriter

PREPROCESS = Preprocess(height=64, width=64, resize="stretch")


def training(net: torch.nn.Module, **recipe) -> ClassifierTraining:
    return ClassifierTraining(
        net,
        recipe=Recipe(**recipe).settled("scratch"),
        preprocess=PREPROCESS,
        total_steps=1,
        num_classes=3,
        class_weights=None,
    )


def test_auxiliary_heads_learn_and_count_by_their_weight():
    """Szegedy et al. 2014, section 5: the losses of the two auxiliary classifiers are added with weight 0.3."""
    torch.manual_seed(0)
    net = build("googlenet", num_classes=3, auxiliary=True, dropout=0.0).eval()  # no dropout in the auxiliary heads
    made = training(net)
    images, labels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 1, 2, 1])
    loss = made.loss((images, labels))
    (_, main), *auxiliary = net.with_auxiliary(made.normalized(images))
    assert len(auxiliary) == 2
    expected = F.cross_entropy(main, labels) + 0.3 * sum(F.cross_entropy(logits, labels) for _, logits in auxiliary)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(part.grad is not None and part.grad.any() for part in net.auxiliary.parameters() if part.dim() > 1)
    assert made.train_counts[2] == 4


def test_without_auxiliary_heads_the_loss_is_the_nets():
    net = build("googlenet", num_classes=3, dropout=0.0).eval()
    made = training(net)
    images, labels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 1, 2, 1])
    torch.testing.assert_close(made.loss((images, labels)), F.cross_entropy(net(made.normalized(images)), labels))


@pytest.mark.parametrize(("by", "best"), [("metric", (0.9, -0.5)), ("loss", (0.8, -0.3))])
def test_the_best_epoch_is_the_one_asked_for(tmp_path: Path, by: str, best: tuple[float, float]):
    writer = RunWriter(
        tmp_path,
        recipe=Recipe(choose_by=by),
        loader=None,
        best=(0.0, float("-inf")),
        events=Events(tmp_path, samples=None, say=print),
        shown=str,
        say=print,
        progress=lambda what, done, total: None,
    )
    assert max([(0.9, -0.5), (0.8, -0.3), (0.9, -0.6)], key=writer._worth) == best
