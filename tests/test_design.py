"""The design itself, held by tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
    ["handlens", "handlens.cli", "handlens.flow.predict", "handlens.prediction.predictor", "handlens.formulas"],
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
