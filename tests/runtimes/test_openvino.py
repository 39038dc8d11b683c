"""What OpenVINO does to the process that it runs in."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from handlens.runtimes.openvino.convert import save_openvino
from handlens.runtimes.openvino.engine import import_openvino

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


def test_half_a_model_does_not_stay_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def half(model: object, path: Path, **_: object) -> None:
        for file in (Path(path), Path(path).with_suffix(".bin")):
            file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(import_openvino(), "save_model", half)
    with pytest.raises(OSError, match="No space left"):
        save_openvino(None, tmp_path / "model.xml", metadata={})
    assert not list(tmp_path.iterdir())
