"""An exported model in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from handlens.errors import InputError
from handlens.runtimes import RUNTIMES, separate


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys; print('where\\nNode Reshape failed', file=sys.stderr); sys.exit(1)", "Node Reshape failed$"),
        ("import sys; sys.exit(3)", "onnx could not run model.onnx: exit code 3$"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9 while it ran model.onnx"),
    ],
)
def test_a_file_that_its_own_runtime_cannot_run_is_a_sentence(
    text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / "outside.py"
    script.write_text(text, encoding="utf-8")
    monkeypatch.setattr(separate, "OUTSIDE", script)
    with pytest.raises(InputError, match=sentence):
        separate.run_outside(tmp_path / "model.onnx", RUNTIMES["onnx"], precision="fp32", pixels=tmp_path)
