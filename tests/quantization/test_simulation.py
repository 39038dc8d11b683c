"""The simulation against quantizers that are not ours: PyTorch's observers, ONNX Runtime, nncf, torchao."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.models import build
from handlens.preprocess import Preprocess
from handlens.quantization.rewritten import with_corrected_bias
from handlens.quantization.rounding import activation_rounding, weight_rounding
from handlens.quantization.sensitivity import normalized, simulate
from handlens.quantization.unfolded import Unfolded
from handlens.runtimes import RUNTIMES
from handlens.runtimes.fold import folded
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.int8 import EVERY, Scheme
from handlens.runtimes.separate import run_outside
from handlens.runtimes.source import Source
from quantization.nets import small_net

PREPROCESS = Preprocess(height=32, width=32, resize="stretch")


def images(count: int, *, seed: int = 0) -> np.ndarray:
    """Blotches rather than noise, so that activations have tails, as on photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


def logits(net: nn.Module, raw: Tensor, *, suppress: bool) -> Tensor:
    return raw


def answers_of(to: str, setting: Any, net: nn.Module, folder: Path, calibration: np.ndarray, x: np.ndarray):
    """What an int8 file of a runtime gives, by its own quantizer and with biases that were corrected before."""
    runtime = RUNTIMES[to]
    if setting.scheme.bias_correction == EVERY:
        pixels = normalized(calibration, PREPROCESS)
        net = with_corrected_bias(folded(net, pixels[:1]), pixels, setting.scheme)
    source = Source(DeployGraph(net, PREPROCESS, last_step=logits), PREPROCESS, ("logits",), {})
    whole, made = folder / f"whole{runtime.suffix}", folder / f"int8{runtime.suffix}"
    runtime.convert(source, whole)
    runtime.quantize(source, whole, made, images=calibration, setting=setting)
    pixels_folder = folder / "pixels"
    pixels_folder.mkdir()
    with (pixels_folder / "0.npy").open("wb") as file:
        for image in x:
            np.save(file, image[None])
    # Not in this process: threads of a runtime would be missed by loader processes that other tests fork from it.
    answers, _ = run_outside(made, runtime, precision="fp32", pixels=pixels_folder)
    return answers["0/logits"]


def test_ranges_are_those_of_pytorchs_observers():
    from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver

    weight = torch.randn(5, 3, 3, 3) * torch.tensor([0.1, 1, 3, 0.01, 2])[:, None, None, None]
    theirs = PerChannelMinMaxObserver(
        ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-127, quant_max=127
    )
    theirs(weight)
    ours = weight_rounding(weight, axis=0, limit=127)
    torch.testing.assert_close(ours.steps, theirs.calculate_qparams()[0])
    for low, high in ((-1.3, 4.1), (0.4, 6.0), (-2.0, -1.0)):
        observer = MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
        observer(torch.tensor([low, high]))
        steps, zeros = observer.calculate_qparams()
        made = activation_rounding(torch.tensor([[[low], [high]]]), axis=None, scheme=Scheme())
        torch.testing.assert_close(made.steps, steps)
        assert made.zeros.item() == zeros.item()


def test_the_rules_for_ranges():
    extremes = torch.tensor([[[-1.0], [4.0]], [[-3.0], [2.0]]])
    made = [activation_rounding(extremes, axis=None, scheme=Scheme(ranges=rule)) for rule in ("extremes", "averaged")]
    assert [round(float(rounding.steps) * 255, 4) for rounding in made] == [7.0, 5.0]
    moving = activation_rounding(extremes, axis=None, scheme=Scheme(ranges="moving"))
    assert float(moving.steps) * 255 == pytest.approx(5.0)  # -1.1 to 3.9
    both = activation_rounding(extremes, axis=None, scheme=Scheme(symmetric=True))
    assert float(both.steps) == pytest.approx(4 / 127) and int(both.zeros) == 0
    positive = activation_rounding(extremes.abs(), axis=None, scheme=Scheme(symmetric=True))
    assert float(positive.steps) == pytest.approx(4 / 255)  # no level is given away


@pytest.mark.parametrize("number", range(len(RUNTIMES["onnx"].int8)))
def test_it_answers_as_onnx_runtimes_quantized_file(number: int, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    net, calibration, x = small_net(), images(8), images(16, seed=1)
    setting = RUNTIMES["onnx"].int8[number]
    theirs = answers_of("onnx", setting, net, tmp_path, calibration, x)
    simulation = simulate(net, normalized(calibration, PREPROCESS), setting.scheme)
    ours = simulation(normalized(x, PREPROCESS)).numpy()
    simulation.keep_float(None)
    whole = simulation(normalized(x, PREPROCESS)).numpy()
    step = np.ptp(whole) / 255
    assert np.abs(theirs - whole).max() > 1.5 * step  # else there is nothing to simulate
    apart = np.round((ours - theirs) / step)  # levels
    assert np.abs(apart).max() <= 1 and (apart == 0).mean() > 0.6


@pytest.mark.slow
def test_it_errs_as_nncf_does(tmp_path: Path):
    pytest.importorskip("nncf")
    net, calibration, x = small_net(), images(16), images(64, seed=1)
    for setting in RUNTIMES["openvino"].int8[:2]:
        folder = tmp_path / setting.name
        folder.mkdir()
        theirs = answers_of("openvino", setting, net, folder, calibration, x)
        simulation = simulate(net, normalized(calibration, PREPROCESS), setting.scheme)
        ours = simulation(normalized(x, PREPROCESS)).numpy()
        simulation.keep_float(None)
        whole = simulation(normalized(x, PREPROCESS)).numpy()
        assert np.abs(ours - theirs).mean() < 0.6 * np.abs(theirs - whole).mean()
        ratio = np.square(ours - whole).sum() / np.square(theirs - whole).sum()
        assert 0.6 < ratio < 1.6


@pytest.mark.slow
@pytest.mark.parametrize("to", ["executorch", "onnx"])
def test_what_relu6_clips_costs_no_levels(to: str, tmp_path: Path):
    class Clipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 8, 5), nn.ReLU6()
            self.conv.weight.data = 40 * torch.rand(8, 3, 5, 5) / 75  # means of 75 pixels, from -80 to 80

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(x))

    torch.manual_seed(0)
    net, calibration, x = Clipped().eval(), images(16), images(16, seed=1)
    theirs = answers_of(to, RUNTIMES[to].int8[0], net, tmp_path, calibration, x)
    with torch.no_grad():
        whole = net(normalized(x, PREPROCESS)).numpy()
    between = (whole > 0.5) & (whole < 5.5)
    assert between.mean() > 0.02
    assert np.abs(theirs - whole)[between].mean() < 0.08  # a level before the clip would be 0.3 or more


