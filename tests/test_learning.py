"""Classifiers learn digits from scratch to a stated accuracy: benchmarks/lessons.py says how.

One of each family that no recipe trains is trained here, and LeNet, whose lesson is quick; of the others
tests/test_recipes.py asks only that they beat chance;
benchmarks/learning.py trains any, and stores what it reached.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lessons import LESSONS, recipe_of, write_digits

import handlens
from bf16 import bf16_against_fp32
from handlens.models import CATALOGUE
from handlens.training.recipe_file import make_recipe

ROOT = Path(__file__).resolve().parents[1]
TRAINED_HERE = ("lenet_color", "alexnet", "vgg11_bn", "googlenet", "resnet18", "mobilenet_v1")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learning") / "digits"
    write_digits(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED_HERE)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_learns_and_answers_in_bf16_alike(name: str, digits: Path, tmp_path: Path):
    run = handlens.train(digits, out=tmp_path / "run", recipe=make_recipe(recipe_of(name)), golden=False)
    metrics = handlens.evaluate(run, precision="fp32")["metrics"]
    assert metrics["count"] == 359
    assert metrics["top1"] >= LESSONS[name].at_least

    others, difference = bf16_against_fp32(run, sorted((digits / "test").rglob("*.png"))[::6])
    assert others <= 2
    assert difference < 0.02


def test_every_classifier_has_a_lesson_and_what_is_stored_is_said():
    classifiers = {name for name, entry in CATALOGUE.items() if entry.task == "classify"}
    assert set(LESSONS) == classifiers
    newest = max((ROOT / "benchmarks" / "results").glob("learning-*.json"))
    rows = json.loads(newest.read_text(encoding="utf-8"))["rows"]
    assert {row["net"] for row in rows} == classifiers
    for row in rows:
        assert (row["size"], row["epochs"]) == LESSONS[row["net"]][1:3], "measured as the lesson was before"
    assert [row["net"] for row in rows if row["top1"] < LESSONS[row["net"]].at_least] == []
    lenet = [row for row in rows if row["net"] == "lenet5"]
    assert len(lenet) == 5 and max(row["seconds"] for row in lenet) < 60  # within a minute, every time
