"""Contenders in turn: what is measured, and what becomes of those that cannot run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from handlens.errors import InputError
from handlens.machine import cores, describe
from handlens.timing.contender import Contender, Started
from handlens.timing.race import race

RUNNER = """
import time, os, numpy as np
from pathlib import Path
time.sleep({load})
class Model:
    def __init__(self, path, *, precision="fp32", threads=None):
        {begin}
        self.runtime, self.precision, self.runs = f"Fake with {{threads}}", {precision}, 0
        self.log = Path(path)
    def run(self, images):
        assert images.shape[1:] == (6, 5, 3) and images.dtype == np.uint8 and images.std() > 0
        self.runs += 1
        {run}
        with self.log.open("a") as log:
            log.write(f"{{os.getpid()}} {{len(images)}}\\n")
        print("a runtime that talks")
        return {{"sum": images.sum(axis=(1, 2, 3))}}
"""
SLEEP = "time.sleep({seconds} * len(images))"


@pytest.fixture
def make(tmp_path: Path):
    def made(name: str, *, load: float = 0.0, begin="pass", run="pass", precision="'f32'", **more) -> Contender:
        runner = tmp_path / f"{name}.py"
        runner.write_text(RUNNER.format(load=load, begin=begin, run=run, precision=precision), encoding="utf-8")
        return Contender(name, runner, tmp_path / f"{name}.log", (6, 5, 3), **more)

    return made


@pytest.mark.slow
def test_each_number_is_what_it_says(make):
    quick, slow = make("quick", run=SLEEP.format(seconds=0.004)), make("slow", load=0.6, run=SLEEP.format(seconds=0.02))
    busy = make("busy", run="begin = time.process_time()\n        while time.process_time() < begin + 0.01: pass")
    rows, failed = race([slow, quick, busy], threads=[3], batches=[4, 1], rounds=3, reference="slow")
    assert failed == []
    found = {(row.name, row.batch): row for row in rows}
    assert set(found) == {(name, batch) for name in ("quick", "slow", "busy") for batch in (1, 4)}
    assert 4 <= found["quick", 1].median_ms < 20 <= found["slow", 1].median_ms < 80
    assert 80 <= found["slow", 4].median_ms < 240
    assert found["slow", 4].images_per_second == pytest.approx(4000 / found["slow", 4].median_ms)
    for row in rows:
        assert row.runtime == "Fake with 3" and row.threads == 3
        assert row.p90_ms >= row.median_ms > 0 and row.runs >= 3
        assert row.peak_mb is None or 5 < row.peak_mb < 500
    assert found["busy", 1].processor_ms >= 10 and found["busy", 4].processor_ms >= 2.5  # of an image
    assert found["slow", 1].processor_ms < 5  # sleeping is none
    assert found["slow", 1].first_s - found["quick", 1].first_s > 0.3
    assert found["slow", 1].faster == pytest.approx(1.0)
    assert 1.5 < found["quick", 1].faster <= 8


def test_they_take_turns(make, tmp_path: Path):
    """In every round each runs, and none runs while another one does."""
    log = f"open({str(tmp_path / 'all.log')!r}, 'a').write(f'{{os.getpid()}} {{time.monotonic()}}\\n')"
    contenders = [make(name, run=f"{log}; time.sleep(0.02)") for name in ("one", "two", "three")]
    race(contenders, threads=[1], batches=[1], rounds=4)
    times = [line.split() for line in (tmp_path / "all.log").read_text().splitlines()]
    order = [pid for pid, _ in sorted(times, key=lambda entry: float(entry[1]))]
    turns = [pid for place, pid in enumerate(order) if place == 0 or pid != order[place - 1]]
    lasting = {pid for pid in turns if order.count(pid) > 2}  # the others were started for their first answer alone
    assert len(lasting) == 3
    # 5 rounds of 3; where one ends a round and begins the next, two turns look like one.
    assert 5 * 3 - 4 <= len([pid for pid in turns if pid in lasting]) <= 5 * 3 + 3


def test_one_that_cannot_run_is_left_out_with_a_sentence_and_the_others_go_on(make):
    fine = make("fine")
    unreadable = make("unreadable", begin="raise ValueError('it is torn')")
    dying = make("dying", run="os._exit(7) if self.runs > 4 else None")
    killed = make("killed", run="os.kill(os.getpid(), 9)")
    wrong = make("wrong", run="raise KeyError('no such thing')")
    rows, failed = race([unreadable, dying, killed, wrong, fine], threads=[1, 2], batches=[1], rounds=3)
    assert {row.name for row in rows} == {"fine"} and [row.threads for row in rows] == [1, 2]
    reasons = {entry.name: entry.reason for entry in failed}
    assert set(reasons) == {"unreadable", "dying", "killed", "wrong"} and len(failed) == 4
    assert "unreadable.log cannot be read: it is torn" in reasons["unreadable"]
    assert reasons["dying"] == "dying could not run: it ended with exit code 7"
    assert "killed was killed by signal 9" in reasons["killed"]
    assert reasons["wrong"] == "wrong could not run: KeyError: 'no such thing'"
    with pytest.raises(InputError, match="it is torn"):
        race([unreadable], threads=[1], batches=[1], rounds=1)


def test_what_computes_as_another_does_is_not_timed_twice(make):
    plain = make("plain")
    default = Contender("plain", plain.runner, plain.model, plain.shape, "auto", informs=True)
    rows, _ = race([plain, default], threads=[1], batches=[1], rounds=1)
    assert len(rows) == 1
    lower = make("lower", precision="'bf16' if precision == 'auto' else 'f32'")
    default = Contender("lower", lower.runner, lower.model, lower.shape, "auto", informs=True)
    rows, _ = race([lower, default], threads=[1], batches=[1], rounds=1)
    assert {row.precision for row in rows} == {"f32", "bf16"}


def test_no_process_is_left_when_it_is_interrupted(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    contender = make("one", run="Path('{}').write_text(str(os.getpid()))".format(tmp_path / "pid"))
    monkeypatch.setattr("handlens.timing.race.time", type("Clock", (), {"sleep": staticmethod(interrupted)}))
    with pytest.raises(KeyboardInterrupt):
        race([contender], threads=[1], batches=[1], rounds=1)
    number = int((tmp_path / "pid").read_text())
    for _ in range(50):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {number} is still there")


def test_no_process_is_left_when_starting_is_interrupted(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = make("one", run="Path('{}').write_text(str(os.getpid()))".format(tmp_path / "pid"))
    begun = Started.__init__

    def first_only(self: Started, contender: Contender, **options: object) -> None:
        if contender.name == "two":
            raise KeyboardInterrupt
        begun(self, contender, **options)

    monkeypatch.setattr(Started, "__init__", first_only)
    with pytest.raises(KeyboardInterrupt) as raised:
        race([one, make("two")], threads=[1], batches=[1], rounds=1)
    assert raised.tb is not None  # alive, as in a notebook: what its frames hold is not collected
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_machine_is_described():
    found = describe()
    assert found["cores"] == cores() >= 1
    assert found["processor"] and found["system"] and found["python"]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert all(f" {name}" in flags for name in found["instructions"])
