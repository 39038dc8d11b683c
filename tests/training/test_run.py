"""A run folder is whole, or it says what is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handlens.errors import InputError
from handlens.files import write_json
from handlens.flow.runs import find_run
from handlens.preprocess import Preprocess
from handlens.reading.parsed import read_json
from handlens.training.model_info import Architecture, ModelInfo
from handlens.training.run import append_metrics, digests, locked, open_run, read_metrics, write_model_json


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "engine").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "engine/model.xml").write_bytes(b"engine")
    info = ModelInfo(
        task="classify",
        architecture=Architecture("mobilenet_v2", {"num_classes": 2}),
        class_names=("빵", "b"),
        preprocess=Preprocess(),
        files=digests(folder, ("model.safetensors", "engine/model.xml")),
    )
    write_model_json(folder, info)
    return folder


def test_a_whole_run_opens_also_after_it_was_moved(run: Path):
    moved = run.rename(run.parent / "다른 곳")
    opened = open_run(moved)
    assert opened.class_names == ("빵", "b")
    assert opened.preprocess == Preprocess()


def test_a_flipped_byte_is_found(run: Path):
    content = bytearray((run / "model.safetensors").read_bytes())
    content[3] ^= 1
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors has changed"):
        open_run(run)


def test_a_missing_file_is_named(run: Path):
    (run / "engine/model.xml").unlink()
    with pytest.raises(InputError, match=r"engine/model\.xml is missing"):
        open_run(run)


def test_another_version_is_refused(run: Path):
    write_json(run / "model.json", read_json(run / "model.json") | {"format": 99})
    with pytest.raises(InputError, match="format 99"):
        open_run(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="not a run folder"):
        open_run(tmp_path)
    for name in ("recipe.yaml", "data.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="--resume"):
        open_run(tmp_path)


def test_two_writers_on_one_run(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from handlens.training.run import locked;"
        f"locked(Path({str(tmp_path)!r})).__enter__()"
    )
    with locked(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "written by another process" in second.stderr
    third = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr


def test_metrics_are_continued_and_a_repeated_epoch_replaced(tmp_path: Path):
    append_metrics(tmp_path, {"epoch": 0, "validation_top1": 0.5})
    append_metrics(tmp_path, {"epoch": 1, "validation_top1": 0.6, "train_loss": 1.5})
    append_metrics(tmp_path, {"epoch": 1, "validation_top1": 0.7, "train_loss": 1.4})
    rows = read_metrics(tmp_path)
    assert [(row["epoch"], row["validation_top1"], row["train_loss"]) for row in rows] == [
        ("0", "0.5", ""),
        ("1", "0.7", "1.4"),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "available: resnet50:imagenet1k_v1, resnet50:imagenet1k_v2"),
        ("mobilnet_v2", "the closest match is 'mobilenet_v2'"),
        ("runs/breads", "available: mobilenet_v2, efficientnet_lite0"),
    ],
)
def test_what_is_neither_a_run_nor_a_net_is_answered_with_the_nearest(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{name} is neither a run folder nor a pretrained model; {message}"):
        find_run(name)


def test_a_fork_does_not_hold_the_lock(tmp_path):
    """As a loader process does that outlives a training that was killed."""
    holder = (
        "import os, sys, time; from pathlib import Path; from handlens.training.run import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:\n"
        "        print('forked', flush=True); time.sleep(60)\n"
        "    os.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout.readline() == b"forked\n"
        with pytest.raises(InputError, match="another process"), locked(tmp_path):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
