"""A process of its own finds packages wherever they are installed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from handlens.runtimes.alone import OPTIONS, environment


def test_what_is_installed_is_found_and_what_only_lies_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder, module in (("installed", "probe_a"), ("sources", "probe_b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{module}.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / folder)
    (tmp_path / "installed" / "probe_a-1.dist-info").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "sources"))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    code = "import probe_a, numpy, sys, importlib.util as i; print(i.find_spec('probe_b'), sys.stdout.write_through)"
    variables = environment() | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, *OPTIONS, "-c", code], env=variables, capture_output=True, text=True)
    assert done.stdout.split() == ["None", "False"], done.stderr
