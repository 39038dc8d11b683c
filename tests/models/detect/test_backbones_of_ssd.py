"""Detectors and segmenters on other classifiers than MobileNetV2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from handlens.errors import InputError
from handlens.models import build
from handlens.models.detect.ssd import map_grids


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "mobilenet_v1", "efficientnet_lite0"])
def test_ssdlite_on_another_net(name):
    net = build("ssdlite", num_classes=3, backbone=name).train()
    raw = net(torch.randn(2, 3, 160, 192))
    grids = map_grids(160, 192)
    shapes = [len(anchors) for anchors in net.anchors]
    assert raw.offsets.shape[1] == sum(rows * columns * n for (rows, columns), n in zip(grids, shapes, strict=True))
    (raw.offsets.square().mean() + raw.logits.square().mean()).backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


def test_deeplab_on_a_resnet_keeps_its_weights_and_sees_a_finer_map():
    """The stride of the last stage becomes a dilation: 1 in its first 3 x 3 convolution, 2 behind it."""
    net = build("deeplab_v3", num_classes=4, backbone="resnet50", output_stride=16).eval()
    assert net.backbone.strides == {"s16": 16} and net.backbone.channels == {"s16": 2048}
    dilations = [
        module.dilation[0] for module in net.backbone.blocks[13:].modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    ]  # fmt: skip
    assert dilations == [1, 2, 2]
    with torch.inference_mode():
        assert net.backbone(torch.zeros(1, 3, 96, 128))["s16"].shape == (1, 2048, 6, 8)
        assert net(torch.zeros(1, 3, 65, 97)).shape == (1, 4, 65, 97)
    with pytest.raises(ValueError, match="needs blocks that stride in a ConvNormAct, and block4 has a MaxPool2d"):
        build("deeplab_v3", num_classes=4, backbone="vgg16", output_stride=16)
    with pytest.raises(InputError, match="has no option 'width'"):
        build("ssdlite", num_classes=3, backbone="resnet18", width=0.5)
