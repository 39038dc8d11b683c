"""Dilated depthwise convolutions, forward and backward, PyTorch and ours: python benchmarks/dilated_training.py

The layers of MobileNetV2 in DeepLabv3 at 360 x 480, 8 images; then a whole training step without and with it.
"""

import time

import torch
from common import interleaved, store
from torch import nn

from handlens.models import blocks, build
from handlens.training.optim import keep_freed_memory

keep_freed_memory()


def seconds(step) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def layer(channels: int, height: int, width: int, dilation: int) -> dict:
    conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)
    x = torch.randn(8, channels, height, width).contiguous(memory_format=torch.channels_last).requires_grad_()
    medians = interleaved(
        {
            "plain": lambda: seconds(lambda: conv(x).sum().backward()),
            "ours": lambda: seconds(
                lambda: blocks.convolve_interleaved(x, conv.weight, None, dilation=dilation).sum().backward()
            ),
        },
        rounds=5,
    )
    return row(f"{channels} channels, {height} x {width}, dilation {dilation}", medians)


def training_step(stride: int) -> dict:
    net = build("deeplab_v3", num_classes=11, output_stride=stride).to(memory_format=torch.channels_last).train()
    blocks.freeze_batch_norm(net.backbone)
    x = torch.randn(8, 3, 360, 480).contiguous(memory_format=torch.channels_last)
    slow = blocks.ConvNormAct._learns_slowly

    def step(ours: bool) -> float:
        blocks.ConvNormAct._learns_slowly = slow if ours else lambda unit, x: False
        return seconds(lambda: net(x).mean().backward())

    medians = interleaved({"plain": lambda: step(False), "ours": lambda: step(True)}, rounds=3)
    return row(f"deeplab_v3, output stride {stride}, forward and backward", medians)


def row(what: str, medians: dict[str, float]) -> dict:
    return {"what": what, **medians, "ratio": medians["plain"] / medians["ours"]}


store(
    "dilated_training",
    [layer(960, 23, 30, 2), layer(384, 45, 60, 2), layer(960, 45, 60, 4), training_step(16), training_step(8)],
)
