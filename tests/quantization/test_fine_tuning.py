"""Weights that are changed for int8: fine-tuned to it, biases corrected, equalized, and written back into modules."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.quantization.bias import bias_corrected
from handlens.quantization.equalization import equalized
from handlens.quantization.fine_tuning import fine_tuned
from handlens.quantization.observe import observe
from handlens.quantization.rewritten import ChannelLimit, with_corrected_bias, with_equal_channels, written
from handlens.quantization.sensitivity import noise_of, normalized, simulate, unfold
from handlens.runtimes.fold import folded
from handlens.runtimes.int8 import EVERY, Scheme
from quantization.nets import small_net
from quantization.test_simulation import PREPROCESS, images

COARSE = Scheme(weight_limit=7)  # 4 bits, so that there is something to learn


def noise(net: nn.Module, scheme: Scheme, whole: Tensor, x: Tensor, calibration: Tensor) -> float:
    return noise_of(simulate(net, calibration, scheme)(x), whole, len(x))


def test_it_answers_more_alike_on_images_that_it_did_not_learn_from():
    calibration, x = normalized(images(16), PREPROCESS), normalized(images(64, seed=1), PREPROCESS)
    net = folded(small_net(), calibration[:1])
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        whole = net(x)
    seen = normalized(images(50, seed=2), PREPROCESS)  # not a whole number of batches
    learned = fine_tuned(net, seen, COARSE, calibration=calibration, epochs=6, learning_rate=1e-3)
    assert noise(learned, COARSE, whole, x, calibration) < 0.6 * noise(net, COARSE, whole, x, calibration)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())  # is left as it was
    again = fine_tuned(net, seen, COARSE, calibration=calibration, epochs=6, learning_rate=1e-3)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in learned.state_dict().items())


def test_layers_that_stay_in_float_learn_with_the_others():
    calibration = normalized(images(16), PREPROCESS)
    net = folded(small_net(), calibration[:1])
    learned = fine_tuned(
        net, calibration, COARSE, calibration=calibration, epochs=2, learning_rate=1e-3, keep_float=["classifier"]
    )
    with torch.no_grad():
        whole = net(calibration)

    def kept(net: nn.Module) -> float:
        simulation = simulate(net, calibration, COARSE)
        simulation.keep_float(["classifier"])
        return noise_of(simulation(calibration), whole, len(calibration))

    assert kept(learned) < kept(net)


def test_what_was_changed_in_the_graph_is_written_into_the_modules():
    calibration = normalized(images(16), PREPROCESS)
    net = folded(small_net(nn.ReLU6), calibration[:1])
    unfolded = unfold(net, calibration)
    even = equalized(unfolded)
    for changed in (even, bias_corrected(even, observe(even, calibration), COARSE)):
        made = written(changed)
        with torch.no_grad():
            torch.testing.assert_close(made(calibration[:8]), changed.module(calibration[:8]), rtol=1e-5, atol=1e-5)
    assert isinstance(made.get_submodule("depthwise.act"), ChannelLimit)
    assert isinstance(made.get_submodule("stem.act"), nn.ReLU6)  # its map is taken twice: nothing was rescaled
    assert isinstance(net.get_submodule("depthwise.act"), nn.ReLU6)


def test_biases_that_were_corrected_do_what_the_simulation_does_by_itself():
    calibration, x = normalized(images(16), PREPROCESS), normalized(images(8, seed=1), PREPROCESS)
    net = folded(small_net(), calibration[:1])
    unfolded = unfold(net, calibration)
    scheme = replace(COARSE, places="inputs")
    corrected = written(bias_corrected(unfolded, observe(unfolded, calibration), scheme))
    with torch.no_grad():
        whole = net(x)
    plain, ours = (noise(each, scheme, whole, x, calibration) for each in (net, corrected))
    own = noise(net, replace(scheme, bias_correction=EVERY), whole, x, calibration)
    assert abs(ours - own) < 0.3 * (plain - own)  # ranges are those of the corrected model


def test_weights_that_are_computed_cannot_be_changed():
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Flatten()).eval()
    x = normalized(images(8), PREPROCESS)
    with pytest.raises(InputError, match="Sequential has no weights that can be fine-tuned for int8"):
        fine_tuned(net, x, Scheme(), calibration=x, epochs=1)


def test_limits_of_a_function_are_none_of_a_module():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(nn.functional.relu6(self.first(x)))

    net, x = Functional().eval(), normalized(images(8), PREPROCESS)
    with pytest.raises(
        InputError, match=r"Functional cannot be equalized: .* calls ReLU6 as a function; make it an nn.R"
    ):
        with_equal_channels(net, x)


def test_an_activation_that_runs_again_keeps_its_limit():
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.act = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3)), nn.ReLU6()

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers[:2]:
                x = self.act(layer(x))
            return self.layers[2](x)

    torch.manual_seed(1)
    net, x = Again().eval(), normalized(images(8), PREPROCESS)
    with torch.no_grad():
        torch.testing.assert_close(with_equal_channels(net, x)(x), net(x))


def test_only_what_is_rounded_has_its_bias_corrected():
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up = nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 2, stride=2)
            self.register_buffer("blur", torch.ones(4, 1, 3, 3) / 9)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(self.up(self.conv(x).relu()), self.blur, groups=4)

    torch.manual_seed(0)
    net, x = Up().eval(), normalized(images(8), PREPROCESS)

    def moved(scheme: Scheme, **options: Any) -> list[str]:
        made = dict(with_corrected_bias(net, x, scheme, **options).named_parameters())
        return [name for name, value in net.named_parameters() if not torch.equal(value, made[name])]

    assert moved(COARSE) == ["conv.bias", "up.bias"]
    assert moved(COARSE, keep_float=["conv"]) == ["up.bias"]
    assert moved(replace(COARSE, transposed=False)) == ["conv.bias"]
    simulation = simulate(net, x, replace(COARSE, transposed=False))
    assert "up" not in {layer.name for layer in simulation.layers}
