"""What the documentation points at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from handlens.tasks import TASKS
from handlens.training.recipe import FROM_SCRATCH, Augment, Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_key_of_the_recipe_is_described_with_its_defaults():
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    fields = {name: field for name, field in Recipe.model_fields.items() if name != "augment"}
    fields |= {f"augment.{name}": field for name, field in Augment.model_fields.items()}
    for name, field in fields.items():
        default = "none" if field.default is None else str(field.default)
        if name in FROM_SCRATCH:
            default += f"; scratch: {FROM_SCRATCH[name]}"
        for task in TASKS.values():
            if name in task.defaults:
                default += f"; {task.name}: {task.defaults[name]}"
        assert f"| `{name}` | {default} | {field.description or ''} |" in page, name


@pytest.mark.parametrize("page", ["map.md", "pitfalls.md"])
def test_named_files_and_tests_exist(page: str):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|recipes)/[\w/.]+)(?:::(\w+))?`", text)
    assert len(named) > 10
    for path, test in named:
        assert (ROOT / path).exists(), path
        if test:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_every_recipe_stands_in_the_map():
    text = (ROOT / "docs/map.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "recipes").glob("*.yaml") if f"`recipes/{path.name}`" not in text] == []


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("docs/nets.md", 6),
        pytest.param("docs/python.md", 3, marks=pytest.mark.slow),
        pytest.param("docs/forecast.md", 1, marks=pytest.mark.slow),
    ],
)
def test_the_python_of_a_page_runs(page: str, least: int, weights):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= least
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
