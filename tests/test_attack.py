"""Hundreds of attacks on what lies in a folder: each ends soon, in one sentence, without harm.

The quick tests run every fourth case that takes little time, `scripts/test --all` all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attack.case import CHECK, Case, Outcome, Runner
from attack.groups import GROUPS
from attack.make import flat

SHORT = 20  # seconds that a quick case may take at most


def _parameters() -> Iterator[object]:
    for group, cases in GROUPS.items():
        for place, case in enumerate(cases):
            quick = place % 4 == 0 and case.seconds <= SHORT and not case.own_process
            yield pytest.param(case, id=f"{group}: {case.name}", marks=() if quick else pytest.mark.slow)


@pytest.fixture(scope="session")
def runner(exported_run: Path) -> Iterator[Runner]:
    made = Runner(exported_run)
    yield made
    made.close()


@pytest.mark.parametrize("case", list(_parameters()))
def test_an_attack_is_held(case: Case, runner: Runner, tmp_path: Path) -> None:
    outcome = runner(case, tmp_path)
    assert not outcome.faults(), f"{outcome.faults()}\n{outcome.stdout[-1500:]}\n{outcome.stderr[-1500:]}"


def test_there_are_as_many_cases_as_promised() -> None:
    assert sum(map(len, GROUPS.values())) >= 950
    for group, cases in GROUPS.items():
        assert max(Counter(case.name for case in cases).values()) == 1, group


def test_the_runner_notices_what_must_not_happen(tmp_path: Path) -> None:
    good = Outcome(
        Case("good", flat, CHECK, exit=(0,), says=("2 images",)), 0, 1.0, 50.0, "2 images\n", "", (), tmp_path
    )
    assert good.faults() == []

    def wrong(outcome: Outcome) -> None:
        assert outcome.exit == 5, "five"

    bad = {
        "did not end": replace(good, exit=None),
        "ended by signal 11": replace(good, exit=-11),
        "exit 70": replace(good, exit=70),
        "traceback": replace(good, stderr="Traceback (most recent call last):\n"),
        "took 9999 MB": replace(good, megabytes=9999),
        "printed '\\x1b'": replace(good, stdout="2 images\x1b[31m"),
        "changed a.png": replace(good, changed=("a.png",)),
        "does not say": replace(good, stdout=""),
        "AssertionError: five": replace(good, case=replace(good.case, verify=wrong)),
    }
    for fault, outcome in bad.items():
        assert any(fault in found for found in outcome.faults()), fault


def test_the_runner_ends_what_hangs_and_counts_memory(runner: Runner, tmp_path: Path) -> None:
    """The process that forks has everything imported, and lives on after a case was killed."""
    hanging = Case("hanging", flat, CHECK, exit=(0, 1), seconds=0.02)
    ended = Case("ended", flat, CHECK, exit=(0, 1))
    for case, folder in ((hanging, tmp_path / "a"), (ended, tmp_path / "b")):
        folder.mkdir()
        outcome = runner(case, folder)
        assert (outcome.exit is None) == (case is hanging)
    assert 0 < outcome.megabytes < 700
