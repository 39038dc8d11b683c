"""None of these: from the command line to what is kept in the run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import handlens
from blobs import write_images
from handlens.cli import run as command
from handlens.errors import InputError
from handlens.figures import percent
from handlens.flow import choose_recognition, recognition
from handlens.flow.recognition import KEPT
from handlens.reading.parsed import read_json
from handlens.results import KnownClasses
from handlens.tasks.classify.answer import answer
from handlens.training.run import open_run

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, weights: str) -> tuple[Path, Path]:
    """(run, data): a head with a test split."""
    folder = tmp_path_factory.mktemp("unknown")
    data = write_images(folder / "data" / "train", per_class=30, seed=0, noise=0.3).parent
    write_images(data / "test", per_class=10, seed=1, noise=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", weights)
        return handlens.train(data, out=folder / "run", recipe={"mode": "head", "image_size": 64}), data


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def noise(folder: Path) -> Path:
    """Ten images that look like nothing."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_what_looks_like_nothing_is_none_of_the_classes(run, trained, tmp_path, capsys):
    others = noise(tmp_path / "noise")
    found = list(handlens.predict(run, [others], unknown=0.1))
    assert len(found) == 10 and all(isinstance(one.result, KnownClasses) for one in found)
    rejected = [one for one in found if one.result.unknown]
    assert len(rejected) >= 5  # of images of the classes it would be 1
    assert rejected[0].result.caption().startswith("none of these (")
    kept = (run / KEPT).stat().st_mtime_ns
    before = {path.name: path.read_bytes() for path in others.iterdir()}

    assert command(["evaluate", str(run), "--unknown", "0.1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    jsonschema.validate(result, read_json(SCHEMAS / "evaluate.json"))
    measured = result["unknown"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Prediction sets and unknown images" in page and f"where {percent(measured['asked'])} was asked" in page
    assert measured["count"] == result["images"] == 30 and measured["rejected"] <= 0.3
    assert read_json(run / "evaluation.json")["unknown"] == measured

    image = rejected[0].path
    assert command(["predict", str(run), str(image), "--unknown", "0.1", "--json", "-q"]) == 0
    line = json.loads(capsys.readouterr().out)
    jsonschema.validate(line, read_json(SCHEMAS / "predict.json"))
    assert line["unknown"] is True and 0 < line["p"] <= 0.1
    assert command(["predict", str(run), str(image), "--unknown", "0.1", "--csv", str(tmp_path / "p.csv"), "-q"]) == 0
    with (tmp_path / "p.csv").open(encoding="utf-8-sig", newline="") as text:
        [row] = csv.DictReader(text)
    assert row["unknown"] == "yes" and float(row["p"]) == pytest.approx(line["p"], abs=1e-6)
    assert (run / KEPT).stat().st_mtime_ns == kept  # made once
    assert {path.name: path.read_bytes() for path in others.iterdir()} == before


def test_probabilities_are_those_of_predict(run, trained):
    images = [trained[1] / "test"]
    ours = [one.result.probabilities for one in handlens.predict(run, images, unknown=0.05, precision="fp32")]
    usual = [one.result.probabilities for one in handlens.predict(run, images, precision="fp32")]
    np.testing.assert_allclose(np.stack(ours), np.stack(usual), atol=1e-4)


def test_a_damaged_file_is_a_sentence_and_other_weights_make_it_anew(run, trained):
    images = [trained[1] / "test"]
    list(handlens.predict(run, images, unknown=0.05))
    whole = (run / KEPT).read_bytes()
    for damaged in (whole[:100], b"", whole[:-2000] + bytes(2000), b"PK\x03\x04"):
        (run / KEPT).write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            list(handlens.predict(run, images, unknown=0.05))
    (run / KEPT).unlink()
    assert all(one.result is not None for one in handlens.predict(run, images, unknown=0.05))


def test_what_an_earlier_version_kept_is_made_anew(run, trained, monkeypatch):
    images = [trained[1] / "test"]
    monkeypatch.setattr(recognition, "MIDDLE", 0.5)
    list(handlens.predict(run, images, unknown=0.05))
    monkeypatch.undo()
    before = (run / KEPT).read_bytes()
    assert all(one.result is not None for one in handlens.predict(run, images, unknown=0.05))
    assert (run / KEPT).read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"unknown": 0.0}, "between 0 and 1"),
        ({"unknown": 0.05, "sets": 0.9}, "cannot be asked for together"),
    ],
)
def test_what_cannot_be_is_refused_at_once(run, trained, arguments, said):
    with pytest.raises(InputError, match=said):
        handlens.predict(run, [trained[1]], **arguments)


