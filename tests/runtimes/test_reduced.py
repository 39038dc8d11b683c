"""Files with fewer bits: what stays in float, and that nothing else is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handlens.models import build
from handlens.preprocess import Preprocess
from handlens.runtimes import RUNTIMES
from handlens.runtimes.fold import folded
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.int8 import stays_float
from handlens.runtimes.litert.convert import short_name
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.separate import run_outside
from handlens.runtimes.source import Source

PREPROCESS = Preprocess(height=32, width=32, resize="stretch")
OUTPUTS = ("boxes",)
METADATA = {"class_names": ["a"], "precision": "int8"}


def with_statistics(net: nn.Module) -> nn.Module:
    """Batch norm that does something; a fresh one does not."""
    torch.manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return net


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.blocks = nn.ModuleList([nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3)])
        self.classifier = nn.Linear(64, 512)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        for layer in self.stem:  # which itself is not called
            x = layer(x)
        for block in self.blocks:
            x = block(x).relu()
        return self.classifier(x.mean(dim=(2, 3)))


def fine(net: nn.Module, raw: torch.Tensor, *, suppress: bool) -> torch.Tensor:
    """Of 8 bits, it would have no more than 256 values."""
    steps = torch.arange(512) * 1e-4
    return raw * 3 + steps


@dataclass
class Reduced:
    runtime: Runtime
    source: Source
    whole: Path
    images: np.ndarray

    def error(self, path: Path) -> float:
        return float(np.abs(self.runs(path) - self.expected()).mean())

    def runs(self, path: Path) -> np.ndarray:
        return self.runtime.open(path).run(self.images)["boxes"]

    def expected(self) -> np.ndarray:
        assert isinstance(self.source.graph, DeployGraph)
        return self.source.graph.arrays(self.images, OUTPUTS)["boxes"]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in ("onnx", "openvino") else pytest.mark.slow) for name in RUNTIMES],
)
def reduced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """Tests must not change its file."""
    runtime = RUNTIMES[request.param]
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    graph = DeployGraph(with_statistics(Net()).eval(), PREPROCESS, last_step=fine)
    source = Source(folded(graph, torch.tensor(images[:2])), PREPROCESS, OUTPUTS, METADATA)
    whole = tmp_path_factory.mktemp("whole") / f"model{runtime.suffix}"
    runtime.convert(source, whole)
    return Reduced(runtime, source, whole, images)


def size(runtime: Runtime, path: Path) -> int:
    return sum(file.stat().st_size for file in runtime.files(path))


def test_int8_leaves_the_last_step_and_what_is_kept_in_float(reduced: Reduced, tmp_path: Path):
    runtime, settings = reduced.runtime, reduced.runtime.int8
    paths = {}
    for keep in ((), ("blocks.0",), ("stem.0", "blocks.0", "blocks.1", "classifier")):
        path = paths[keep] = tmp_path / str(len(keep)) / f"model{runtime.suffix}"
        path.parent.mkdir()
        runtime.quantize(
            reduced.source, reduced.whole, path, images=reduced.images, setting=settings[0], keep_float=keep
        )
    none, one, four = paths.values()
    assert runtime.open(none).metadata == METADATA
    assert runtime.open(none).precision == "int8"
    assert len(np.unique(reduced.runs(none))) > 600  # 256 at most, were it quantized
    weights = 64 * 64 * 9
    assert size(runtime, one) - size(runtime, none) == pytest.approx(3 * weights, rel=0.1)
    assert size(runtime, four) > 0.9 * size(runtime, reduced.whole)
    assert 0 < reduced.error(four) < 0.7 * reduced.error(none)


def test_an_int8_file_runs_with_other_kernels_too(reduced: Reduced, tmp_path: Path):
    runtime = reduced.runtime
    path = tmp_path / f"model{runtime.suffix}"
    runtime.quantize(reduced.source, reduced.whole, path, images=reduced.images, setting=runtime.int8[0])
    (tmp_path / "pixels").mkdir()
    with (tmp_path / "pixels/0.npy").open("wb") as file:
        for image in reduced.images:
            np.save(file, image[None])
    expected = reduced.runs(path)
    for kernels in runtime.other_kernels:
        found, _ = run_outside(path, runtime, precision="fp32", pixels=tmp_path / "pixels", kernels=kernels, images=3)
        assert found["0/boxes"].shape == (3, 512)
        np.testing.assert_allclose(found["0/boxes"], expected[:3], atol=0.05 * np.abs(expected).max())


def test_fp16_halves_the_file_and_changes_little(reduced: Reduced, tmp_path: Path):
    runtime = reduced.runtime
    path = tmp_path / f"half{runtime.suffix}"
    source = replace(reduced.source, metadata=METADATA | {"precision": "fp16"})
    runtime.halve(source, reduced.whole, path)
    assert runtime.open(path).metadata == source.metadata and runtime.open(path).precision == "fp16"
    share = size(runtime, path) / size(runtime, reduced.whole)
    assert share < (0.9 if runtime.name == "executorch" else 0.6)  # which widens some weights before it stores them
    assert 0 < reduced.error(path) < 2e-4


def test_what_is_delegated_is_counted(reduced: Reduced, tmp_path: Path):
    found = reduced.runtime.convert(reduced.source, tmp_path / f"model{reduced.runtime.suffix}")
    if reduced.runtime.name in ("onnx", "openvino"):
        assert found is None  # they have no other kernels
        return
    assert found is not None and found.to == "XNNPACK"
    assert found.delegated + sum(found.left.values()) == found.operators > 8
    assert found.delegated >= 0.7 * found.operators
    assert str(found).startswith(f"XNNPACK runs {found.delegated} of {found.operators} operators, not 1 ")


@pytest.mark.slow
def test_weights_of_litert_lie_at_multiples_of_sixteen_bytes(tmp_path: Path):
    from ai_edge_litert import schema_py_generated as schema

    graph = DeployGraph(Net().eval(), PREPROCESS, last_step=fine)
    path = tmp_path / "model.tflite"
    RUNTIMES["litert"].convert(Source(graph, PREPROCESS, OUTPUTS, METADATA), path)
    content = path.read_bytes()
    model = schema.Model.GetRootAsModel(content, 0)
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength() > 1]
    assert len(starts) > 8 and all(start % 16 == 0 for start in starts)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "googlenet", "ssdlite", "mobilenet_v1"])
def test_batch_norm_behind_a_convolution_is_folded(name: str):
    net = with_statistics(build(name, num_classes=4)).eval()
    images = torch.rand(1, 3, 64, 64)
    made = folded(net, images)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in made.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in net.modules())  # which stays as it is
    with torch.inference_mode():
        before, after = (torch.utils._pytree.tree_leaves(each(images)) for each in (net, made))
    assert (
        max(float((one - other).abs().max() / one.abs().max()) for one, other in zip(before, after, strict=True)) < 1e-4
    )


def test_openvino_quantizes_a_model_that_could_not_be_folded(tmp_path: Path):
    runtime, images = RUNTIMES["openvino"], np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    graph = DeployGraph(with_statistics(Net()).eval(), PREPROCESS, last_step=fine)
    source = Source(graph, PREPROCESS, OUTPUTS, METADATA)
    whole, path = tmp_path / "whole.xml", tmp_path / "int8.xml"
    runtime.convert(source, whole)
    runtime.quantize(source, whole, path, images=images, setting=runtime.int8[0])
    assert size(runtime, path) < 0.4 * size(runtime, whole)


def test_a_norm_elsewhere_or_a_layer_used_twice_stays():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(0.3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.conv(x))
            return self.other(self.norm(self.conv(x)).relu())

    net = Odd().eval()
    images = torch.rand(2, 3, 5, 5)
    made = folded(net, images)
    assert isinstance(made.norm, nn.BatchNorm2d) and isinstance(made.other, nn.BatchNorm2d)
    torch.testing.assert_close(made(images), net(images))


class Written(nn.Module):
    """The norm's input is the convolution's output, written over."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class UsedTwice(nn.Module):
    """What the convolution returns is also added behind the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y + self.norm(y).relu()


class TwoNames(nn.Module):
    """The convolution has a second name, and the norm is called by keyword in another place."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv2d(3, 3, 3)])
        self.stem, self.norm, self.last = self.parts[0], nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(input=self.norm(self.stem(x)))


