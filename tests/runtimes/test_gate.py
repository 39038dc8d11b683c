"""An export that answers differently is not an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import handlens
from handlens.cli import run as command
from handlens.files import read_json, sha256_of
from handlens.preprocess import SCALINGS
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
