"""Atomic writes on a real, small file system, and in a process that dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handlens.errors import InputError
from handlens.files import atomic_path, write_bytes, write_json
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json


def test_a_failing_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path):
    path = tmp_path / "a.json"
    write_json(path, {"state": "old"})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert read_json(path) == {"state": "old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path):
    """A real limit: RLIMIT_FSIZE makes the kernel refuse the bytes, as a full disk does."""
    path = tmp_path / "weights.bin"
    write_bytes(path, b"old" * 1000)
    before = sha256_of(path)
    code = (
        "import resource, signal, sys; from pathlib import Path; from handlens.files import write_bytes;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        f"write_bytes(Path({str(path)!r}), b'new' * 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "OSError" in done.stderr
    assert sha256_of(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.bin"]


def test_a_new_file_follows_the_umask(tmp_path: Path):
    old = os.umask(0o022)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_broken_json_is_one_sentence(tmp_path: Path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="missing"):
        read_json(tmp_path / "b.json")
