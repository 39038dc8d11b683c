"""DeepLabv3 against the paper's counts and against torchvision's module with the same weights."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.segmentation import deeplabv3 as theirs

from handlens.errors import InputError
from handlens.models import build
from handlens.models.cost import multiply_adds, parameters
from handlens.models.segment.deeplab_v3 import ASPP


def built(**options):
    with torch.device("meta"):
        return build("deeplab_v3", num_classes=21, **options)


# Sandler et al. 2018, Table 7: parameters in millions.
@pytest.mark.parametrize(("aspp", "millions", "exact"), [(False, 2.11, 2_113_557), (True, 4.52, 4_523_541)])
def test_it_has_the_published_size(aspp, millions, exact):
    assert parameters(built(aspp=aspp)) == exact
    assert exact / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_decoder_adds_what_its_paper_describes():
    reduce = 24 * 48 + 2 * 48
    refine = 304 * 9 + 2 * 304 + 304 * 256 + 2 * 256 + 256 * 9 + 2 * 256 + 256 * 256 + 2 * 256
    assert parameters(built(decoder=256)) - parameters(built()) == reduce + refine


def test_the_decoder_classifies_at_stride_4(random_images):
    net = build("deeplab_v3", num_classes=3, width=0.35, decoder=32).eval()
    seen = []
    net.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.inference_mode():
        net(random_images(1, height=70, width=64))
    assert seen == [(1, 3, 18, 16)]


def dilated_by_batches(size: int, *, rate: int, numbers: int) -> int:
    """How many multiply-adds more a 3 x 3 convolution costs as TensorFlow runs it: SAME padding, filled up to a
    multiple of the dilation, cut into rate x rate small maps, each convolved without padding.

    Source: TensorFlow's documentation of tf.nn.space_to_batch and tf.nn.atrous_conv2d.
    """
    filled = -(-(size + 2 * rate) // rate) * rate
    made = (filled // rate - 2) * rate
    return (made**2 - size**2) * 9 * numbers


def test_it_costs_what_the_paper_prints():
    plain, with_aspp = (multiply_adds(built(aspp=aspp), height=513, width=513) for aspp in (False, True))
    blocks = 3 * dilated_by_batches(33, rate=2, numbers=960)  # depthwise, in blocks 15 to 17
    branches = sum(dilated_by_batches(33, rate=rate, numbers=320 * 256) for rate in (6, 12, 18))
    upsampling = 513 * 513 * 21  # one each, at least
    assert (plain + blocks + upsampling) / 1e9 == pytest.approx(2.75, abs=0.005)
    assert (with_aspp + blocks + branches + upsampling) / 1e9 == pytest.approx(5.8, abs=0.05)


def their_names(state):
    """Ours -> torchvision's: `convs` are the branches and then the pooled one, each convolution, norm, ReLU."""
    renamed = {}
    for key, value in state.items():
        *unit, layer, what = key.split(".")
        number = {"conv": 0, "norm": 1}[layer]
        if unit[0] == "branches":
            key = f"convs.{unit[1]}.{number}.{what}"
        elif unit[0] == "pooled":
            key = f"convs.4.{number + 1}.{what}"  # behind its pooling
        else:
            key = f"project.{number}.{what}"
        renamed[key] = value
    return renamed


@pytest.mark.parametrize("rates", [(6, 12, 18), (12, 24, 36)])
def test_aspp_is_torchvisions(rates):
    ours = ASPP(3, rates)
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.3)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    reference = theirs.ASPP(3, list(rates), 256)
    reference.load_state_dict(their_names(ours.state_dict()))
    reference.project[3].p = 0.0  # dropout: ours stands before the classifier
    x = torch.randn(2, 3, 33, 29)
    with torch.inference_mode():
        expected, made = reference.eval()(x), ours.eval()(x)
    assert expected.std() > 0.05
    torch.testing.assert_close(made, expected, rtol=0, atol=2e-6)
    x = x.double()
    with torch.inference_mode():
        torch.testing.assert_close(ours.double()(x), reference.double()(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_the_map_is_as_fine_as_asked_and_the_rates_follow(output_stride):
    net = build("deeplab_v3", num_classes=3, output_stride=output_stride, aspp=True, width=0.35).eval()
    with torch.inference_mode():
        (made,) = net.backbone(torch.zeros(1, 3, 65, 97)).values()
    assert made.shape[2:] == (64 // output_stride + 1, 96 // output_stride + 1)
    rates = [branch.conv.dilation[0] for branch in net.aspp.branches]
    assert rates == [1, 96 // output_stride, 192 // output_stride, 288 // output_stride]  # pixels stay the same


def test_logits_are_upsampled_by_either_convention(with_batch_norm_statistics, random_images):
    net = with_batch_norm_statistics(build("deeplab_v3", num_classes=2, width=0.35, align_corners=True))
    images = random_images(1, height=65, width=65)
    with torch.inference_mode():
        (x,) = net.backbone(images).values()
        coarse, made = net.classifier(net.aspp(x)), net(images)
        torch.testing.assert_close(made[:, :, ::16, ::16], coarse)  # 65 = 4 * 16 + 1: coarse pixels lie on fine ones
        net.align_corners = False
        assert (net(images)[:, :, ::16, ::16] - coarse).abs().max() > 1e-3


def test_other_backbones_by_name():
    net = build("deeplab_v3", num_classes=2, backbone="efficientnet_lite0").eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 40, 56)).shape == (1, 2, 40, 56)
    with pytest.raises(InputError, match="efficientnet_lite0 has no option 'width'"):
        build("deeplab_v3", num_classes=2, backbone="efficientnet_lite0", width=0.5)
    with pytest.raises(InputError, match="the closest match is 'mobilenet_v2'"):
        build("deeplab_v3", num_classes=2, backbone="mobilenetv2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"output_stride": 32}, "output_stride must be one of 16, 8, got 32"),
        ({"decoder": -1}, "decoder must be a number of channels, or 0, got -1"),
        ({"dropout": 1.5}, "got 1.5"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build("deeplab_v3", **{"num_classes": 2} | options)