@pytest.mark.slow
def test_it_answers_as_torchaos_converted_model():
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    quantizer = pytest.importorskip("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    class ReluNet(nn.Module):  # what their quantizer takes: a convolution with ReLU, a linear layer
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 3, stride=2), nn.Conv2d(16, 16, 3, groups=16)
            self.last = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.first(x).relu()).relu()
            return self.last(x.mean(dim=(2, 3), keepdim=True).flatten(1))

    torch.manual_seed(1)
    net, calibration, x = ReluNet().eval(), normalized(images(8), PREPROCESS), normalized(images(8, seed=1), PREPROCESS)
    config = quantizer.QuantizationConfig(
        QuantizationSpec(
            dtype=torch.int8,
            quant_min=-128,
            quant_max=127,
            qscheme=torch.per_tensor_affine,
            observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12),
        ),
        None,
        QuantizationSpec(
            dtype=torch.int8,
            quant_min=-127,
            quant_max=127,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
            observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-12),
        ),
        None,
    )
    exported = torch.export.export(net, (x,), strict=False).module()
    prepared = pt2e.prepare_pt2e(exported, quantizer.XNNPACKQuantizer().set_global(config))
    prepared(calibration)
    with torch.no_grad():
        theirs = pt2e.convert_pt2e(prepared)(x)
        whole = net(x)
    ours = simulate(net, calibration, Scheme())(x)
    step = float(whole.max() - whole.min()) / 255
    assert (theirs - whole).abs().max() > 0.5 * step
    assert (ours - theirs).abs().max() < 1.5 * step


@pytest.mark.parametrize(
    ("name", "layers"), [("mobilenet_v2", 53), ("efficientnet_lite0", 50), ("mini_xception", 27), ("unet", 23)]
)
def test_folding_changes_nothing_and_layers_have_the_names_of_modules(name: str, layers: int):
    torch.manual_seed(0)
    net = build(name, num_classes=5).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.randn(2, 3, 64, 64)
    unfolded = Unfolded(net, x)
    with torch.no_grad():
        torch.testing.assert_close(unfolded.module(x), net(x), rtol=1e-4, atol=1e-5)
    modules = dict(net.named_modules())
    assert len(unfolded.layers) == layers
    assert all(isinstance(modules[layer.name], nn.Conv2d | nn.ConvTranspose2d | nn.Linear) for layer in unfolded.layers)


def test_layers_in_float_are_float():
    net = small_net()
    calibration = normalized(images(8), PREPROCESS)
    simulation = simulate(net, calibration, Scheme())
    with torch.no_grad():
        whole = net(calibration)
    names = list(dict.fromkeys(layer.name for layer in simulation.layers))

    def error(kept: Sequence[str] | None) -> float:
        simulation.keep_float(kept)
        return float((simulation(calibration) - whole).square().mean())

    assert error(None) < 1e-10 < error(names) < error(())  # sums still round, with all layers in float
    with pytest.raises(InputError, match=r"no layer 'stem\.conf' to keep in float; the closest match is 'stem\.conv'"):
        simulation.keep_float(["stem.conf"])


@pytest.mark.parametrize("again", [False, True])
def test_maps_that_are_changed_in_place(again: bool):
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            y = torch.relu_(x)
            return x + y if again else y.mean(dim=(2, 3))

    x, net = torch.randn(4, 3, 8, 8), InPlace().eval()
    simulation = simulate(net, x, Scheme())
    simulation.keep_float(None)
    with torch.no_grad():
        torch.testing.assert_close(simulation(x), net(x))


def test_a_layer_that_runs_twice_keeps_its_norms_and_its_name():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])

        def forward(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = norm(self.conv(x)).relu()
            return x.mean(dim=(2, 3))

    torch.manual_seed(0)
    net, x = Twice().eval(), torch.randn(8, 3, 16, 16)
    for norm in net.norms:
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.weight, 0.5, 3)
    simulation = simulate(net, x, Scheme())
    assert [layer.name for layer in simulation.layers] == ["conv", "conv"]
    simulation.keep_float(None)
    with torch.no_grad():
        torch.testing.assert_close(simulation(x), net(x), rtol=1e-4, atol=1e-5)
    simulation.keep_float(())
    assert (simulation(x) - net(x)).abs().max() > 1e-4
