"""Cross-layer equalization and bias correction: what they leave as it is, and what they make better."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from handlens.models import build
from handlens.quantization.bias import bias_shift, input_mean
from handlens.quantization.equalization import equalized, pairs_of
from handlens.quantization.observe import observe
from handlens.quantization.sensitivity import noise_of, normalized, unfold
from handlens.quantization.simulation import Simulation
from handlens.quantization.unfolded import Unfolded
from handlens.runtimes.int8 import Scheme
from quantization.nets import small_net
from quantization.test_simulation import PREPROCESS, images


def spread_channels(net: nn.Module) -> None:
    """Make channels of a trained net very different in size, as depthwise nets have them; ReLU keeps the function."""
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data *= torch.exp(1.5 * torch.randn(len(module.weight), generator=generator))


def names_of_pairs(unfolded: Unfolded) -> list[tuple[str, str]]:
    return [(first.name, second.name) for first, second, _ in pairs_of(unfolded)]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_an_equalized_net_gives_what_it_gave(activation: type[nn.Module]):
    net = small_net(activation)
    spread_channels(net)
    x = normalized(images(8), PREPROCESS)
    unfolded = unfold(net, x)
    assert names_of_pairs(unfolded) == [("depthwise.conv", "project.conv")]  # the others' maps are taken twice
    made = equalized(unfolded)
    with torch.no_grad():
        whole = net(x)
        assert (whole.amax() - whole.amin()) > 0.1
        torch.testing.assert_close(made.module(x), whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(unfolded.module(x), whole, rtol=1e-5, atol=1e-5)  # the original is as it was
    largest = made.module.get_parameter("depthwise.conv.weight").abs().amax((1, 2, 3))
    taken = made.module.get_parameter("project.conv.weight").abs().amax((0, 2, 3))
    torch.testing.assert_close(largest, taken, rtol=0.02, atol=1e-6)  # equation 9 of the paper


def test_mobilenet_v2_is_equalized_in_its_blocks_through_relu6():
    torch.manual_seed(0)
    net = build("mobilenet_v2", num_classes=5, width=0.35).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 4)
            nn.init.uniform_(module.bias, -1, 3)
    x = torch.randn(8, 3, 64, 64)
    unfolded = unfold(net, x)
    pairs = names_of_pairs(unfolded)
    assert ("blocks.1.expand.conv", "blocks.1.depthwise.conv") in pairs
    assert ("blocks.1.depthwise.conv", "blocks.1.project.conv") in pairs
    made = equalized(unfolded)
    with torch.no_grad():
        before, after = unfolded.module(x), made.module(x)
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_it_helps_where_one_range_for_all_channels_wastes_levels():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 32, 3, stride=2), nn.Conv2d(32, 10, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu()).mean(dim=(2, 3))

    torch.manual_seed(0)
    net, x = Pair().eval(), normalized(images(16), PREPROCESS)
    size = torch.logspace(-2, 2, 32)
    with torch.no_grad():
        net.first.weight *= size[:, None, None, None]
        net.first.bias *= size
        net.second.weight /= size[None, :, None, None]
        whole = net(x)
    unfolded = unfold(net, x)

    def noise(of: object) -> float:
        return noise_of(Simulation(of, observe(of, x), Scheme())(x), whole, len(x))

    assert noise(equalized(unfolded)) < 0.1 * noise(unfolded)


def test_bias_correction_keeps_the_mean_and_lowers_the_error():
    net, x = small_net(seed=4), normalized(images(32), PREPROCESS)
    unfolded = unfold(net, x)
    observed = observe(unfolded, x)
    coarse = Scheme(weight_limit=7, places="inputs")  # 4 bits, so that rounding moves means

    def error(scheme: Scheme) -> float:
        with torch.no_grad():
            return noise_of(Simulation(unfolded, observed, scheme)(x), net(x), len(x))

    assert error(replace(coarse, bias_correction=1e9)) < 0.9 * error(coarse)


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_the_shift_is_the_difference_of_means(groups: int):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, 3, groups=groups)
    x = torch.randn(4, 16, 1, 1).abs().expand(4, 16, 12, 12)  # one value for each channel: exact
    (layer,) = unfold(nn.Sequential(conv), x).layers
    rounded = conv.weight + 0.1 * torch.randn_like(conv.weight)
    with torch.no_grad():
        moved = nn.functional.conv2d(x, rounded, conv.bias, groups=groups) - conv(x)
        shift = bias_shift(layer, conv.weight, rounded, input_mean(layer, x))
        torch.testing.assert_close(-shift.float(), moved.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="mean must have 16 channels"):
        bias_shift(layer, conv.weight, rounded, torch.zeros(5))
