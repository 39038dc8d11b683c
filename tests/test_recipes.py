"""Every recipe's smoke version: real files through the real command, and better than chance.

A recipe opens with comments: Source, Command, Expect, Cost, and Smoke: which small data set stands in for its own, and
what is changed so that it ends soon.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lessons import write_digits

from bf16 import bf16_against_fp32
from command import handlens
from handlens.evaluation.metrics import wilson_interval
from handlens.reading.parsed import read_json
from handlens.training.recipe_file import read_recipe

pytestmark = pytest.mark.slow  # a training each

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
FLOWERS = ROOT.parent / "shared" / "data" / "flowers"
PARTS = ("Source", "Command", "Expect", "Cost", "Smoke")


def flowers(folder: Path, *kinds: str, train: int, test: int) -> None:
    if not FLOWERS.is_dir():
        pytest.skip("real images are not here: ../shared/data/flowers is absent")
    for part, count in (("train", train), ("test", test)):
        for kind in kinds:
            (folder / part / kind).mkdir(parents=True)
            for image in sorted((FLOWERS / part / kind).iterdir())[:count]:
                (folder / part / kind / image.name).symlink_to(image)


def bakery(folder: Path, *, task: str, train: int, test: int) -> None:
    handlens("sample", "bakery", folder, "--task", task, "--per-class", train, "--test-per-class", test, "--size", 96)


def masks_of_bread(folder: Path) -> None:
    """Bread of any kind, and what is behind it."""
    bakery(folder, task="segment", train=8, test=2)
    values = {0: 0} | dict.fromkeys(range(1, 11), 1)
    (folder / "handlens.yaml").write_text(
        yaml.safe_dump({"class_names": ["behind", "bread"], "masks": {"values": values}})
    )


DATA: dict[str, Callable[[Path], None]] = {
    "digits": write_digits,
    "two flowers": lambda folder: flowers(folder, "daisy", "rose", train=150, test=60),
    "five flowers": lambda folder: flowers(
        folder, "daisy", "dandelion", "rose", "sunflower", "tulip", train=40, test=20
    ),
    "breads": lambda folder: bakery(folder, task="classify", train=12, test=6),
    "masks of bread": masks_of_bread,
}


def parts_of(recipe: Path) -> dict[str, str]:
    """The parts of the comment that opens it; lines that go on are joined."""
    comment = [line.removeprefix("#") for line in recipe.read_text(encoding="utf-8").split("\n\n")[0].splitlines()]
    parts: dict[str, str] = {}
    for line in comment:
        if match := re.match(r" (\w+) {2,}(.*)", line):
            last = match[1]
            parts[last] = match[2]
        elif line.startswith(" " * 11) and parts:
            parts[last] += "\n" + line.strip()
    return parts


def smoke_of(recipe: Path) -> dict[str, Any]:
    return yaml.safe_load("{" + parts_of(recipe)["Smoke"].replace("\n", " ") + "}")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_it_says_where_it_is_from_what_to_expect_and_what_it_cost(recipe: Path):
    parts = parts_of(recipe)
    assert [name for name in parts if name in PARTS] == list(PARTS)
    assert all(parts.values())
    assert f"--recipe recipes/{recipe.name}" in parts["Command"]
    assert read_recipe(recipe).mode in ("scratch", "finetune")
    assert smoke_of(recipe)["data"] in DATA


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_its_smoke_version_beats_chance(recipe: Path, tmp_path: Path, weights: str):
    smoke = smoke_of(recipe)
    data, run, changed = tmp_path / "data", tmp_path / "run", tmp_path / "recipe.yaml"
    DATA[smoke["data"]](data)
    changed.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text(encoding="utf-8")) | smoke["over"]))
    handlens("train", data, "--recipe", changed, "--out", run, "--no-golden", "-q", XDG_CACHE_HOME=weights)
    result = json.loads(handlens("evaluate", run, "--json", XDG_CACHE_HOME=weights).stdout)
    metrics = result["metrics"]
    chance = metrics["majority_baseline"]["share"]
    if result["task"] == "segment":
        assert metrics["miou"] > 1.5 * chance / len(metrics["per_class"])  # the mean IoU of the commonest class alone
        assert metrics["pixel_accuracy"] > chance
    else:
        low, _ = wilson_interval(metrics["correct"], metrics["count"])
        assert low > chance
        images = [data / id for id in read_json(run / "data.json")["splits"]["test"]]
        others, difference = bf16_against_fp32(run, images[:: max(1, len(images) // 60)])
        assert others <= (2 if metrics["top1"] > 0.9 else 6)  # hardly trained, it is unsure of many
        assert difference < 0.02
