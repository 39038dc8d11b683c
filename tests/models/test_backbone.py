"""Nets cut behind the maps that are asked for."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision
from torch import nn

from families import family_first, small
from handlens.errors import InputError
from handlens.models import Backbone, backbone, build
from handlens.models.backbones import BACKBONES, strides
from handlens.models.cost import parameters
from handlens.models.loading import to_our_names

PUBLISHED = torchvision.models.mobilenet_v2


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
@pytest.mark.parametrize(
    "maps",
    [
        ("stem",),
        ("block1",),
        ("block1.expand",),
        ("block14.expand",),
        ("block16",),
        ("head",),
        ("s2", "s4", "s8", "s16", "s32"),
        ("s32", "block3.expand"),
    ],
)
def test_every_parameter_gets_a_gradient_and_every_map_is_as_promised(name, maps):
    extractor = backbone(name, maps=maps)
    made = extractor.train()(torch.randn(2, 3, 65, 97))
    assert tuple(made) == maps
    for asked in maps:
        sides = (math.ceil(side / extractor.strides[asked]) for side in (65, 97))
        assert made[asked].shape == (2, extractor.channels[asked], *sides)
        if asked[0] == "s" and asked[1:].isdigit():
            assert extractor.strides[asked] == int(asked[1:])
    sum((value * torch.randn_like(value)).sum() for value in made.values()).backward()
    without = [key for key, value in extractor.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


def test_aliases_are_the_last_block_of_a_stride():
    extractor = backbone("mobilenet_v2", maps=("s2", "s4", "s8", "s16", "s32"))
    assert extractor.channels == {"s2": 16, "s4": 24, "s8": 32, "s16": 96, "s32": 320}
    assert extractor.names["s32"] == "block17"


@pytest.mark.parametrize(("asked", "layers"), [("stem", 1), ("block1", 2), ("block6", 7), ("s32", 18), ("head", 19)])
def test_only_the_layers_needed_are_built(asked, layers):
    """Counted on torchvision's net, whose `features` are the stem, the blocks and the head in order."""
    assert parameters(backbone("mobilenet_v2", maps=(asked,))) == parameters(PUBLISHED().features[:layers])


def test_a_cut_expansion_leaves_the_rest_of_its_block_out():
    theirs = PUBLISHED().features
    expected = parameters(theirs[:14]) + parameters(theirs[14].conv[0])
    assert parameters(backbone("mobilenet_v2", maps=("block14.expand",))) == expected


def test_maps_are_those_of_the_whole_net(with_batch_norm_statistics, random_images):
    net = with_batch_norm_statistics(build("mobilenet_v2", num_classes=2))
    images = random_images(2)
    with torch.inference_mode():
        expected = net.features(images)
        for name in ("block13", "block14.expand", "head"):
            made = Backbone(build_like(net), ("block2", name)).eval()(images)
            torch.testing.assert_close(made[name], expected[name])
            torch.testing.assert_close(made["block2"], expected["block2"])


def build_like(net: nn.Module) -> nn.Module:
    other = build("mobilenet_v2", num_classes=2)
    other.load_state_dict(net.state_dict())
    return other


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("mobilenet_v2", "mobilenetv2_100"), ("efficientnet_lite0", "tf_efficientnet_lite0")]
)
def test_dilated_it_is_timms(ours, theirs, output_stride, with_batch_norm_statistics, random_images):
    reference = with_batch_norm_statistics(timm.create_model(theirs, output_stride=output_stride, num_classes=1))
    extractor = backbone(ours, maps=("head",), output_stride=output_stride).eval()
    weights = to_our_names(reference.state_dict())
    extractor.load_state_dict({key: value for key, value in weights.items() if not key.startswith("classifier.")})
    images = random_images(2, height=65, width=97)
    with torch.inference_mode():
        expected = reference.forward_features(images)
        made = extractor(images)["head"]
    assert made.shape[2:] == (math.ceil(65 / output_stride), math.ceil(97 / output_stride))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    assert extractor.strides["head"] == output_stride


def test_an_output_stride_leaves_one_alias_at_that_stride():
    extractor = backbone("mobilenet_v2", maps=("s16", "block17"), output_stride=16)
    assert extractor.names == {"s16": "block17", "block17": "block17"}
    assert extractor.channels == {"s16": 320, "block17": 320}
    assert extractor.strides == {"s16": 16, "block17": 16}
    with pytest.raises(InputError, match="'s32'"):
        backbone("mobilenet_v2", maps=("s32",), output_stride=16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": ("block18",)}, "'block18'; the closest match is 'block"),
        ({"maps": ("s64",)}, "'s64'"),
        ({"maps": ()}, "empty"),
        ({"output_stride": 4}, "output_stride .*4"),
        ({"widht": 1.0}, "'widht'.*'width'"),
    ],
)
def test_what_cannot_be_had_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        backbone("mobilenet_v2", **arguments)


@pytest.mark.parametrize(
    # TensorFlow's SAME pads the end alone at stride 2, both sides at stride 1: that net is compared with timm's above.
    "name",
    family_first(name for name in BACKBONES if strides(name)[-1] > 16 and name != "efficientnet_lite0"),
)
def test_dilated_every_net_sees_at_every_few_places_what_it_saw_before(name, with_batch_norm_statistics, random_images):
    """To the last level but at the edges, where windows that hung over them were dropped."""
    edge = 0 if name.startswith(("vgg", "resnet", "mobilenet")) else 2
    whole = with_batch_norm_statistics(backbone(name, maps=("s32",), **small(name)), height=96, width=96).eval()
    last = whole.names["s32"]
    images = random_images(2, height=224, width=256) if edge else random_images(2, height=96, width=128)
    with torch.inference_mode():
        expected = whole(images)["s32"]
    for output_stride in (16, 8):
        fine = backbone(name, maps=(last,), output_stride=output_stride, **small(name)).eval()
        fine.load_state_dict(whole.state_dict())
        step = 32 // output_stride
        with torch.inference_mode():
            made = fine(images)[last]
        assert (fine.strides[last], made.shape[1]) == (output_stride, expected.shape[1])
        assert made.shape[2] > (step - 1) * expected.shape[2]
        made = made[:, :, ::step, ::step][:, :, : expected.shape[2], : expected.shape[3]]
        assert made.shape == expected.shape
        inside = slice(edge, -edge or None)
        far = (made - expected)[:, :, inside, inside].abs()
        assert min(far.shape) > 1
        assert far.max() < 1e-4 * expected.abs().max(), (output_stride, float(far.max() / expected.abs().max()))


def test_strides_that_cannot_be_replaced_are_refused():
    class Own(nn.Module):
        def __init__(self, in_channels, out_channels, *, expansion, stride, norm, padding):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            self.pool = nn.AvgPool2d(stride)

        def forward(self, x):
            return self.pool(self.conv(x))

    assert backbone("mobilenet_v2", maps=("s32",), block=Own)(torch.randn(1, 3, 64, 64))["s32"].shape == (1, 320, 2, 2)
    with pytest.raises(ValueError, match="block14 cannot become a dilation: it has a AvgPool2d"):
        backbone("mobilenet_v2", maps=("s16",), output_stride=16, block=Own)
