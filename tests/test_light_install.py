"""What the plain installation can do without the packages for training, and what it says where it cannot."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import handlens
from handlens.training.recipe_file import make_recipe

ABSENT = ("torch", "torchvision", "lightning", "safetensors", "tensorboard", "onnx", "onnxruntime")
CODE = """
import sys
for name in {absent!r}:
    sys.modules[name] = None  # as if it were not installed
from handlens.cli import run
code = run({arguments!r})
sys.exit(code)
"""


def light(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = CODE.format(absent=ABSENT, arguments=[str(argument) for argument in arguments])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make_recipe({"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0})
    return handlens.train(data, out=tmp_path_factory.mktemp("light") / "run", recipe=recipe)


def test_it_predicts_checks_shows_samples_and_evaluates(run: Path, data: Path, tmp_path: Path):
    for arguments in (
        ("predict", run, data / "test", "--csv", tmp_path / "a.csv", "--sheet", tmp_path / "a.png"),
        ("check", data),
        ("show", data, "--out", tmp_path / "show.png"),
        ("sample", "bakery", tmp_path / "b", "--per-class", "1", "--test-per-class", "1", "--task", "detect"),
        ("check", tmp_path / "b"),
        ("convert", tmp_path / "b", tmp_path / "voc", "--to", "voc"),
        ("evaluate", run),
        ("explain-layer", "conv", "--in", "3"),
        ("data", "list"),
        ("weights", "list"),
    ):
        done = light(*arguments)
        assert done.returncode in (0, 1), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert (run / "report.html").is_file() and (tmp_path / "a.csv").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "DATA", "--out", "x"),
        ("export", "RUN", "--to", "onnx"),
        ("models",),
        ("summary", "lenet5"),
        ("cost", "mobilenet_v2"),
        ("weights", "get", "mobilenet_v2"),
        ("check", "DATA", "--labels"),
        ("predict", "vgg11:imagenet1k_v1", "DATA"),
    ],
)
def test_what_needs_more_packages_says_the_line_that_brings_them(arguments, run: Path, data: Path, tmp_path: Path):
    places = {"DATA": str(data), "RUN": str(run), "x": str(tmp_path / "x")}
    done = light(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].endswith("needs additional packages: pip install 'handlens[train]'.")
    assert "Traceback" not in done.stderr


# Needed without an import of ours: fonts are found beside the package, torch imports the others.
NOT_IMPORTED = {"onnxscript", "koreanize-matplotlib", "tensorboard"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.match(r"[\w-]+", requirement)[0].lower()
        for requirement in sum((extras[name] for name in extras if name not in ("all", "dev")), project["dependencies"])
    }
    names = set()
    for path in (root / "src").rglob("*.py"):
        if path.name.endswith("_script.py"):  # runs in an environment of its own
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
    known = packages_distributions()
    packages = {known[name][0].lower().replace("_", "-") for name in names - sys.stdlib_module_names - {"handlens"}}
    assert packages == (declared - NOT_IMPORTED) | {"ipython"}  # imported in a notebook alone, which has it
