"""What OpenVINO does to the process that it runs in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GONE = """
import gc, signal, sys
from pathlib import Path
from handlens.runtimes.openvino.engine import OpenVINOEngine
from handlens.runtimes.openvino.runner import Model
said = []
signal.signal(signal.SIGTERM, lambda *_: said.append("handled"))
makes = {"engine": lambda: OpenVINOEngine(Path(sys.argv[1])), "runner": lambda: Model(sys.argv[1])}
opened = [makes[kind]() for kind in sys.argv[2:]]
while opened:
    opened.pop(0)
    gc.collect()
signal.raise_signal(signal.SIGTERM)
print(*said)
"""


@pytest.mark.parametrize("kinds", [("engine", "engine"), ("runner", "runner"), ("engine", "runner", "engine")])
def test_signals_are_handled_after_engines_have_gone_in_the_order_in_which_they_came(
    kinds: tuple[str, ...], exported_run: Path
) -> None:
    """Each plugin of OpenVINO gives signals a stack of its own; the last one took away that of an earlier one."""
    model = exported_run / "engine" / "model.xml"
    done = subprocess.run([sys.executable, "-c", GONE, model, *kinds], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