def test_a_model_without_images_of_its_own_is_refused(trained, weights, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", weights)
    with pytest.raises(InputError, match="has none of its own"):
        handlens.predict("mobilenet_v2", [trained[1]], unknown=0.05)


def test_changed_images_are_refused(run, trained, tmp_path):
    data = Path(shutil.copytree(trained[1], tmp_path / "data"))
    recipe = {"mode": "head", "image_size": 64}
    own = handlens.train(data, out=tmp_path / "own", recipe=recipe, golden=False)
    next(path for path in (data / "train").rglob("*") if path.is_file()).unlink()
    with pytest.raises(InputError, match="have changed since own was trained"):
        handlens.predict(own, [trained[1]], unknown=0.05)


def test_an_exported_file_carries_what_it_needs(run, trained, tmp_path):
    exported, _ = handlens.export(run, to="openvino", images=8)
    images = sorted((trained[1] / "test").rglob("*.jpg"))
    found = [one.result for one in handlens.predict(exported, images, unknown=0.2)]
    assert all(isinstance(one, KnownClasses) for one in found)
    usual = [one.result.p for one in handlens.predict(run, images, unknown=0.2, engine="openvino")]
    np.testing.assert_allclose([one.p for one in found], usual, atol=0.05)
    assert np.mean([one.unknown for one in found]) <= 0.5
    measured = handlens.evaluate(exported, trained[1], unknown=0.2)["unknown"]
    assert measured["score"] == "GEN" and measured["rejected"] == pytest.approx(np.mean([one.unknown for one in found]))

    folder = exported.with_name(f"{exported.name}-app")
    model = read_json(folder / "model.json")
    assert model["known_scores"] == read_json(run / "model.json")["chosen"]["known_scores"]
    assert "known_scores" in (folder / "README.md").read_text(encoding="utf-8")
    result = found[0]
    told = answer({"probabilities": result.probabilities}, model=model, height=1, width=1, place=(0, 0, 1, 1))
    assert told["p"] == pytest.approx(result.p)


def test_a_damaged_list_of_scores_is_a_sentence(run, trained):
    model = read_json(run / "model.json")
    for damaged in ([], {"count": 5}, {"count": 5, "quantiles": [2, 1]}, {"count": 5, "quantiles": ["a"]}, 7):
        model["chosen"]["known_scores"] = damaged
        (run / "model.json").write_text(json.dumps(model), encoding="utf-8")
        with pytest.raises(InputError, match="known_scores"):
            handlens.predict(run, [trained[1]], unknown=0.05, engine="openvino")
    del model["chosen"]["known_scores"]
    (run / "model.json").write_text(json.dumps(model), encoding="utf-8")
    with pytest.raises(InputError, match="says nothing of the images that it knows"):
        handlens.predict(run, [trained[1]], unknown=0.05, precision="int8")


def test_a_share_that_so_few_images_cannot_tell_is_refused(run, trained):
    with pytest.raises(InputError, match=r"too little to be told by \d+ known images; ask for at least 0\.011"):
        handlens.predict(run, [trained[1]], unknown=1e-4)


def test_images_in_the_bank_are_not_their_own_neighbors(run, trained, monkeypatch):
    """With more images than the bank holds, those that are in it are judged as those that are not."""
    monkeypatch.setattr(choose_recognition, "MOST_NEIGHBORS", 40)
    made = choose_recognition.recognition_of(open_run(run), handlens.QUIET)
    assert len(made.bank) == 40 and len(made.known) == 90
    new = [one.result.p for one in handlens.predict(run, [trained[1] / "test"], unknown=0.05)]
    assert 0.25 < np.mean(new) < 0.75  # uniform, if known and new images are judged alike


def test_a_classifier_that_is_not_the_last_layer_has_no_temperature(trained, tmp_path):
    recipe = {"model": "own_parts:Hidden", "mode": "scratch", "image_size": 32, "epochs": 1, "workers": 0}
    own = handlens.train(trained[1], out=tmp_path / "own", recipe=recipe, golden=False)
    assert "temperature" not in read_json(own / "model.json")["chosen"]
    with pytest.raises(InputError, match="--unknown needs a model with a method embed"):
        handlens.predict(own, [trained[1]], unknown=0.05)
