"""The design itself, held by tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from handlens.data.labels import KINDS
from handlens.models import CATALOGUE
from handlens.runtimes import RUNTIMES
from handlens.samples.bakery_set import LAYOUTS
from handlens.tasks import TASKS

SOURCES = Path(__file__).resolve().parents[1] / "src" / "handlens"
FORBIDDEN = ("torchvision.models", "timm", "keras", "tensorflow")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_nets_are_ours():
    found = {path.name: imported(path) for path in SOURCES.rglob("*.py")}
    assert "torchvision.transforms" in set().union(*found.values())  # else this test sees nothing
    for file, names in found.items():
        for name in names:
            assert not name.startswith(FORBIDDEN), f"{file} imports {name}"


@pytest.mark.parametrize(
    "module",
    [
        "handlens",
        "handlens.cli",
        "handlens.flow.predict",
        "handlens.prediction.predictor",
        "handlens.formulas",
        "handlens.weights",
    ],
)
def test_prediction_starts_without_torch(module):
    code = (
        f"import sys, {module}; print('torch' in sys.modules, 'lightning' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


def test_every_public_name_is_there():
    import handlens
    import handlens.evaluation.metrics
    import handlens.training.run  # folders of the same names as functions

    assert callable(handlens.train)
    assert callable(handlens.evaluate)
    for name in handlens.__all__:
        assert getattr(handlens, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = handlens.nothing


SCRIPTS = ("__main__.py", "outside.py")  # and *_script.py: run where handlens is not


def test_every_module_can_be_imported_under_another_name():
    """`import handlens.x.y as z` takes the attribute y of x: no function may stand in a package's place."""
    names = sorted(
        ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES.rglob("*.py")
        if path.name not in SCRIPTS and not path.name.endswith("_script.py")
    )
    code = "\n".join(f"import {name} as module; assert module.__name__ == {name!r}, module" for name in names)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(names) > 200


# Where a task's name may stand as a string outside its room (tasks/, data/labels/) and its list.
NAMES_ALLOWED = {
    "models/__init__.py": "the catalogue is a list: each of its entries says which task it is for",
    "samples/bakery_set.py": "a list: the layout of a generated data set by task",
    "flow/data.py": "the default of `handlens.sample`",
    "cli/data.py": "the same default on the command line",
}


def test_a_tasks_name_stands_in_its_room_and_its_list():
    found: dict[str, set[str]] = {}
    for path in SOURCES.rglob("*.py"):
        place = path.relative_to(SOURCES).as_posix()
        if place.startswith(("tasks/", "data/labels/")):
            continue
        strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        if names := strings & set(TASKS):
            found[place] = names
    assert set(found) == set(NAMES_ALLOWED), found


def test_the_lists_of_tasks_agree():
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert {name: kind.task for name, kind in KINDS.items()} == {name: name for name in TASKS}
    assert set(LAYOUTS) == set(TASKS)
    assert {entry.task for entry in CATALOGUE.values()} == {task.models for task in TASKS.values()}


def test_a_runtimes_name_stands_in_its_room_and_its_list():
    found = {}
    for path in SOURCES.rglob("*.py"):
        place = path.relative_to(SOURCES).as_posix()
        if place == "runtimes/__init__.py" or place.startswith(tuple(f"runtimes/{name}/" for name in RUNTIMES)):
            continue
        strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        if names := strings & set(RUNTIMES):
            found[place] = names
    assert set(found) <= {"flow/runs.py"}, found  # versions of packages, which exact numbers depend on


def test_the_models_load_without_torchvision():
    """It takes as long to import as torch itself, and brings torch._dynamo."""
    code = (
        "import sys, handlens.models; print([name for name in ('torchvision', 'torch._dynamo') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Who opens files beside `reading/`: what runs where handlens is not installed, what reads handlens' own files, and
# downloads whose digest is checked.
OPENERS = {
    "app/folder.py": "templates of the package",
    "files.py": "what it has just written",
    "machine.py": "/proc",
    "data/download.py": "its own half-finished downloads",
    "weights/class_names.py": "files of the package",
    "runtimes/converter.py": "files of the package",
    "runtimes/separate.py": "what another process of ours wrote",
    "runtimes/litert/convert.py": "what a converter of ours wrote",
    "runtimes/executorch/convert.py": "what a converter of ours wrote",
}
ALONE = ("_script.py", "runner.py", "outside.py")  # run where handlens is not imported


def test_files_of_others_are_opened_by_one_door():
    found: dict[str, list[int]] = {}
    for path in SOURCES.rglob("*.py"):
        name = path.relative_to(SOURCES).as_posix()
        if name.startswith("reading/") or name.endswith(ALONE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            method = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
            reads = method in ("read_text", "read_bytes") and owner
            opens = method == "open" and owner not in ("", "os", "Image", "runtime", "self", "tarfile")
            parses = owner in ("ET", "yaml", "json", "np") and method in ("parse", "iterparse", "safe_load", "load")
            if reads or (opens and _for_reading(node)) or parses:
                found.setdefault(name, []).append(node.lineno)
    assert "runtimes/converter.py" in found  # else this test sees nothing
    assert set(found) == set(OPENERS), {name: found.get(name) for name in set(found) ^ set(OPENERS)}


def _for_reading(call: ast.Call) -> bool:
    texts = [part.value for part in [*call.args, *(k.value for k in call.keywords)] if isinstance(part, ast.Constant)]
    return not any(text in ("w", "wb", "a", "ab", "xb") for text in texts)
