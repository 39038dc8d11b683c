"""MobileNetV2 against torchvision's and timm's, the published sizes, and every knob."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from handlens.models import build
from handlens.models.blocks import ConvNormAct
from handlens.models.classify.mobilenet_v2 import BOTTLENECKS, InvertedResidual
from handlens.models.cost import parameters
from handlens.models.loading import load_into, to_our_names
from handlens.models.pretrained import load_weights
from handlens.weights import SOURCES


def small(**options):
    return build("mobilenet_v2", num_classes=3, width=0.35, **options)


@pytest.mark.parametrize(
    ("width", "classes", "expected"),
    [
        (1.4, 1000, 6_108_776),
        (1.3, 1000, 5_386_792),
        (1.0, 1000, 3_504_872),
        (0.75, 1000, 2_636_424),
        (0.5, 1000, 1_968_680),
        (0.35, 1000, 1_677_128),
        (1.0, 6, 2_231_558),
        (1.0, 10, 2_236_682),
        (1.0, 37, 2_271_269),
        (0.35, 10, 408_938),
    ],
)
def test_it_has_the_published_size(width, classes, expected):
    with torch.device("meta"):
        assert parameters(build("mobilenet_v2", num_classes=classes, width=width)) == expected


def test_with_the_published_weights_it_gives_torchvisions_logits(published, published_file, shared_data):
    published("mobilenet_v2")
    ours = build("mobilenet_v2", num_classes=1000).eval()
    assert load_into(ours, load_weights("mobilenet_v2"), new_head=False) is None
    theirs = torchvision.models.mobilenet_v2().eval()
    theirs.load_state_dict(torch.load(published_file("mobilenet_v2"), weights_only=True))
    files = sorted((shared_data / "imagenet_val500" / "images").iterdir())[::100]
    assert len(files) == 5
    preprocess = SOURCES["mobilenet_v2"].preprocess
    pixels = np.stack([preprocess.pixels(np.asarray(Image.open(file).convert("RGB"))) for file in files])
    images = torch.from_numpy(preprocess.normalize(pixels)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


def logits_agree(ours: nn.Module, theirs: nn.Module, images: torch.Tensor) -> None:
    load_into(ours, to_our_names(theirs.state_dict()), new_head=False)
    with torch.inference_mode():
        expected = theirs.eval()(images)
        assert (expected[0] - expected[1]).abs().max() > 1e-2
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [0.5, 1.4])
def test_at_other_widths_it_is_torchvisions(width, with_batch_norm_statistics, random_images):
    theirs = with_batch_norm_statistics(torchvision.models.mobilenet_v2(num_classes=20, width_mult=width))
    ours = build("mobilenet_v2", num_classes=20, width=width)
    logits_agree(ours, theirs, random_images(2, height=97, width=131))


def test_it_is_timms(with_batch_norm_statistics, random_images):
    theirs = with_batch_norm_statistics(timm.create_model("mobilenetv2_050", num_classes=20))
    logits_agree(build("mobilenet_v2", num_classes=20, width=0.5), theirs, random_images(2))


@pytest.mark.parametrize("round_to", [1, 8, 16])
def test_an_own_table_is_torchvisions(round_to, with_batch_norm_statistics, random_images):
    table = [[1, 24, 2, 2], [4, 40, 1, 1], [1, 40, 1, 1], [3, 52, 2, 2]]  # stride at t = 1, a skip at t = 1
    theirs = torchvision.models.mobilenet_v2(
        num_classes=4, width_mult=0.7, inverted_residual_setting=table, round_nearest=round_to
    )
    with_batch_norm_statistics(theirs)
    ours = build("mobilenet_v2", num_classes=4, width=0.7, table=table, round_to=round_to)
    logits_agree(ours, theirs, random_images(2))
    assert [stride for name, (_, stride) in ours.maps.items() if name in ("stem", "block1", "block2", "block6")] == [
        2,
        4,
        4,
        8,
    ]


def test_its_maps_are_the_papers():
    maps = build("mobilenet_v2", num_classes=2).maps
    blocks = [maps[f"block{number}"] for number in range(1, 18)]
    assert "block18" not in maps  # seventeen, although section 3.4 says 19
    assert [channels for channels, _ in blocks] == [
        16,
        24,
        24,
        32,
        32,
        32,
        64,
        64,
        64,
        64,
        96,
        96,
        96,
        160,
        160,
        160,
        320,
    ]
    assert [stride for _, stride in blocks] == [2, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 32, 32, 32, 32]
    assert maps["stem"] == (32, 2)
    assert maps["head"] == (1280, 32)
    assert maps["block14.expand"] == (576, 16)  # where SSDLite's first head sits


@pytest.mark.parametrize(
    ("width", "stem", "first", "last"), [(0.35, 16, 8, 1280), (0.5, 16, 8, 1280), (1.4, 48, 24, 1792)]
)
def test_stem_and_first_block_scale_and_the_head_only_grows(width, stem, first, last):
    maps = build("mobilenet_v2", num_classes=2, width=width).maps
    assert (maps["stem"][0], maps["block1"][0], maps["head"][0]) == (stem, first, last)


def test_channels_are_rounded_to_the_nearest_eight_unless_told_otherwise():
    assert small().maps["block2"][0] == 8  # 24 x 0.35 = 8.4; rounding up gives 16
    assert small(round_to=1).maps["block4"][0] == 11  # 32 x 0.35 = 11.2
    assert small(round_to=1).maps["block7"][0] == 22  # 64 x 0.35 = 22.4


def test_no_convolution_has_a_bias_and_the_bottleneck_is_linear():
    net = build("mobilenet_v2", num_classes=2)
    assert all(module.bias is None for module in net.modules() if isinstance(module, nn.Conv2d))
    for block in net.blocks:
        assert isinstance(block.project.act, nn.Identity)
        assert isinstance(block.depthwise.act, nn.ReLU6)
    assert isinstance(net.blocks[0].expand, nn.Identity)
    assert all(isinstance(block.expand.act, nn.ReLU6) for block in net.blocks[1:])
    assert net.dropout.p == 0.2


def test_skips_stand_only_at_stride_1_with_equal_channels():
    net = build("mobilenet_v2", num_classes=2)
    assert [number for number, block in enumerate(net.blocks, start=1) if block.skip] == [
        3,
        5,
        6,
        8,
        9,
        10,
        12,
        13,
        15,
        16,
    ]
    images = torch.randn(1, 8, 6, 6)
    for stride, out_channels, skips in ((1, 8, True), (2, 8, False), (1, 16, False)):
        block = InvertedResidual(8, out_channels, expansion=6, stride=stride).eval()
        nn.init.zeros_(block.project.norm.weight)
        expected = images if skips else torch.zeros(1, out_channels, 6 // stride, 6 // stride)
        torch.testing.assert_close(block(images), expected)


def test_own_norm_and_own_block():
    def norm(channels):
        return nn.GroupNorm(4, channels)

    net = small(norm=norm)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert sum(isinstance(module, nn.GroupNorm) for module in net.modules()) == 52

    calls = []

    class Plain(nn.Module):
        def __init__(self, in_channels, out_channels, *, expansion, stride, norm, padding):
            super().__init__()
            calls.append((in_channels, out_channels, expansion, stride))
            self.unit = ConvNormAct(in_channels, out_channels, stride=stride, norm=norm, padding=padding)

        def forward(self, x):
            return self.unit(x)

    net = build("mobilenet_v2", num_classes=3, block=Plain)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 3)
    assert calls[:3] == [(32, 16, 1, 1), (16, 24, 6, 2), (24, 24, 6, 1)]
    assert len(calls) == sum(repetitions for _, _, repetitions, _ in BOTTLENECKS) == 17
    assert list(net.features(torch.randn(2, 3, 32, 32))) == list(net.maps)


@pytest.mark.parametrize("size", [96, 128, 160, 192, 448])
def test_a_batch_of_two_stays_two_at_every_size(size):
    with torch.inference_mode():
        assert small().eval()(torch.randn(2, 3, size, size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "empty"),
        ([(1, 16, 1, 1), (6, 24, 2)], r"row 2 .*\(t, c, n, s\).*\(6, 24, 2\)"),
        ([(1, 16, 1, 1), 7], "row 2 .*7"),
        ([(1, 16, 1, 1), (0, 24, 2, 2)], "row 2 .*: t .*0"),
        ([(1, 16, 1, 1), ("6", 24, 2, 2)], "row 2 .*: t .*'6'"),
        ([(1, 16, 1, 1), (float("nan"), 24, 2, 2)], "row 2 .*: t .*nan"),
        ([(1, 16, 1, 1), (6, 24, 2, 2), (6, -32, 3, 2)], "row 3 .*: c .*-32"),
        ([(1, 16.5, 1, 1)], "row 1 .*: c .*16.5"),
        ([(1, 16, 1, 1), (6, 24, 0, 2)], "row 2 .*: n .*0"),
        ([(1, 16, True, 1)], "row 1 .*: n .*True"),
        ([(1, 16, 1, 1), (6, 24, 2, 3)], "row 2 .*: s .*3"),
    ],
)
def test_every_row_of_the_table_is_checked(table, message):
    with pytest.raises(ValueError, match=message):
        build("mobilenet_v2", num_classes=2, table=table)


def test_a_fractional_expansion_is_taken():
    net = build("mobilenet_v2", num_classes=2, table=[(1, 16, 1, 1), (2.5, 24, 1, 2)])
    assert net.maps["block2.expand"] == (40, 2)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"width": 0}, "0"),
        ({"width": -1.0}, "-1.0"),
        ({"width": float("nan")}, "nan"),
        ({"num_classes": 0}, "0"),
        ({"in_channels": 0}, "0"),
        ({"dropout": 1.0}, "1.0"),
        ({"round_to": 0}, "0"),
        ({"padding": "valid"}, "'valid'"),
    ],
)
def test_a_number_out_of_range_is_named(options, value):
    with pytest.raises(ValueError, match=rf"{next(iter(options))} must .*{value}"):
        build("mobilenet_v2", **{"num_classes": 2} | options)
