"""Detectors and segmenters on other classifiers than MobileNetV2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from handlens.errors import InputError
from handlens.models import build
from handlens.models.backbones import BACKBONES, strides
from handlens.models.detect.anchors import map_grids


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v1", "efficientnet_lite0"])
def test_ssdlite_on_another_net(name):
    net = build("ssdlite", num_classes=3, backbone=name).train()
    raw = net(torch.randn(2, 3, 160, 192))
    grids = map_grids(160, 192)
    shapes = [len(anchors) for anchors in net.anchors]
    assert raw.offsets.shape[1] == sum(rows * columns * n for (rows, columns), n in zip(grids, shapes, strict=True))
    (raw.offsets.square().mean() + raw.logits.square().mean()).backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", [name for name in BACKBONES if strides(name)[-1] >= 16])
def test_every_classifier_that_takes_any_size_carries_a_detector_and_a_segmenter(name):
    with torch.device("meta"):
        images = torch.empty(2, 3, 160, 192)
        raw = build("ssdlite", num_classes=3, backbone=name)(images)
        assert raw.offsets.shape[:2] == raw.logits.shape[:2] and raw.logits.shape[2] == 4
        for options in ({}, {"decoder": 32}, {"output_stride": 8}):
            net = build("deeplab_v3", num_classes=3, backbone=name, **options)
            assert net(images).shape == (2, 3, 160, 192)


@pytest.mark.parametrize("name", ["vgg11_bn", "googlenet", "xception", "alexnet"])
def test_deeplab_learns_on_nets_that_pool(name):
    net = build("deeplab_v3", num_classes=3, backbone=name).train()
    net(torch.randn(2, 3, 96, 97)).square().mean().backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


def test_a_net_for_small_images_is_refused_in_a_sentence():
    for top in ("ssdlite", "deeplab_v3"):
        with pytest.raises(InputError, match=r"unknown map 's16'; available: stem, block1, block2"):
            build(top, num_classes=3, backbone="residual_convnet")


def test_deeplab_on_a_resnet_keeps_its_weights_and_sees_a_finer_map():
    """The stride of the last stage becomes a dilation: 1 in its first 3 x 3 convolution, 2 behind it."""
    net = build("deeplab_v3", num_classes=4, backbone="resnet50", output_stride=16).eval()
    assert net.backbone.strides == {"s16": 16} and net.backbone.channels == {"s16": 2048}
    dilations = [
        module.dilation[0]
        for module in net.backbone.blocks[13:].modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    assert dilations == [1, 2, 2]
    with torch.inference_mode():
        assert net.backbone(torch.zeros(1, 3, 96, 128))["s16"].shape == (1, 2048, 6, 8)
        assert net(torch.zeros(1, 3, 65, 97)).shape == (1, 4, 65, 97)
    with pytest.raises(InputError, match="has no option 'width'"):
        build("ssdlite", num_classes=3, backbone="resnet18", width=0.5)
