"""The page that a training leaves, until an evaluation takes its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import handlens
from handlens.errors import InputError
from handlens.flow.report_parts import train_command
from handlens.reading.parsed import read_json
from handlens.reporter import QUIET, Reporter
from handlens.training.run import Run, open_run

RECIPE = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 2, "workers": 0}


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handlens.train(data, out=tmp_path_factory.mktemp("page") / "run", recipe=RECIPE, golden=False)


def test_it_says_what_was_trained_on_what(run, data):
    page = (run / "report.html").read_text(encoding="utf-8")
    validation = read_json(run / "model.json")["validation"]
    for words in (
        f"{100 * validation['top1']:.1f} % <small>accuracy on validation",
        "The 15 test images have not been looked at.",
        f"mobilenet_v2, trained on {data.name}",
        "It began with random weights",
        "data:image/png;base64,",  # the curves
        "handlens train",
        'href="#data"',
    ):
        assert words in page, words
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_an_evaluation_takes_its_place(run):
    handlens.evaluate(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "have not been looked at" not in page and "Confusions" in page


@pytest.mark.parametrize(("layout", "said"), [("folders", False), ("csv", True)])
def test_a_layout_that_may_not_be_found_is_named(run, layout, said, monkeypatch):
    monkeypatch.setattr(Run, "started", lambda _: {"format": layout})
    [command] = train_command(open_run(run))
    assert ("--format csv" in command) is said


def test_a_poorer_page_says_what_it_no_longer_shows(run):
    said: list[str] = []
    handlens.report(run)
    handlens.evaluate(run, report=Reporter(said.append, QUIET.progress))
    assert "The page no longer shows heat maps and costs (handlens report)." in said
    said.clear()
    handlens.evaluate(run, report=Reporter(said.append, QUIET.progress))
    assert not any("no longer" in one for one in said)


def test_other_images_are_measured_without_what_the_run_was_started_with(run, data, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "data.json").unlink()
    assert Path(handlens.evaluate(copy, data / "test")["report"]).is_file()


def test_a_run_is_no_data_set(run):
    with pytest.raises(InputError, match="is a run, not a data set"):
        handlens.train(run)
