"""How many more images are needed: shares that are fitted, sentences, the command."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, recall_score

import handlens
from blobs import write_images
from handlens.cli import run
from handlens.cli.forecast import print_forecast
from handlens.cli.shared import console
from handlens.data.labels.classes import ClassLabels
from handlens.data.labels.tags import TagLabels
from handlens.data.labels.values import ValueLabels
from handlens.data.record import Dataset, Record
from handlens.flow import forecast as flow
from handlens.flow.forecast_words import sentences
from handlens.tasks import TASKS
from handlens.tasks.shares import SHARES, fit_shares
from handlens.training.recipe_file import make_recipe


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch):
    monkeypatch.setattr(flow, "DRAWS", 50)
    monkeypatch.setattr(flow, "ROUNDS", 1)


RECIPE = make_recipe({"mode": "head"})


def records_of(labels, **more):
    return [
        Record(path=Path(f"{n}.png"), id=f"{n:03}.png", label=label, split="train", **more)
        for n, label in enumerate(labels)
    ]


def nothing(done, total):
    return None


class Remembering:
    """What a head was fitted on, beside a head that gives each image its first feature."""

    def __init__(self):
        self.fitted = []

    def fit(self, features, records, folds, *, copies, recipe, names):
        from handlens.training.head import Head

        assert len(features) == copies * len(records) and len(folds) == len(records)
        self.fitted.append({record.id for record in records})
        return Head(torch.eye(1, features.shape[1]), torch.zeros(1), 1.0, None, None, {})


def test_no_image_measures_a_head_that_was_fitted_on_it_or_on_its_copy():
    records = records_of(np.arange(120) % 3)
    copies = [{f"{n:03}.png", f"{n + 60:03}.png"} for n in range(0, 40, 2)]
    frozen, features = Remembering(), np.arange(240, dtype=np.float32).reshape(120, 2)
    found = fit_shares(
        frozen,
        features,
        records,
        kind=ClassLabels(),
        recipe=RECIPE,
        names="abc",
        together=copies,
        shares=SHARES[4:],
        rounds=2,
        progress=nothing,
    )
    assert found.raw.shape == (2, 5, 120, 1)
    np.testing.assert_array_equal(found.raw[1, 0, :, 0], features[:, 0])  # each image measured in each round
    fits = np.array(frozen.fitted, dtype=object).reshape(2, 5, 5)
    labels = {record.id: record.label for record in records}
    for shares in fits.reshape(-1, 5):
        for smaller, larger in itertools.pairwise(shares):
            assert smaller < larger
        whole = shares[-1]
        assert 90 <= len(whole) <= 102
        for ids in shares:
            for pair in copies:
                assert len(pair & ids) in (0, 2)
            counts = np.bincount([labels[id] for id in ids], minlength=3)
            assert np.ptp(counts) <= 6  # stratified
    for round in fits:  # four of five folds each, every image left out once
        assert sorted(id for shares in round for id in labels.keys() - shares[-1]) == sorted(labels)
    assert fits[0, 0, 0] != fits[1, 0, 0]
    np.testing.assert_allclose(found.images[-1], 96)


def test_errors_by_class_are_scikit_learns_and_sum_to_the_error():
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(rng.normal(size=(90, 3)).astype(np.float32))
    labels = rng.integers(0, 3, 90)
    classes = TASKS["classify"].frozen(dataset := None)
    parts = classes.errors_by_class(raw, records_of(labels.tolist()))
    recalls = recall_score(labels, raw.argmax(1), average=None)
    np.testing.assert_allclose(parts, (1 - recalls) * np.bincount(labels) / 90)
    assert parts.sum() == pytest.approx(1 - classes.score(raw, records_of(labels.tolist()))[0])

    truth = rng.random((90, 3)) < 0.3
    truth[:, 2] = False  # a class that no image has
    tagged = records_of([tuple(np.flatnonzero(row).tolist()) for row in truth])
    tags = TASKS["tag"].frozen(dataset)
    parts = tags.errors_by_class(raw, tagged)
    expected = [(1 - average_precision_score(truth[:, k], raw[:, k])) / 2 for k in (0, 1)]
    np.testing.assert_allclose(parts, [*expected, 0], atol=1e-6)
    assert parts.sum() == pytest.approx(1 - tags.score(raw, tagged)[0], abs=1e-6)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.has_head])
def test_every_task_that_has_a_head_is_forecast_by_its_own_metric(name):
    """Features say a little of the label, so that the error falls with the images."""
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(400, 3))
    features = np.concatenate([hidden + rng.normal(size=(400, 3)), rng.normal(size=(400, 30))], axis=1)
    labels = {
        "classify": hidden.argmax(axis=1).tolist(),
        "tag": [tuple(np.flatnonzero(row > 0.3).tolist()) for row in hidden],
        "regress": [tuple(row) for row in hidden[:, :2].tolist()],
    }[name]
    kind = {"classify": ClassLabels(), "tag": TagLabels(), "regress": ValueLabels()}[name]
    names = ("a", "b") if name == "regress" else ("a", "b", "c")
    records = records_of(labels)
    dataset = Dataset(root=Path(), format="x", class_names=names, records=tuple(records), kind=kind)
    frozen = TASKS[name].frozen(dataset)
    fitted = fit_shares(
        frozen,
        features.astype(np.float32),
        records,
        kind=kind,
        recipe=RECIPE,
        names=names,
        together=(),
        shares=(3, 8, 16, 32),
        rounds=1,
        progress=nothing,
    )
    found = flow._measured(frozen, fitted, records, [[n] for n in range(400)], handlens.QUIET)
    assert found.errors[0] > found.errors[-1] > 0.05
    assert (found.draws.std(axis=0) > 0).all()
    assert (np.abs(found.draws.mean(axis=0) - found.errors) < found.draws.std(axis=0)).all()
    if name == "regress":
        assert found.by_class.shape == (0, 4)
    else:
        np.testing.assert_allclose(found.by_class.sum(axis=0), found.errors, atol=1e-6)


def said(**changed):
    found = {
        "images": 1000,
        "present": {"value": 0.9, "interval": [0.88, 0.92]},
        "target": 0.95,
        "falls": True,
        "needed": {
            "images": 4321,
            "more": 3321,
            "interval": [2000, 9000],
            "more_interval": [1000, 8000],
        },
        "law": {"limit": 0.97, "limit_interval": [0.93, 1.0]},
        "table": [
            {"images": 100, "measured": 0.7, "predicted": 0.7},
            {"images": 800, "measured": 0.89, "predicted": 0.89},
            {"images": 1000, "measured": None, "predicted": 0.9},
        ],
        "mostly": ["rye"],
        "classes": [{"class": "rye", "share": 0.6}, {"class": "bun", "share": 0.4}],
    }
    return " ".join(sentences(found | changed, TASKS["classify"]))


def needed(images, low, high):
    def more(n):
        return None if n is None else max(0, n - 1000)

    return {
        "needed": {
            "images": images,
            "more": more(images),
            "interval": [low, high],
            "more_interval": [more(low), more(high)],
        }
    }


def test_what_is_said():
    assert (
        "To reach accuracy 95.0 % you need about 3,300 more images (95 % interval 1,000 to 8,000), mostly of these "
        "classes: rye (60 % of the error that still falls)." in said()
    )
    assert "mostly" not in said(mostly=[], classes=[])
    assert "interval from 1,000, without an upper limit: it may be out of reach)" in said(**needed(4321, 2000, None))
    assert "take it as an order of magnitude" in said(**needed(40_000, 2000, None))
    never = said(**needed(None, 3000, None), law={"limit": 0.94, "limit_interval": [0.93, 1.0]})
    assert "Accuracy 95.0 % is out of reach of the fitted curve, which levels off at accuracy 94.0 %" in never
    assert "does not exclude it: from 2,000 more images on" in never
    assert "does not exclude" not in said(**needed(None, None, None))
    assert "more than 100 times the present 1,000 images" in said(**needed(None, None, None))
    assert said(target=0.89).endswith("The target, accuracy 89.0 %, is reached already.")
    assert "does not fall measurably" in said(falls=False) and "To reach" not in said(falls=False)
    perfect = [{"images": 100, "measured": 1.0}, {"images": 800, "measured": 1.0}]
    assert said(table=perfect) == "No error was measured on 1,000 images: there is nothing to forecast."


def test_on_the_command_line(tmp_path, capsys):
    data = write_images(tmp_path / "data", per_class=14, seed=0, noise=0.93)
    plot = tmp_path / "curve.png"
    command = ["forecast", str(data), "--image-size", "32", "--target", "99", "--images", "77,5000"]
    assert run([*command, "--plot", str(plot), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert (found["images"], found["task"], found["repeats"]) == (42, "classify", 5)
    assert found["target"] == pytest.approx(0.99) and found["sentences"]
    rows = {row["images"]: row for row in found["table"]}
    assert rows.keys() >= {34, 42, 77, 84, 168, 5000}
    assert rows[5000]["measured"] is None and 0 <= rows[34]["measured"] <= 1
    assert {row["class"] for row in found["classes"]} == {"딸기 빵", "b a", "c"}
    print_forecast(console(), found)
    text = capsys.readouterr().out
    assert "5,000" in text and all(sentence in text for sentence in found["sentences"])


def test_a_test_split_is_not_used(tmp_path, capsys):
    write_images(tmp_path / "data" / "train", per_class=10, seed=0)
    write_images(tmp_path / "data" / "test", per_class=10, seed=1)
    assert run(["forecast", str(tmp_path / "data"), "--image-size", "32"]) == 1
    # With as many as it asks for it goes on, though some slices of the images stay empty.
    write_images(tmp_path / "enough" / "train", per_class=13, seed=0)
    assert run(["forecast", str(tmp_path / "enough"), "--image-size", "32", "-q"]) == 0
    assert (
        "30 labeled images are too few for a forecast of 3 classes: at least 37 are needed." in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "0"], "--target must be between 0 and 100 percent, got 0."),
        (["--target", "100"], "--target must be between 0 and 100 percent, got 100."),
        (["--target", "0.95"], "--target is in percent: did you mean 95?"),
        (["--target", "nan"], "--target must be between 0 and 100 percent, got nan."),
        (["--images", "many"], "--images must be whole numbers separated by commas, got 'many'"),
        (["--images", "0"], "--images must be from 1 to"),
        (["--plot", "a.jpg"], "--plot must be a PNG file, got a.jpg"),
        (["--model", "mobilenet"], "unknown model 'mobilenet'"),
        (["--recipe", "finetune.yaml"], "forecast fits heads on frozen features; leave out mode finetune."),
    ],
)
def test_what_cannot_be_forecast(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finetune.yaml").write_text("mode: finetune\n")
    write_images(tmp_path / "data", per_class=2, seed=0)
    assert run(["forecast", "data", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_task_without_a_head_is_refused_in_a_sentence(tmp_path, capsys):
    for folder, value in (("images", 90), ("masks", 1)):
        (tmp_path / folder).mkdir()
        pixels = np.full((8, 8, 3) if folder == "images" else (8, 8), value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "1.png")
    assert run(["forecast", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "forecast is available for tasks with a head on frozen features (classify, tag, regress)" in said
