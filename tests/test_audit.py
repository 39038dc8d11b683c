"""Pinned packages and bounds against versions that are known to be bad."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_bad_is_pinned_or_let_in(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == 0, capsys.readouterr().err
    assert "pillow" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bound", "bad", "found"),
    [
        (">=3.1", "<3.1.6", "3.1.5.99"),
        (">=3.1.6", "<3.1.6", None),
        (">=2.5", "==2.6.2", "2.6.2"),
        (">=2.5,!=2.6.2", "==2.6.2", None),
    ],
)
def test_bounds(audit: ModuleType, bound: str, bad: str, found: str | None) -> None:
    assert audit.lets_in(SpecifierSet(bound), SpecifierSet(bad)) == found


def test_a_bad_pin_is_refused(
    audit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scripts").mkdir()
    for file in ("pyproject.toml", "scripts/known-bad.csv"):
        (tmp_path / file).write_text((ROOT / file).read_text())
    (tmp_path / "constraints.txt").write_text("lightning==2.6.2\n")
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    assert audit.main() == 1
    assert "lightning 2.6.2 is pinned: malicious releases" in capsys.readouterr().err
