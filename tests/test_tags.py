"""Several labels per image through the whole line, by the commands: table, training, thresholds, report, export."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import handlens as package
from command import handlens
from handlens.reading.parsed import read_json
from handlens.reporter import Reporter
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS
from handlens.training.recipe_file import make_recipe

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas"


@pytest.fixture(scope="module")
def trained(weights: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, run), by the commands. Tests must not change them."""
    folder = tmp_path_factory.mktemp("여러 빵")
    data, run = folder / "data", folder / "run"
    handlens("sample", "bakery", data, "--task", "tag", "--per-class", "12", "--test-per-class", "4", "--size", "224")
    done = handlens("train", data, "--out", run, "--json", XDG_CACHE_HOME=weights)
    jsonschema.validate(json.loads(done.stdout), read_json(SCHEMAS / "train.json"))
    return data, run


def test_check_and_show_know_the_labels(trained: tuple[Path, Path], tmp_path: Path):
    data, _ = trained
    result = json.loads(handlens("check", data, "--json").stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "check.json"))
    assert result["task"] == "tag"
    assert sum(result["class_counts"]["train"].values()) > 120  # more labels than images
    handlens("show", data, "-n", "4", "--out", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()


def test_it_learns_and_says_by_how_much_more_than_chance(trained: tuple[Path, Path], weights: str, tmp_path: Path):
    _, run = trained
    copy = shutil.copytree(run, tmp_path / "run")
    result = json.loads(handlens("evaluate", copy, "--json", XDG_CACHE_HOME=weights).stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "evaluate.json"))
    metrics = result["metrics"]
    assert (result["task"], result["split"], metrics["count"]) == ("tag", "test", 40)
    assert metrics["map"] > 0.75 > 0.4 > metrics["chance"]  # a head on frozen features of 120 images
    assert metrics["f1"] > 0.6
    assert metrics["exact"] > metrics["exact_baseline"]["share"]
    stored = read_json(copy / "model.json")
    assert stored["metrics"].items() <= metrics.items()
    assert [row["threshold"] for row in metrics["per_class"]] == stored["chosen"]["thresholds"]
    assert "mAP</small>" in (copy / "report.html").read_text(encoding="utf-8")
    assert "random ranking" in handlens("evaluate", copy, XDG_CACHE_HOME=weights).stdout


def test_predictions_are_a_table_that_can_be_trained_on(trained: tuple[Path, Path], tmp_path: Path):
    data, run = trained
    images = sorted((data / "images/test").iterdir())
    table = tmp_path / "answers.csv"
    done = handlens("predict", run, *images, "--csv", table, "--json", "--annotate", tmp_path / "drawn")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        jsonschema.validate(line, read_json(SCHEMAS / "predict.json"))
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["labels"] for row in rows] == ["|".join(label["class"] for label in line["labels"]) for line in lines]
    assert len(list((tmp_path / "drawn").iterdir())) == len(images)
    (tmp_path / "handlens.yaml").write_text("csv: {path: answers.csv, file: id, label: labels}\n")
    dataset = package.open_dataset(tmp_path)
    assert dataset.task == "tag"
    for record, line in zip(dataset.records, sorted(lines, key=lambda line: line["id"]), strict=True):
        assert {dataset.class_names[tag] for tag in record.label} == {label["class"] for label in line["labels"]}


def test_a_threshold_of_the_users_own_holds_for_every_label(trained: tuple[Path, Path]):
    data, run = trained
    image = sorted((data / "images/test").iterdir())[0]
    everything = json.loads(handlens("predict", run, image, "--json", "--threshold", "0").stdout)
    nothing = json.loads(handlens("predict", run, image, "--json", "--threshold", "1").stdout)
    assert len(everything["labels"]) == 10
    assert nothing["labels"] == []
    assert "no label" not in handlens("predict", run, image, "--threshold", "0").stdout


@pytest.mark.slow
@pytest.mark.parametrize("to", RUNTIMES)
def test_export_is_proved_by_its_own_runtime(trained: tuple[Path, Path], weights: str, tmp_path: Path, to: str):
    data, run = trained
    out = tmp_path / f"model{RUNTIMES[to].suffix}"
    whole = json.loads(handlens("export", run, "--to", to, "--out", out, "--json", XDG_CACHE_HOME=weights).stdout)
    jsonschema.validate(whole, read_json(SCHEMAS / "export.json"))
    (result,) = whole["exports"]
    evaluated = json.loads(handlens("evaluate", out, data, "--precision", "fp32", "--json").stdout)
    assert evaluated["metrics"][TASKS["tag"].metric] == pytest.approx(result["rows"][0]["score"], abs=1e-4)
    assert (result["task"], result["passed"]) == ("tag", True)
    assert all(row["largest_difference"] < 1e-4 for row in result["rows"] if "default" not in row["precision"])
    if to == "onnx":  # an app gets the thresholds with the file
        import onnx

        kept = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
        assert json.loads(kept["handlens.thresholds"]) == read_json(run / "model.json")["chosen"]["thresholds"]


def test_golden_images_are_answered_as_promised(trained: tuple[Path, Path]):
    _, run = trained
    golden = np.load(run / "golden/golden.npz")
    predictor = package.load(run, precision="fp32")
    found = np.concatenate([predictor.engine.run(pixels[None])["probabilities"] for pixels in golden["images"]])
    np.testing.assert_allclose(found, golden["probabilities"], atol=1e-4)
    assert all(entry["labels"] for entry in read_json(run / "golden/golden.json")["files"])


def test_one_label_each_can_be_measured_too(trained: tuple[Path, Path], weights: str, tmp_path: Path):
    _, run = trained
    handlens("sample", "bakery", tmp_path / "ones", "--per-class", "1", "--test-per-class", "2")
    copy = shutil.copytree(run, tmp_path / "run")
    result = json.loads(handlens("evaluate", copy, tmp_path / "ones", "--json", XDG_CACHE_HOME=weights).stdout)
    assert result["metrics"]["count"] == 20
    assert result["metrics"]["map"] > result["metrics"]["chance"]


@pytest.mark.parametrize("mode", [pytest.param("finetune", marks=pytest.mark.slow), "scratch"])
def test_training_the_whole_net(trained: tuple[Path, Path], weights: str, tmp_path: Path, mode: str):
    """What training itself does: the head first where there are weights, mAP per epoch, thresholds on validation."""
    data, _ = trained
    said: list[str] = []
    recipe = make_recipe(
        {
            "mode": mode,
            "epochs": 1,
            "image_size": 64,
            "batch_size": 16,
            "workers": 0,
            "class_weights": "balanced",
            "label_smoothing": 0.05,
            "augment": {"mixup": 0.2},
        }
        | ({"width": 0.35} if mode == "scratch" else {})
    )
    run = package.train(data, out=tmp_path / "run", recipe=recipe, golden=False, report=Reporter(say=said.append))
    model = read_json(run / "model.json")
    assert set(model["validation"]) >= {"map", "loss", "count"}
    assert len(model["chosen"]["thresholds"]) == 10
    assert all(0 <= threshold <= 1 for threshold in model["chosen"]["thresholds"])
    rows = list(csv.DictReader((run / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["epoch"] for row in rows] == (["0", "1"] if mode == "finetune" else ["1"])
    assert 0 < float(rows[-1]["validation_map"]) <= 1
    assert 0 < float(rows[-1]["train_labels_right"]) <= 1
