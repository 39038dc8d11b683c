"""Trainings that are killed, interrupted, out of disk or started twice: nothing is lost, and resumed is unbroken."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from command import handlens_process as handlens
from handlens.reading.files import sha256_of
from handlens.training.run import locked

pytestmark = pytest.mark.slow  # real commands, killed and resumed

RECIPE = """
mode: finetune
image_size: 64
epochs: 8
batch_size: 6
validation: 0.3
dropout: 0.3
ema: 0.9
workers: 2
checkpoint_seconds: 1.0
augment: {mixup: 0.2}
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def unbroken(data: Path, weights: str, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    handlens("train", data, "--recipe", recipe, "--out", folder, XDG_CACHE_HOME=weights)
    return folder


def assert_equal_bit_for_bit(one: Path, other: Path) -> None:
    """The best weights, and the last ones with their average: the best epoch may be the first."""
    assert sha256_of(one / "model.safetensors") == sha256_of(other / "model.safetensors")
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (one, other)]
    for kind in ("state_dict", "averaged"):
        for name, value in states[0][kind].items():
            assert torch.equal(value, states[1][kind][name]), name


def test_killed_or_interrupted_and_resumed_is_bit_for_bit_unbroken(
    data: Path, weights: str, recipe: Path, unbroken: Path, tmp_path: Path
):
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "handlens", "train"]
    started: tuple[object, ...] = (data, "--recipe", recipe, "--out", broken)
    for sent, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130), (signal.SIGINT, 130)):
        last = broken / "checkpoints/last.ckpt"
        seen = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(
            [*command, *map(str, started)],
            env=os.environ | {"XDG_CACHE_HOME": weights},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while not (last.exists() and last.stat().st_mtime_ns > seen) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, sent)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == expected, errors.decode()
        assert b"Traceback" not in errors
        started = ("--resume", broken)
    handlens("train", "--resume", broken, XDG_CACHE_HOME=weights)
    assert_equal_bit_for_bit(broken, unbroken)
    rows = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (unbroken, broken)]
    for one, other in zip(*rows, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    seconds = [float(row["seconds"]) for row in rows[1][1:]]
    assert seconds == sorted(seconds)  # of training so far, over every interruption
    again = handlens("train", "--resume", broken, check=False)
    assert again.returncode == 2
    assert "finished" in again.stderr

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(broken / "tensorboard"))
    events.Reload()
    assert {"train/loss", "epoch/validation_top1"} <= set(events.Tags()["scalars"])
    logged = [round(event.value, 5) for event in events.Scalars("epoch/validation_top1")]
    assert logged == [round(float(row["validation_top1"]), 5) for row in rows[1][1:]]
    events = EventAccumulator(str(unbroken / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == int(rows[0][-1]["step"])


DIE = """
import os, signal, sys
import handlens.files
from handlens.cli import run
from handlens.tasks.classify.training import ClassifierTraining
from handlens.training.writer import RunWriter

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "validation":
    ClassifierTraining.on_validation_epoch_end = die
else:
    def save_and_die(writer, trainer):
        handlens.files.os.fsync = die  # the new bytes are written, and not yet under their name
        save(writer, trainer)
    save, RunWriter.save = RunWriter.save, save_and_die
sys.exit(run(sys.argv[2:]))
"""


def test_killed_during_validation_and_then_during_a_save_and_resumed_is_unbroken(
    data: Path, weights: str, recipe: Path, unbroken: Path, tmp_path: Path
):
    broken = tmp_path / "broken"
    for moment, arguments in {
        "validation": (data, "--recipe", recipe, "--out", broken),
        "save": ("--resume", broken),
    }.items():
        died = subprocess.run(
            [sys.executable, "-c", DIE, moment, "train", *map(str, arguments)],
            check=False,
            env=os.environ | {"XDG_CACHE_HOME": weights},
            capture_output=True,
            text=True,
        )
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not (broken / "model.json").exists()
    handlens("train", "--resume", broken, XDG_CACHE_HOME=weights)
    assert_equal_bit_for_bit(broken, unbroken)


TOLD_TO_END = """
import os, signal, sys
from handlens.cli import run
from handlens.tasks.classify.training import ClassifierTraining

def told_to_end(training, batch, batch_idx):
    if batch_idx == 0:
        for name in sys.argv[1].split(","):
            signal.raise_signal(getattr(signal, name))  # on this thread, so that two do not become one
    validate(training, batch, batch_idx)

validate, ClassifierTraining.validation_step = ClassifierTraining.validation_step, told_to_end
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("signals", "epochs"), [("SIGTERM", ["0", "1"]), ("SIGHUP", ["0", "1"]), ("SIGINT,SIGINT", ["0"])]
)
def test_told_to_end_while_it_validates_it_saves_and_told_again_it_ends_at_once(
    signals: str, epochs: list[str], data: Path, weights: str, recipe: Path, unbroken: Path, tmp_path: Path
):
    broken = tmp_path / "broken"
    told = subprocess.run(
        [sys.executable, "-c", TOLD_TO_END, signals, "train", data, "--recipe", recipe, "--out", broken],
        check=False,
        env=os.environ | {"XDG_CACHE_HOME": weights},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 130, told.stderr
    at_once = "," in signals  # told twice
    assert ("since the last checkpoint is lost" if at_once else "Stopped, and everything is saved.") in told.stderr
    assert [row["epoch"] for row in csv.DictReader((broken / "metrics.csv").read_text().splitlines())] == epochs
    handlens("train", "--resume", broken, XDG_CACHE_HOME=weights)
    assert_equal_bit_for_bit(broken, unbroken)


def test_a_full_disk_while_saving_leaves_the_last_good_state(
    data: Path, weights: str, recipe: Path, unbroken: Path, tmp_path: Path
):
    """A real limit on the size of files, which a checkpoint exceeds and the start's weights do not."""
    run = tmp_path / "run"
    limited = (
        "import resource, sys; from handlens.cli import run;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000)); sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "train", data, "--recipe", recipe, "--out", run],
        check=False,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": weights},
        capture_output=True,
    )
    assert done.returncode == 2, done.stderr
    assert "disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (run / "checkpoints").iterdir()} <= {"start.safetensors", "best.safetensors"}
    handlens("train", "--resume", run, XDG_CACHE_HOME=weights)
    assert_equal_bit_for_bit(run, unbroken)


def test_two_writers_on_one_run(data: Path, weights: str, recipe: Path, tmp_path: Path):
    run = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-m", "handlens", "train", data, "--recipe", recipe, "--epochs", "500", "--out", run],
        env=os.environ | {"XDG_CACHE_HOME": weights},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (run / "checkpoints/last.ckpt").exists() and first.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = handlens("train", "--resume", run, check=False, XDG_CACHE_HOME=weights)
        assert second.returncode == 2
        assert "another" in second.stderr
        assert first.poll() is None
        first.kill()  # and not its loaders, which look for it every few seconds
        first.wait()
        with locked(run):
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):  # its loaders may have gone
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()
