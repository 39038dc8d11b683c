"""Optimizers and schedules by the names that recipes have for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from handlens.training.module import Plateau
from handlens.training.optim import make_optimizer, parameter_groups, rate_factor


@pytest.mark.parametrize("name", ["adamw", "adam", "rmsprop", "sgd"])
def test_every_optimizer_goes_down_and_takes_its_rates_from_the_groups(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    groups = parameter_groups(net, learning_rate=0.02, layer_decay=0.5, weight_decay=0.0)
    optimizer = make_optimizer(name, groups, momentum=0.9)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.02, 0.04]
    inputs = torch.randn(64, 4)
    losses = []
    for _ in range(60):
        loss = (net(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]


def test_rmsprop_is_that_of_the_mobilenet_recipe():
    """By hand for one step: squares fade by 0.9, 1e-3 is added to their root, the first step has no momentum yet."""
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer("rmsprop", [{"params": [parameter], "lr": 0.045, "weight_decay": 0.0}], momentum=0.9)
    (3 * parameter).sum().backward()
    optimizer.step()
    assert float(parameter) == pytest.approx(1 - 0.045 * 3 / ((0.1 * 9) ** 0.5 + 1e-3))


def test_schedules():
    def factors(schedule: str, reductions: int = 0) -> list[float]:
        settled = {"total": 100, "warmup": 0.1, "schedule": schedule, "decay": 0.5, "epochs": 9}
        settled["reductions"] = reductions
        return [rate_factor(step, **settled) for step in range(100)]

    for schedule in ("cosine", "constant", "exponential"):
        first = factors(schedule)[:11]
        assert first == sorted(first) and first[0] == pytest.approx(1 / 11) and first[10] == 1.0
    assert set(factors("constant")[10:]) == {1.0}
    cosine = factors("cosine")[10:]
    assert cosine == sorted(cosine, reverse=True) and cosine[-1] < 0.001
    assert set(factors("plateau")[10:]) == {1.0} and set(factors("plateau", 2)[10:]) == {0.25}
    exponential = factors("exponential")[10:]
    # 90 steps behind the warmup, an epoch of 100 / 9 steps: halved behind each.
    assert [exponential[step] for step in (0, 11, 12, 22, 23, 34)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.125]


def test_the_rate_is_lowered_where_validation_stands_still():
    plateau = Plateau(patience=2)
    found = []
    for better in (True, False, True, False, False, False, False, True, False):
        plateau.count(better)
        found.append(plateau.reductions)
    assert found == [0, 0, 0, 0, 1, 1, 2, 2, 2]