class Heard(TwoNames):
    def __init__(self) -> None:
        super().__init__()
        self.norm.register_forward_hook(lambda module, inputs, output: output * 2)


class NotCopied(TwoNames):
    def __init__(self) -> None:
        super().__init__()
        self.scaled = self.stem.weight * 2  # what is computed cannot be copied


@pytest.mark.parametrize("net", [Written, UsedTwice, TwoNames, Heard, NotCopied])
def test_however_modules_are_wired_folding_changes_no_number(net: type[nn.Module]):
    model = with_statistics(net()).eval()
    images = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(folded(model, torch.zeros(2, 3, 9, 9))(images), expected, rtol=1e-4, atol=1e-5)
    if net is TwoNames:
        made = folded(model, images)
        assert isinstance(made.norm, nn.Identity) and made.stem is made.parts[0]


def test_what_lies_outside_the_model_stays_in_float():
    assert stays_float("") and stays_float("scale") and stays_float("network.conv")
    assert not stays_float("net") and not stays_float("net.stem.conv")
    assert stays_float("net.stem.conv", ["stem"]) and stays_float("net.stem", ["stem"])
    assert not stays_float("net.stem2", ["stem"])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("pack.Net_net/pack.Block_3/torch.nn.modules.conv.Conv2d_conv;;pack.Net_net/pack.Other_4", "net/3/conv"),
        ("pack.Net_two_words/arith.constant", "two_words/arith.constant"),
        ("serving_default_images", "serving_default_images"),
    ],
)
def test_names_inside_a_litert_file_are_short(name, short):
    assert short_name(name) == short
