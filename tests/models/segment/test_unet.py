"""U-Net against the count of its paper's layers, and what its options change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from handlens.errors import InputError
from handlens.models import backbone, build
from handlens.models.backbones import BACKBONES
from handlens.models.cost import parameters


def test_it_has_the_size_of_the_papers_figure():
    """1 channel, 2 classes; counted from Figure 1: two 3 x 3 per level, 2 x 2 up, biases, no batch norm."""
    down = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    up = [(1024, 512), (512, 256), (256, 128), (128, 64)]
    expected = sum((9 * a + 1) * b + (9 * b + 1) * b for a, b in down)
    expected += sum((4 * a + 1) * b + (9 * a + 1) * b + (9 * b + 1) * b for a, b in up) + (64 + 1) * 2
    with torch.device("meta"):
        net = build("unet", num_classes=2, in_channels=1)
    assert parameters(net) == expected == 31_030_658


def test_levels_are_as_in_figure_1():
    shapes = []
    with torch.device("meta"):
        net = build("unet", num_classes=2, in_channels=1)
        for level in (*net.backbone.levels, *net.ups):
            level.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:3])))
        assert net(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)
    down = [(64, 64), (128, 32), (256, 16), (512, 8), (1024, 4)]
    assert shapes == [*down, (512, 8), (256, 16), (128, 32), (64, 64)]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dropout_stands_between_the_two_convolutions_of_every_pair(batch_norm):
    with torch.device("meta"):
        net = build("unet", num_classes=2, dropout=0.3, batch_norm=batch_norm)
    found = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in found] == [0.3] * 9
    for pair in (*net.backbone.levels, *(up.convs for up in net.ups)):
        kinds = [type(module) for module in pair.modules() if isinstance(module, nn.Conv2d | nn.Dropout)]
        assert kinds == [nn.Conv2d, nn.Dropout, nn.Conv2d]


def test_with_batch_norm_no_convolution_under_it_has_a_bias():
    with torch.device("meta"):
        net = build("unet", num_classes=2, batch_norm=True)
    kernels = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [kernel.bias is None for kernel in kernels] == [True] * 18 + [False]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 18


def test_a_backbone_is_the_way_down():
    net = build("unet", num_classes=3, backbone="mobilenet_v2").eval()
    maps = ("s2", "s4", "s8", "s16", "s32")
    assert net.backbone.state_dict().keys() == backbone("mobilenet_v2", maps=maps).state_dict().keys()
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 65, 33)).shape == (1, 3, 65, 33)
    with pytest.raises(InputError, match="'resnet19'; the closest match is 'resnet1"):
        build("unet", num_classes=2, backbone="resnet19")


@pytest.mark.parametrize(
    "name",
    [name for name in BACKBONES if not name.startswith(("vgg1", "resnet1"))]
    + ["vgg11", "vgg16_bn", "resnet18", "resnet101"],
)
def test_every_classifier_that_takes_any_size_can_be_the_way_down(name):
    net = build("unet", num_classes=3, backbone=name)
    logits = net(torch.randn(2, 3, 97, 128))
    assert logits.shape == (2, 3, 97, 128)
    logits.square().mean().backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


def test_width_multiplies_the_channels():
    with torch.device("meta"):
        net = build("unet", num_classes=2, width=0.25)
    assert list(net.backbone.channels.values()) == [16, 32, 64, 128, 256]
    assert [up.up.out_channels for up in net.ups] == [128, 64, 32, 16]
    with pytest.raises(ValueError, match=r"width must be in \(0, 4\], got 0"):
        build("unet", num_classes=2, width=0)


def test_no_channels_are_refused():
    with pytest.raises(ValueError, match="got 2 and 0"):
        build("unet", num_classes=2, in_channels=0)
