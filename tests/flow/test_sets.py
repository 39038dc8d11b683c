"""Prediction sets of a run: from the command line to the file that keeps the thresholds."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import handlens
from blobs import CLASSES, write_images
from handlens.cli import run as command
from handlens.evaluation.conformal import threshold
from handlens.flow.sets import KEPT
from handlens.reading.parsed import read_json
from handlens.results import Classes, ClassSet
from handlens.training.run import open_run

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
NAMES = tuple(sorted(CLASSES))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, weights: str) -> tuple[Path, Path]:
    """(run, data): a head on hard images, with a test split, so that it has learned from the validation images too."""
    folder = tmp_path_factory.mktemp("sets")
    data = write_images(folder / "data", per_class=40, seed=0, noise=0.95)
    recipe = {"mode": "head", "image_size": 32}
    return handlens.train(data, out=folder / "run", recipe=recipe, golden=False), data


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_sets_on_the_command_line(run, trained, tmp_path, capsys):
    _, data = trained
    assert command(["evaluate", str(run), "--sets", "0.9", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    jsonschema.validate(result, read_json(SCHEMAS / "evaluate.json"))
    measured = result["sets"]
    assert measured["asked"] == 0.9 and measured["count"] == result["images"] == sum(measured["sizes"].values())
    assert 1 <= measured["mean_size"] <= 3 and measured["coverage"] >= result["metrics"]["top1"]
    assert read_json(run / "evaluation.json")["sets"] == measured

    kept = read_json(run / KEPT)
    started = read_json(run / "data.json")
    assert len(kept["scores"]) == len(started["splits"]["train"]) + len(started["splits"]["validation"])
    assert kept["weights"] == read_json(run / "model.json")["files"]["model.safetensors"]
    limit = threshold(kept["scores"], 0.9)
    before = (run / KEPT).stat().st_mtime_ns

    image = next(path for path in data.rglob("*") if path.is_file())
    assert command(["predict", str(run), str(image), "--sets", "0.9", "--json", "--top", "3", "-q"]) == 0
    line = json.loads(capsys.readouterr().out)
    jsonschema.validate(line, read_json(SCHEMAS / "predict.json"))
    probabilities = {entry["class"]: entry["probability"] for entry in line["top"]}
    expected = {name for name, value in probabilities.items() if 1 - value <= limit} | {line["class"]}
    assert {entry["class"] for entry in line["set"]} == expected
    assert command(["predict", str(run), str(image), "--sets", "0.9", "--csv", str(tmp_path / "p.csv"), "-q"]) == 0
    with (tmp_path / "p.csv").open(encoding="utf-8-sig", newline="") as text:
        [row] = csv.DictReader(text)
    assert row["class"] == line["class"] and set(row["set"].split("|")) == expected
    assert command(["predict", str(run), str(image), "--sets", "0.9", "-q"]) == 0
    assert capsys.readouterr().out.rstrip("\n").split("\t")[-1] == row["set"]
    assert (run / KEPT).stat().st_mtime_ns == before  # computed once
    assert command(["evaluate", str(run), "--sets", "0.9", "-q"]) == 0
    assert "Sets of 90.0 %: " in capsys.readouterr().out


def test_out_of_fold_scores_are_of_the_head_that_was_trained(run):
    """Cross-validation of the run has the same loss as the kept scores of the true classes."""
    handlens.evaluate(run, sets=0.9, report=handlens.QUIET)
    probabilities = 1 - np.array(read_json(run / KEPT)["scores"])
    said = read_json(run / "model.json")
    before, after = said["chosen"]["calibration"]["nll"]  # without and with the temperature
    assert before == pytest.approx(said["validation"]["loss"], rel=1e-4)
    assert after == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)


def test_validation_images_where_the_model_has_not_learned_from_them(tmp_path, weights):
    train, validation = tmp_path / "data" / "train", tmp_path / "data" / "valid"
    write_images(train, per_class=12, seed=0, noise=0.95)
    write_images(validation, per_class=12, seed=1, noise=0.95)
    recipe = {"mode": "head", "image_size": 32}
    run = handlens.train(tmp_path / "data", out=tmp_path / "run", recipe=recipe, golden=False)
    said: list[str] = []
    handlens.evaluate(run, sets=0.9, report=handlens.Reporter(say=said.append))
    assert any("their coverage here says nothing" in line for line in said)
    kept = read_json(run / KEPT)
    assert kept["source"] == "validation images"
    shutil.copytree(validation, tmp_path / "other")
    said.clear()
    handlens.evaluate(run, tmp_path / "other", sets=0.9, report=handlens.Reporter(say=said.append))
    assert not any("says nothing" in line for line in said)
    predictor = handlens.load(run)
    ours = [
        1 - predictor(path).probabilities[NAMES.index(folder.name)]
        for folder in validation.iterdir()
        for path in folder.iterdir()
    ]
    np.testing.assert_allclose(kept["scores"], np.sort(ours), atol=1e-5)


def test_thresholds_of_other_weights_are_not_used(run):
    first = handlens.evaluate(run, sets=0.9, report=handlens.QUIET)["sets"]
    kept = read_json(run / KEPT)
    (run / KEPT).write_text(json.dumps(kept | {"weights": "0" * 64, "scores": [0.0] * 50}))
    assert handlens.evaluate(run, sets=0.9, report=handlens.QUIET)["sets"] == first
    assert read_json(run / KEPT) == kept


@pytest.mark.parametrize("damage", ["[]", '{"scores": 3}', "{scores}"])
def test_damaged_thresholds_are_named(run, damage, capsys):
    (run / KEPT).write_text(damage)
    assert command(["evaluate", str(run), "--sets", "0.9"]) == 2
    assert KEPT in capsys.readouterr().err


def test_scores_that_are_none_are_damage(run, capsys):
    weights = open_run(run).model.files["model.safetensors"]
    for scores in ([], [0.5, 0.1], [2.0], ["a"], [None]):
        (run / KEPT).write_text(json.dumps({"weights": weights, "source": "x", "scores": scores}))
        assert command(["evaluate", str(run), "--sets", "0.9"]) == 2
        assert "is damaged; remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sets", "95"], "--sets must be between 0 and 1, such as 0.95, got 95."),
        (["--sets", "nan"], "--sets must be between 0 and 1"),
        (["--sets", "0.9999"], "too few for sets of 99.99 %: at least 9999 are needed"),
        (["--sets", "0.9", "--precision", "int8"], "omit --precision int8 or --sets"),
    ],
)
def test_what_has_no_sets(run, trained, options, message, capsys):
    assert command(["predict", str(run), str(trained[1]), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_images_has_no_sets(trained, weights, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", weights)
    assert command(["predict", "mobilenet_v2", str(trained[1]), "--sets", "0.9"]) == 2
    assert "has none of its own" in capsys.readouterr().err


def test_another_task_has_no_sets(tmp_path, weights, capsys):
    data = handlens.sample("bakery", tmp_path / "data", task="tag", per_class=6, test_per_class=2, size=32)
    recipe = {"mode": "head", "image_size": 32}
    run = handlens.train(data, out=tmp_path / "run", recipe=recipe, golden=False)
    assert command(["evaluate", str(run), "--sets", "0.9"]) == 2
    assert "sets are available for single-label classification only; the task of run is tag" in capsys.readouterr().err


def test_images_that_have_changed_give_no_thresholds(run, trained, tmp_path, capsys):
    moved = Path(shutil.copytree(trained[1], tmp_path / "data"))
    model = read_json(run / "model.json")
    model["data"]["root"] = str(moved)
    (run / "model.json").write_text(json.dumps(model))
    started = read_json(run / "data.json")
    (moved / started["splits"]["train"][0]).unlink()
    assert command(["predict", str(run), str(moved), "--sets", "0.9"]) == 2
    assert "the train images in" in capsys.readouterr().err


def test_a_set_has_the_likeliest_class_and_whatever_reaches_the_limit():
    probabilities = np.array([0.2, 0.5, 0.3], dtype=np.float32)
    for limit, names in ((0.1, ["b"]), (0.5, ["b"]), (0.7, ["b", "c"]), (float("inf"), ["b", "c", "a"])):
        made = ClassSet(probabilities, ("a", "b", "c"), limit)
        assert [name for name, _ in made.members()] == names
        assert made.rows(2)[0][-1] == "|".join(names)
        assert len(made.rows(5)[0]) == len(ClassSet.columns(5))
    assert made.to_dict(1)["top"] == Classes(probabilities, ("a", "b", "c")).to_dict(1)["top"]
    assert ClassSet(probabilities, ("a", "b", "c"), 0.7).caption() == "b 50 % or c 30 %"
