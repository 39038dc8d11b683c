"""An export that answers differently is not an export."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import handlens
from handlens.cli import run as command
from handlens.errors import InputError, ParityError
from handlens.preprocess import SCALINGS
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json
from handlens.runtimes import RUNTIMES
from handlens.runtimes.graph import Scale
from handlens.runtimes.openvino import convert as openvino
from handlens.training.recipe_file import make_recipe


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_normalization_inside_ends_with_exit_code_3_and_keeps_the_old_file(
    data: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = handlens.train(data, out=tmp_path / "run", recipe=make_recipe({"mode": "head", "image_size": 64}))
    out = tmp_path / "model.xml"
    arguments = ["export", str(run), "--to", "openvino", "--out", str(out), "--quiet"]
    assert command(arguments) == 0
    before = {path.name: sha256_of(path) for path in (out, out.with_suffix(".bin"))}
    honest = openvino.to_openvino

    def with_half(graph: Any, preprocess: Any, **options: Any) -> Any:
        mean, std = SCALINGS["half"]
        changed = replace(preprocess, mean=mean, std=std)
        return honest(type(graph)(graph.net, changed, last_step=graph.last_step), preprocess, **options)

    monkeypatch.setattr(openvino, "to_openvino", with_half)
    assert command(arguments) == 3
    assert "does not match PyTorch" in capsys.readouterr().err
    assert {path.name: sha256_of(path) for path in (out, out.with_suffix(".bin"))} == before
    failed = tmp_path / "model.xml.parity-failed.json"
    assert not read_json(failed)["passed"]
    assert read_json(tmp_path / "model.xml.parity.json")["passed"]  # the report of the file that is there
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.bin",
        "model.xml",
        "model.xml-app",
        "model.xml.parity-failed.json",
        "model.xml.parity.json",
        "run",
    ]
    monkeypatch.undo()
    assert command(arguments) == 0
    assert not failed.exists()
    assert command([*arguments[:-2], str(tmp_path / "model.onnx")]) == 2
    assert "have the suffix .xml" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_net_for_gray_images_of_one_size_goes_the_whole_way(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = make_recipe({"model": "lenet5", "mode": "scratch", "epochs": 1, "dropout": 0.0, "optimizer": "sgd"})
    run = handlens.train(data, out=tmp_path / "run", recipe=recipe)
    model = read_json(run / "model.json")
    assert model["preprocess"]["color"] == "gray" and model["preprocess"]["height"] == 28
    assert model["architecture"]["arguments"]["image_size"] == 28
    arguments = ["export", str(run), "--to", "onnx", "--quiet"]
    assert command(arguments) == 0
    assert command([*arguments, "--with-resize"]) == 0
    assert command(["export", str(run), "--to", "openvino", "--quiet", "--with-resize"]) == 0


@pytest.fixture(scope="module")
def run(data: Path, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests must not change it."""
    recipe = make_recipe({"mode": "head", "image_size": 64})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", weights)
        return handlens.train(data, out=tmp_path_factory.mktemp("gate") / "run", recipe=recipe, golden=False)


def other_channels(graph: Any) -> None:
    weight = next(part.weight for part in graph.modules() if isinstance(part, nn.Conv2d))
    weight.data = weight.data.flip(1)


def other_mean(graph: Any) -> None:
    next(part for part in graph.modules() if isinstance(part, Scale)).add += 0.1


def other_classes(graph: Any) -> None:
    classifier = next(part for part in graph.modules() if isinstance(part, nn.Linear))
    classifier.weight.data, classifier.bias.data = classifier.weight.data.roll(1, 0), classifier.bias.data.roll(1)


def earlier_weights(graph: Any) -> None:
    next(part for part in graph.modules() if isinstance(part, nn.Linear)).weight.data *= 0.99


def other_resize(graph: Any) -> None:
    graph.preprocess = replace(graph.preprocess, resize="stretch")


@pytest.mark.parametrize("damage", [other_channels, other_mean, other_classes, earlier_weights, other_resize])
def test_whatever_is_wrong_with_a_file_it_does_not_get_out(
    damage: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runtime = type(RUNTIMES["openvino"])
    honest = runtime.convert

    def convert(self: Any, source: Any, *arguments: Any, **options: Any) -> None:
        changed = copy.deepcopy(source.graph)
        damage(changed)
        honest(self, replace(source, graph=changed), *arguments, **options)

    monkeypatch.setattr(runtime, "convert", convert)
    with pytest.raises(ParityError, match="does not match PyTorch"):
        handlens.export(run, to="openvino", out=tmp_path / "model.xml", with_resize=damage is other_resize)
    assert [path.name for path in tmp_path.iterdir()] == ["model.xml.parity-failed.json"]


def test_a_file_that_was_cut_off_does_not_get_out(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runtime = type(RUNTIMES["openvino"])
    honest = runtime.convert

    def convert(self: Any, source: Any, path: Path, **options: Any) -> None:
        honest(self, source, path, **options)
        weights = path.with_suffix(".bin")
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])

    monkeypatch.setattr(runtime, "convert", convert)
    with pytest.raises(InputError, match=r"model\.xml cannot be read"):
        handlens.export(run, to="openvino", out=tmp_path / "model.xml")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_of_these_weights_is_not_used(run: Path, tmp_path: Path):
    stale = shutil.copytree(run, tmp_path / "run")
    engine = stale / "engine" / "model.bin"
    engine.write_bytes(engine.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match=r"model\.bin has changed since it was written"):
        handlens.load(stale)
