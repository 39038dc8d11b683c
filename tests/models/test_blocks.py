"""Channel rounding, SAME padding, and batch norm folded on the fly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from handlens.models import blocks, build
from handlens.models.blocks import (
    ConvNormAct,
    convolve_interleaved,
    freeze_batch_norm,
    initialize,
    round_channels,
)


@pytest.mark.parametrize(
    ("channels", "to", "expected"),
    [
        (24 * 0.35, 8, 8),
        (32 * 0.35, 8, 16),
        (16 * 0.35, 8, 8),
        (96 * 0.75, 8, 72),
        (32 * 1.3, 8, 40),
        (3.0, 8, 8),
        (8.4, 1, 8),
        (11.2, 1, 11),
        (0.2, 1, 1),
        (20, 16, 32),
        (33.6, 8, 32),
    ],
)
def test_channels_are_rounded_to_the_nearest(channels, to, expected):
    assert round_channels(channels, to=to) == expected


def test_rounding_never_drops_more_than_a_tenth():
    for tenths in range(1, 20_000):
        channels = tenths / 10
        rounded = round_channels(channels, to=8)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        # The nearest multiple, or the one above where the nearest would drop too much.
        assert abs(rounded - max(channels, 8)) <= 4 or math.floor(channels / 8) * 8 < 0.9 * channels


@pytest.mark.parametrize("size", [(1, 1), (7, 8), (8, 7), (9, 10), (15, 16), (224, 97)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (3, 2), (5, 1), (5, 3)])
def test_same_padding_is_tensorflows(size, stride, kernel, dilation):
    unit = ConvNormAct(2, 3, kernel=kernel, stride=stride, dilation=dilation, norm=nn.Identity, padding="same")
    reference = Conv2dSame(2, 3, kernel, stride=stride, dilation=dilation, bias=False)
    reference.load_state_dict(unit.conv.state_dict())
    images = torch.randn(2, 2, *size)
    torch.testing.assert_close(unit(images), reference(images))
    assert unit(images).shape[2:] == tuple(math.ceil(side / stride) for side in size)


def test_same_padding_puts_the_odd_pixel_right_and_bottom():
    """TensorFlow: at stride 2 an even image is padded at its end only, where PyTorch's padding=1 pads its start."""
    kinds = {}
    for padding in ("same", "symmetric"):
        unit = ConvNormAct(1, 1, kernel=3, stride=2, norm=nn.Identity, padding=padding)
        nn.init.constant_(unit.conv.weight, 0)
        unit.conv.weight.data[0, 0, 0, 0] = 1  # looks at the window's first pixel
        kinds[padding] = unit(torch.arange(36.0).reshape(1, 1, 6, 6))[0, 0]
    assert kinds["same"].tolist() == [[0, 2, 4], [12, 14, 16], [24, 26, 28]]
    assert kinds["symmetric"].tolist() == [[0, 0, 0], [0, 7, 9], [0, 19, 21]]


def test_unknown_padding_is_named():
    with pytest.raises(ValueError, match="'valid'"):
        ConvNormAct(1, 1, padding="valid")


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_folded_batch_norm_is_the_same_function_with_the_same_gradients(
    padding, with_batch_norm_statistics, random_images
):
    """In float64: in float32 a rounding error can carry a value over a corner of ReLU6, where gradients jump."""
    plain = with_batch_norm_statistics(build("mobilenet_v2", num_classes=5, width=0.35, dropout=0.0, padding=padding))
    plain = plain.double()
    folded = copy.deepcopy(plain)
    freeze_batch_norm(plain, fold=False)
    freeze_batch_norm(folded, fold=True)
    images = random_images(3, height=32, width=32).double()
    expected, answers = answers_and_gradients(plain, images), answers_and_gradients(folded, images)
    assert all(unit.folded for unit in folded.modules() if isinstance(unit, ConvNormAct))
    assert expected["stem.norm.weight"].abs().max() > 1e-4  # else the comparison says nothing
    for key, value in expected.items():
        assert (answers[key] - value).abs().max() <= 1e-9 * value.abs().max(), key


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 8), (5, 8)])
def test_folded_in_float32_a_unit_differs_by_rounding_only(kernel, groups, padding, with_batch_norm_statistics):
    plain = nn.Sequential(
        ConvNormAct(3, 8, stride=2, activation=nn.ReLU6, padding=padding),
        ConvNormAct(8, 8, kernel=kernel, stride=2, groups=groups, padding=padding),
        nn.Flatten(),
    )
    with_batch_norm_statistics(plain)
    folded = copy.deepcopy(plain)
    freeze_batch_norm(plain, fold=False)
    freeze_batch_norm(folded, fold=True)
    images = torch.randn(3, 3, 17, 18)
    expected, answers = answers_and_gradients(plain, images), answers_and_gradients(folded, images)
    for key, value in expected.items():
        assert (answers[key] - value).abs().max() <= 1e-4 * value.abs().max(), key


