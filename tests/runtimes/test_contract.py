"""What every runtime must do; a new one inherits these tests with its line in RUNTIMES."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import handlens
from handlens.errors import InputError
from handlens.models import CATALOGUE
from handlens.preprocess import Preprocess
from handlens.runtimes import RUNTIMES
from handlens.runtimes.graph import DeployGraph, ResizingGraph
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.separate import run_outside
from handlens.runtimes.source import Source

PREPROCESS = Preprocess(height=32, width=24, resize="stretch")
OUTPUTS = ("zebra", "ant")  # not in alphabetical order
METADATA: dict[str, Any] = {"class_names": ["빵", "a b"], "preprocess": PREPROCESS.to_dict(), "threshold": 0.25}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.linear = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(images).relu().mean(dim=(2, 3))) + 3 * images.mean(dim=(2, 3))


def two_outputs(net: nn.Module, raw: torch.Tensor, *, suppress: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return raw.softmax(dim=1), raw.argmax(dim=1)


# A package of each runtime's extra; None where the plain installation brings all.
NEEDED = {"executorch": "executorch", "litert": "ai_edge_litert", "onnx": "onnxscript", "openvino": None}


@dataclass
class Converted:
    runtime: Runtime
    graph: DeployGraph
    path: Path
    any_size: Path | None

    @property
    def files(self) -> list[Path]:
        return [self.path] + ([self.any_size] if self.any_size else [])


SLOW = [pytest.param(name, marks=[pytest.mark.slow] if name == "executorch" else []) for name in RUNTIMES]


@pytest.fixture(scope="module", params=SLOW)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Tests must not change the files."""
    runtime = RUNTIMES[request.param]
    graph = DeployGraph(Net().eval(), PREPROCESS, last_step=two_outputs)
    folder = tmp_path_factory.mktemp(f"내보내기 {request.param}")
    path, any_size = folder / f"model{runtime.suffix}", folder / f"any size{runtime.suffix}"
    runtime.convert(Source(graph, PREPROCESS, OUTPUTS, METADATA), path)
    if not runtime.takes_any_size:
        return Converted(runtime, graph, path, None)
    resizing = ResizingGraph(graph, PREPROCESS)
    runtime.convert(Source(resizing, PREPROCESS, OUTPUTS, METADATA, any_size=True), any_size)
    return Converted(runtime, graph, path, any_size)


def pixels(folder: Path, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Batches of differently colored images one after the other in one file, and the last in another as well."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    for place, image in enumerate(image for batch in batches for image in batch):
        image[:, :, place % 3] //= 8
    with (folder / "0.npy").open("wb") as file:
        for batch in batches:
            np.save(file, batch)
    np.save(folder / "1.npy", batches[-1])
    return batches


def test_the_list_and_the_names_agree():
    assert {name: runtime.name for name, runtime in RUNTIMES.items()} == {name: name for name in RUNTIMES}
    assert set(NEEDED) == set(RUNTIMES)
    assert all(runtime.precisions[0] == "fp32" for runtime in RUNTIMES.values())  # which decides


def test_it_writes_the_files_that_it_names(converted: Converted):
    made = {file for path in converted.files for file in converted.runtime.files(path)}
    assert set(converted.path.parent.iterdir()) == made
    assert converted.runtime.files(converted.path)[-1] == converted.path  # put in place last: it needs the others


def test_a_fresh_process_answers_as_pytorch_by_the_names_of_the_outputs(converted: Converted, tmp_path: Path):
    batches = pixels(tmp_path / "pixels", (3, 32, 24, 3), (1, 32, 24, 3))  # the batch size is left open
    expected = [converted.graph.arrays(batch, OUTPUTS) for batch in batches]
    assert len(np.unique(np.concatenate([arrays["ant"] for arrays in expected]))) > 1  # else nothing could fail
    for precision in converted.runtime.precisions:
        arrays, described = run_outside(
            converted.path, converted.runtime, precision=precision, pixels=tmp_path / "pixels"
        )
        assert set(arrays) == {f"{file}/{name}" for file in (0, 1) for name in OUTPUTS}
        name, version = described["runtime"].rsplit(" ", 1)
        assert name and version[0].isdigit()
        assert 0 < described["latency_ms"] < 1000 and 10 < described["peak_mb"] < 5000
        if precision == "fp32":
            assert described["precision"] == "f32"
            for output in OUTPUTS:
                everything = np.concatenate([values[output] for values in expected])
                np.testing.assert_allclose(arrays[f"0/{output}"], everything, atol=1e-4)
                np.testing.assert_allclose(arrays[f"1/{output}"], expected[-1][output], atol=1e-4)


def test_a_graph_that_resizes_takes_any_size(converted: Converted, tmp_path: Path):
    if converted.any_size is None:
        pytest.skip("it does not take any size, which export says")
    (first, second) = pixels(tmp_path / "pixels", (1, 50, 90, 3), (1, 33, 31, 3))
    arrays, _ = run_outside(converted.any_size, converted.runtime, precision="fp32", pixels=tmp_path / "pixels")
    for place, image in enumerate((first, second)):
        expected = converted.graph.arrays(PREPROCESS.pixels(image[0])[None], OUTPUTS)
        np.testing.assert_allclose(arrays["0/zebra"][place], expected["zebra"][0], atol=1e-4)


def test_a_file_of_one_image_takes_many_one_after_the_other(converted: Converted):
    for path in converted.files:
        model = converted.runtime.open(path)
        images = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3), dtype=np.uint8)
        together = model.run(images)
        for place, image in enumerate(images):
            alone = model.run(image[None])
            for name in OUTPUTS:
                np.testing.assert_allclose(together[name][place], alone[name][0], atol=1e-6)


