"""calibrate: a run that predicts the same classes with another confidence, and the run it was made from as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import handlens
from blobs import write_images
from handlens.cli import run as command
from handlens.errors import InputError
from handlens.evaluation.calibration import tempered
from handlens.flow import calibrate as flow
from handlens.flow.calibrate import calibrate
from handlens.flow.held_out import HeldOut
from handlens.reading.parsed import read_json
from handlens.training.run import open_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, weights: str) -> tuple[Path, Path]:
    """(run, data): a head with a test split, on images that are hard."""
    folder = tmp_path_factory.mktemp("calibrate")
    data = write_images(folder / "data" / "train", per_class=30, seed=0, noise=0.93).parent
    write_images(data / "test", per_class=10, seed=1, noise=0.93)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", weights)
        return handlens.train(data, out=folder / "run", recipe={"mode": "head", "image_size": 32}), data


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_other_images_give_another_confidence_and_the_same_classes(trained, tmp_path, capsys):
    run, data = trained
    images = write_images(tmp_path / "phone", per_class=20, seed=7, noise=0.5)  # easier than those of training
    before = contents(run)
    assert command(["calibrate", str(run), str(images), "--out", str(tmp_path / "new"), "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert contents(run) == before
    assert found["nll"][1] < found["nll"][0] and found["images"] == 60 and found["source"] == "images of phone"
    assert found["temperature"] == pytest.approx(found["factor"] * open_run(run).model.temperature)
    new = open_run(Path(found["run"]))
    assert new.model.temperature == pytest.approx(found["temperature"])
    assert new.model.validation == open_run(run).model.validation

    pictures = [data / "test"]
    old, now = (
        np.stack([one.result.probabilities for one in handlens.predict(one, pictures, precision="fp32")])
        for one in (run, new)
    )
    np.testing.assert_allclose(now, tempered(old, found["factor"]), atol=2e-4)
    assert np.abs(now - old).max() > 0.01  # else nothing above could fail
    with np.load(new.folder / "golden" / "golden.npz") as golden:
        engine = handlens.load(new, precision="fp32").engine
        np.testing.assert_allclose(engine.run(golden["images"])["probabilities"], golden["probabilities"], atol=1e-4)
    handlens.export(new, to="openvino", app=False, images=8)  # the gate finds nothing to say


def test_what_was_chosen_in_training_need_not_change(trained, tmp_path, monkeypatch):
    run, data = trained
    monkeypatch.chdir(tmp_path)
    for same in (None, data):  # its own data by name is its own data: never the images that it has learned
        found = calibrate(run, same)
        assert found["run"] is None and found["factor"] == pytest.approx(1, abs=0.01)
        assert found["source"] == "out-of-fold predictions"
    assert list(tmp_path.iterdir()) == []
    said = read_json(run / "model.json")["chosen"]
    assert said["calibration"]["nll"][1] <= said["calibration"]["nll"][0] + 1e-3


@pytest.mark.parametrize(("factor", "gain"), [(1.0, False), (2.0, True)])
def test_only_more_than_chance_changes_a_run(trained, tmp_path, monkeypatch, factor, gain):
    """500 predictions that are calibrated, but for a factor that is planted."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
    held = HeldOut(tempered(chances.astype(np.float32), 1 / factor), labels, "images of phone")
    monkeypatch.setattr(flow, "_found", lambda *_, **__: held)
    found = calibrate(trained[0], trained[1], out=tmp_path / "new")
    assert found["nll"][1] < found["nll"][0]
    assert (found["run"] is not None) is gain is (tmp_path / "new").exists()


def test_a_gain_by_chance_is_said(trained, tmp_path, monkeypatch, capsys):
    run, _ = trained
    images = write_images(tmp_path / "same", per_class=12, seed=11, noise=0.93)
    monkeypatch.setattr(flow, "CHANCE", 1e9)
    found = calibrate(run, images, out=tmp_path / "new")
    assert found["run"] is None and found["factor"] != 1 and not (tmp_path / "new").exists()
    assert command(["calibrate", str(run), str(images), "--out", str(tmp_path / "new"), "-q"]) == 0
    assert "no more than chance: nothing is changed" in " ".join(capsys.readouterr().out.split())


def test_images_that_were_learned_are_left_out(trained, tmp_path):
    run, data = trained
    with pytest.raises(InputError, match="was trained on all of the images"):
        calibrate(run, data / "train", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_run_is_refused_and_nothing_is_left(trained, tmp_path, damage):
    run = Path(shutil.copytree(trained[0], tmp_path / "run"))
    recipe = run / "recipe.yaml"
    recipe.unlink() if damage == "missing" else recipe.write_text("mode: head\n")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        calibrate(run, trained[1], out=tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_output_that_exists_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        calibrate(trained[0], out=tmp_path)


def test_the_temperature_of_epochs_is_chosen_on_validation(data, tmp_path):
    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 2, "workers": 0}
    run = handlens.train(data, out=tmp_path / "run", recipe=recipe, golden=False)
    said = read_json(run / "model.json")
    assert said["chosen"]["calibration"]["source"] == "validation images"
    assert said["chosen"]["calibration"]["count"] == said["validation"]["count"]
    model = read_json(run / "model.json")
    model["chosen"]["temperature"] = -1
    (run / "model.json").write_text(json.dumps(model), encoding="utf-8")
    with pytest.raises(InputError, match="is no temperature"):
        handlens.evaluate(run)