def answers_and_gradients(net: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The logits of a net in training mode, and the gradients of its images and its parameters."""
    images = images.clone().requires_grad_()
    logits = net.train()(images)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 4])).backward()
    return {"logits": logits.detach(), "images": images.grad} | {key: p.grad for key, p in net.named_parameters()}


def test_freezing_survives_train_and_changes_no_name(with_batch_norm_statistics, random_images):
    for fold in (True, False):
        net = with_batch_norm_statistics(build("mobilenet_v2", num_classes=5, width=0.35))
        before = copy.deepcopy(net.state_dict())
        freeze_batch_norm(net, fold=fold)
        freeze_batch_norm(net, fold=fold)  # twice is as once
        net.train()(random_images(2)).sum().backward()
        after = net.state_dict()
        assert list(after) == list(before)
        for key in before:
            torch.testing.assert_close(after[key], before[key], rtol=0, atol=0)
        assert net.training
        assert net.dropout.training
        assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))
        assert all(parameter.grad is not None for parameter in net.parameters())
        copied = copy.deepcopy(net).train()
        assert not any(module.training for module in copied.modules() if isinstance(module, nn.BatchNorm2d))


def test_batch_norms_outside_our_units_are_frozen_too():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(4))
    freeze_batch_norm(net)
    before = copy.deepcopy(net.state_dict())
    net.train()(torch.randn(2, 3, 3, 3))
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_only_plain_batch_norm_is_folded():
    class Own(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    unit = ConvNormAct(3, 4, norm=Own).eval()
    images = torch.randn(2, 3, 8, 8)
    expected = unit(images)
    freeze_batch_norm(unit)
    assert unit.frozen
    assert not unit.folded
    torch.testing.assert_close(unit(images), expected)


def test_a_batch_norm_without_statistics_cannot_be_frozen():
    unit = nn.Sequential(ConvNormAct(3, 4, norm=lambda channels: nn.BatchNorm2d(channels, track_running_stats=False)))
    with pytest.raises(ValueError, match=r"0\.norm"):
        freeze_batch_norm(unit)


def test_the_usual_start():
    net = nn.Sequential(nn.Conv2d(64, 256, 3), nn.BatchNorm2d(256), nn.Linear(256, 1000))
    initialize(net)
    assert net[0].weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)  # He et al.: fan out
    assert net[0].bias.abs().max() == 0
    assert net[2].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert net[2].bias.abs().max() == 0
    initialize(nn.Sequential(nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4, affine=False)))


@pytest.mark.parametrize(("dilation", "size"), [(2, (23, 30)), (4, (7, 9)), (3, (2, 1))])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_dilated_depthwise_convolution_interleaved_is_the_same_with_the_same_gradients(dilation, size, kernel):
    conv = nn.Conv2d(
        6, 6, kernel, groups=6, dilation=dilation, padding=(kernel - 1) // 2 * dilation, dtype=torch.float64
    )
    images = torch.randn(2, 6, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)

    def answer_and_gradients(convolve):
        x = images.clone().requires_grad_()
        answer = convolve(x)
        answer.square().sum().backward()
        gradients = [x.grad, conv.weight.grad, conv.bias.grad]
        conv.zero_grad()
        return [answer, *gradients]

    expected = answer_and_gradients(conv)
    made = answer_and_gradients(lambda x: convolve_interleaved(x, conv.weight, conv.bias, dilation=dilation))
    for ours, torchs in zip(made, expected, strict=True):
        torch.testing.assert_close(ours, torchs)


def test_only_training_on_the_cpu_interleaves(monkeypatch):
    used = []
    monkeypatch.setattr(blocks, "convolve_interleaved", lambda x, *_, **__: used.append(1) or x)
    images = torch.zeros(1, 4, 8, 8)
    depthwise = ConvNormAct(4, 4, dilation=2, groups=4)
    depthwise(images)
    assert used == [1]
    depthwise.eval()(images)
    with torch.no_grad():
        depthwise.train()(images)
    ConvNormAct(4, 4, dilation=2)(images)
    ConvNormAct(4, 4, groups=4)(images)
    assert used == [1]