def test_class_names_and_preprocessing_are_found_with_the_file(converted: Converted):
    for path in converted.files:
        assert converted.runtime.open(path).metadata == METADATA


@pytest.mark.parametrize("damage", ["empty", "other", "cut"])
def test_a_damaged_file_is_one_sentence(converted: Converted, damage: str, tmp_path: Path):
    for place, file in enumerate(converted.runtime.files(converted.path)):
        folder = tmp_path / str(place)
        folder.mkdir()
        for whole in converted.runtime.files(converted.path):
            shutil.copyfile(whole, folder / whole.name)
        content = file.read_bytes()
        (folder / file.name).write_bytes(
            {"empty": b"", "other": b"words\n", "cut": content[: len(content) // 2]}[damage]
        )
        pixels(folder / "pixels", (1, 32, 24, 3))
        with pytest.raises(InputError, match=r"model\.\w+ cannot be read: .") as caught:
            run_outside(folder / converted.path.name, converted.runtime, precision="fp32", pixels=folder / "pixels")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_package_that_is_missing_is_named_with_what_brings_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    runtime, package = RUNTIMES[name], NEEDED[name]
    if package is None:
        pytest.skip("comes with the plain installation")
    monkeypatch.setitem(sys.modules, package, None)
    graph = DeployGraph(Net().eval(), PREPROCESS, last_step=two_outputs)
    with pytest.raises(InputError, match=rf"pip install 'handlens\[{name}\]'"):
        runtime.convert(Source(graph, PREPROCESS, OUTPUTS, {}), tmp_path / f"a{runtime.suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RUNTIMES)
def test_what_it_does_not_take_is_a_sentence(name: str):
    for model in CATALOGUE:
        reason = RUNTIMES[name].refuses(model)
        assert reason is None or (reason.endswith(".") and "\n" not in reason)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = {"model": "lenet5", "mode": "scratch", "epochs": 1, "workers": 0}
    return handlens.train(data, out=tmp_path_factory.mktemp("lenet5") / "run", recipe=recipe, golden=False)


@pytest.mark.parametrize("name", RUNTIMES)
def test_export_gives_its_reason_before_it_converts(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    runtime = RUNTIMES[name]
    monkeypatch.setattr(type(runtime), "refuses", lambda self, model: f"{model} has a layer that it lacks.")
    with pytest.raises(InputError, match=r"^lenet5 has a layer that it lacks\.$"):
        handlens.export(run, to=name, out=tmp_path / f"out/a{runtime.suffix}")
    assert not (tmp_path / "out").exists()
