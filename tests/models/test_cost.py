"""Counts against the paper's tables and against a count by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from handlens.models import CATALOGUE, backbone, build
from handlens.models.blocks import freeze_batch_norm
from handlens.models.cost import measure, multiply_adds, parameters

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


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_multiply_adds_are_those_of_torchs_counter(name):
    """Of every net, to the last one; its counter takes a multiply-add for two operations."""
    with torch.device("meta"):
        net = build(name, num_classes=5).eval()
    size = getattr(net, "image_size", (96, 128))
    channels = next(m for m in net.modules() if isinstance(m, nn.Conv2d)).in_channels if name != "dense" else 1
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, channels, *size, device="meta"))
    cost = measure(net, height=size[0], width=size[1], channels=channels)
    assert cost.multiply_adds == counter.get_total_flops() // 2 > 0
    assert cost.parameters == sum(p.numel() for p in net.parameters())
    run = {key for key, _ in net.named_parameters() if not key.startswith("auxiliary")}
    assert sum(layer.parameters for layer in cost.layers) == sum(net.get_parameter(key).numel() for key in run)


def test_memory_is_what_the_formula_of_the_paper_gives():
    """Sandler et al. 2018, section 5.1: a bottleneck as one operator holds its input and its output, at most those of
    the first, 112 x 112 x (32 + 16); operator by operator it is the second's depthwise convolution."""
    with torch.device("meta"):
        cost = measure(build("mobilenet_v2", num_classes=1000), height=224, width=224)
    assert (2 * cost.peak_numbers_blocks, cost.peak_at_block) == (2 * 112 * 112 * (32 + 16), "blocks.0")
    assert (2 * cost.peak_numbers, cost.peak_at) == (2 * 96 * (112**2 + 56**2), "blocks.1.depthwise.conv")
    assert (2 * cost.peak_numbers_blocks // 1000, 2 * cost.peak_numbers // 1000) == (1204, 3010)


@pytest.mark.parametrize(
    ("name", "field", "stride"),
    [("alexnet", 195, 32), ("vgg16", 212, 32), ("mobilenet_v1", 315, 32)],
)
def test_receptive_fields_are_the_published_ones(name, field, stride):
    """Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill. Their
    ResNets stride in the last block of a stage, not in the first as everyone's do, and see more: 483, not 427 (50)."""
    with torch.device("meta"):
        layers = measure(build(name, num_classes=10), height=224, width=224).layers
    last = [layer for layer in layers if layer.receptive_field is not None][-1]
    assert (last.receptive_field, last.stride) == (field, stride)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "deeplab_v3"])
def test_a_receptive_field_is_where_the_gradient_reaches(name):
    """With weights of one kind, no activation and mean instead of maximum, each pixel that can count does."""
    net = build(name, num_classes=2).eval() if name == "deeplab_v3" else backbone(name, maps=("s16",)).eval()
    extractor = net.backbone if name == "deeplab_v3" else net
    for parent in extractor.modules():
        for key, module in parent.named_children():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                setattr(parent, key, nn.Identity())
            if isinstance(module, nn.MaxPool2d):
                setattr(parent, key, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.ones(1, 3, 640, 640, requires_grad=True)
    (made,) = extractor(image).values()
    made[0, 0, made.shape[2] // 2, made.shape[3] // 2].backward()
    reached = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()
    cost = measure(extractor, height=640, width=640)
    assert cost.layers[-1].receptive_field == int(reached.max() - reached.min()) + 1 < 600


def test_a_norm_over_channels_sees_no_further_and_one_over_the_map_sees_all():
    with torch.device("meta"):
        towers = measure(build("alexnet", num_classes=10, two_towers=True), height=224, width=224).layers
        grouped = measure(
            build("mobilenet_v2", num_classes=10, norm=lambda channels: nn.GroupNorm(8, channels)), height=64, width=64
        ).layers
    norms = [layer for layer in towers if layer.kind == "LocalResponseNorm"]
    assert [(norm.name, norm.shape, norm.receptive_field) for norm in norms] == [
        ("stem.2", (96, 55, 55), 11),
        ("blocks.0.3", (256, 27, 27), 51),
    ]
    assert [layer for layer in towers if layer.receptive_field is not None][-1].receptive_field == 195
    assert next(layer for layer in grouped if layer.name == "stem.norm").receptive_field is None


def test_a_layer_says_what_it_is_and_what_feeds_it():
    net = build("mobilenet_v2", num_classes=3)
    net.stem.conv.weight.requires_grad = False
    layers = {layer.name: layer for layer in measure(net, height=64, width=96).layers}
    stem = layers["stem.conv"]
    assert (stem.kind, stem.detail, stem.inputs, stem.shape) == ("Conv2d", "3x3, stride 2", ("image",), (32, 32, 48))
    assert (stem.parameters, stem.trainable, stem.multiply_adds) == (864, 0, 864 * 32 * 48)
    assert (stem.stride, stem.receptive_field) == (2, 3)
    added = layers["blocks.2 add"]
    assert (added.kind, added.inputs) == ("add", ("blocks.1.project.norm", "blocks.2.project.norm"))
    assert (layers["classifier"].shape, layers["classifier"].receptive_field) == ((3,), None)


def test_what_a_frozen_and_an_unused_part_weigh():
    net = build("googlenet", num_classes=10, auxiliary=True)
    for parameter in net.stem.parameters():
        parameter.requires_grad = False
    cost = measure(net, height=64, width=64)
    assert cost.parameters == parameters(net) > sum(layer.parameters for layer in cost.layers)
    assert cost.trainable == cost.parameters - parameters(net.stem)
    assert cost.weight_bytes() == {"fp32": 4 * cost.parameters, "fp16": 2 * cost.parameters, "int8": cost.parameters}
