"""Counts against the paper's tables and against a count by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from handlens.models import build
from handlens.models.blocks import freeze_batch_norm
from handlens.models.cost import multiply_adds, parameters

# Width -> {size: multiply-adds in millions}, from the README of the authors' code.
PUBLISHED = {
    1.4: {224: 582},
    1.3: {224: 509},
    1.0: {224: 300, 192: 221, 160: 154, 128: 99, 96: 56},
    0.75: {224: 209, 192: 153, 160: 107, 128: 69, 96: 39},
    0.5: {224: 97, 192: 71, 160: 50, 128: 32, 96: 18},
    0.35: {224: 59, 192: 43, 160: 30, 128: 20, 96: 11},
}


@pytest.mark.parametrize("width", list(PUBLISHED))
def test_mobilenet_v2_costs_what_its_authors_print(width):
    with torch.device("meta"):
        net = build("mobilenet_v2", num_classes=1000, width=width)
    for size, millions in PUBLISHED[width].items():
        assert multiply_adds(net, height=size, width=size) / 1e6 == pytest.approx(millions, abs=1.01)


def by_hand(net: nn.Module, images: torch.Tensor) -> int:
    """Output numbers times the inputs that each needs, over every convolution and linear layer."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    net.eval()(images)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
def test_multiply_adds_are_those_counted_by_hand(name, size):
    net = build(name, num_classes=7)
    expected = by_hand(copy.deepcopy(net), torch.zeros(1, 3, *size))
    before, mode = copy.deepcopy(net.state_dict()), net.training
    assert multiply_adds(net, height=size[0], width=size[1]) == expected
    assert net.training == mode
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    freeze_batch_norm(net)
    assert multiply_adds(net, height=size[0], width=size[1]) == expected


def test_one_channel_and_the_numbers_of_a_layer():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert parameters(net) == (9 * 4 + 4) + 8 + (4 * 2 + 2)
    assert multiply_adds(net, height=5, width=6, channels=1) == 5 * 6 * 9 * 4 + 4 * 2
