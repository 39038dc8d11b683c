"""Layers by what int8 does to them, and the drop that is predicted from probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handlens.quantization.plot import errors_plot
from handlens.quantization.prediction import predict_drop
from handlens.quantization.sensitivity import layers_that_hurt, noise_of, normalized, simulate
from handlens.runtimes import RUNTIMES
from handlens.runtimes.int8 import Scheme
from quantization.nets import small_net
from quantization.test_simulation import PREPROCESS, images


def changed(whole: Tensor, raw: Tensor) -> float:
    return float((whole.argmax(1) != raw.argmax(1)).float().mean())


def test_a_layer_with_outliers_is_found():
    net = small_net(nn.ReLU)
    with torch.no_grad():  # one weight 40 times the largest of the others, on an input that is always 0
        net.beside.norm.running_var.fill_(1)
        net.project.conv.weight[:, 0] = 40 * net.project.conv.weight.abs().max()
        net.depthwise.norm.weight[0], net.depthwise.norm.bias[0] = 0, 0
    errors = layers_that_hurt(net, PREPROCESS, images(16), Scheme(), changed=changed)
    assert errors[0].name == "project.conv"
    assert [error.noise for error in errors] == sorted((error.noise for error in errors), reverse=True)
    modules = dict(net.named_modules())
    assert {error.name for error in errors} == {n for n, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear)}
    by_name = {error.name: error for error in errors}
    assert by_name["depthwise.conv"].kind == "3x3 depthwise"
    assert by_name["depthwise.conv"].multiply_adds == 16 * 16 * 16 * 9
    assert by_name["classifier"].extra_bytes == 3 * 24 * 10
    simulation = simulate(net, normalized(images(16), PREPROCESS), Scheme())
    x = normalized(images(16), PREPROCESS)
    with torch.no_grad():
        whole = net(x)
    before = noise_of(simulation(x), whole, 16)
    simulation.keep_float([errors[0].name])
    assert noise_of(simulation(x), whole, 16) < 0.7 * before


@pytest.mark.parametrize("to", [name for name, runtime in RUNTIMES.items() if runtime.int8])
def test_what_is_computed_from_a_layer_on_is_what_the_whole_gives(to: str):
    net, x = small_net(), normalized(images(11), PREPROCESS)  # no whole batches
    simulation = simulate(net, x, RUNTIMES[to].int8[0].scheme)
    batch = x[:7]
    parts = dict(simulation.each_alone(batch))
    with torch.no_grad():
        torch.testing.assert_close(parts.pop(None), net(batch), rtol=1e-4, atol=1e-5)
    for name, raw in parts.items():
        simulation.quantize_alone(name)
        torch.testing.assert_close(simulation(batch), raw)
        assert (raw - net(batch)).abs().max() > 0


def test_the_expected_drop_is_what_the_probabilities_say():
    own = np.array([[0.6, 0.4, 0.0], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.4, 0.35, 0.25]])
    values = np.array([[0.4, 0.6, 0.0], [0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]])
    found = predict_drop(own, values, labels=[1, 0, 0, 0])
    assert found.drop == pytest.approx((0.2 + 0.15) / 4)
    assert found.equal == 0.5 and found.counted == 0.0  # one lost, one gained
    assert found.interval[0] <= found.drop <= found.interval[1]
    assert found.within(0.09) and not found.within(0.08)
    same = predict_drop(own, own)
    assert same.drop == 0 == same.interval[0] and same.interval[1] > 0.03  # four images do not prove nothing is lost
    with pytest.raises(ValueError, match=r"must be \(N, K\) of one shape"):
        predict_drop(own, own[:2])


def test_the_interval_holds_the_true_loss_of_calibrated_probabilities():
    """A model that knows how sure it is, with noise on its logits: the loss is known from many images."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = 2 * rng.normal(size=(count, 10))
        noisy = logits + 0.4 * rng.normal(size=logits.shape)
        own, values = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (logits, noisy))
        labels = (own.cumsum(1) > rng.random((count, 1))).argmax(1)
        return own, values, labels

    own, values, labels = drawn(400_000)
    truth = predict_drop(own, values, labels=labels).counted
    assert truth is not None and 0.003 < truth < 0.05
    held = [low <= truth <= high for low, high in (predict_drop(*drawn(100)[:2]).interval for _ in range(200))]
    assert np.mean(held) > 0.85


def test_the_plot_is_a_picture():
    errors = layers_that_hurt(small_net(), PREPROCESS, images(8), Scheme())
    assert errors_plot(errors).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no layers"):
        errors_plot([])
