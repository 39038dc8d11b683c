"""Is one model better than another: the same images for all, nothing that a model has learned from goes unsaid."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handlens
from blobs import CLASSES, write_images
from command import handlens as command
from handlens.errors import InputError
from handlens.flow.same_images import runs_and_data
from handlens.reading.parsed import read_json
from handlens.tasks import TASKS

TINY = {"mode": "scratch", "width": 0.35, "epochs": 1, "workers": 0}
TEST = 5 * len(CLASSES)  # images of the fixture `data`


@pytest.fixture(scope="module")
def second(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run on the same data. Tests copy what they change."""
    return handlens.train(
        data, out=tmp_path_factory.mktemp("second") / "second", recipe=TINY | {"image_size": 32}, golden=False
    )


@pytest.fixture
def first(exported_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_run, tmp_path / "first"))


@pytest.fixture
def other(second: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(second, tmp_path / "other"))


def compared(*runs: Path, data: Path | None = None, **options: Any) -> dict[str, Any]:
    return handlens.compare(list(runs), data, latency=False, **options)


def test_what_is_said_is_what_evaluate_and_predict_say(first: Path, other: Path, data: Path):
    found = compared(first, other)
    (pair,) = found["comparisons"]
    assert [run["name"] for run in found["runs"]] == ["first", "other"]
    assert [run["value"] for run in found["runs"]] == [
        handlens.evaluate(run)["metrics"]["top1"] for run in (first, other)
    ]
    assert (found["images"], found["split"], found["notes"]) == (TEST, "test", [])
    labels = {path.relative_to(data).as_posix(): path.parent.name for path in (data / "test").glob("*/*")}
    ours, theirs = (
        {file: predictor(data / file).label == label for file, label in labels.items()}
        for predictor in map(handlens.load, (first, other))
    )
    assert {row["file"] for row in pair["first_better"]} == {file for file in labels if ours[file] > theirs[file]}
    assert {row["file"] for row in pair["second_better"]} == {file for file in labels if theirs[file] > ours[file]}
    test = pair["test"]
    assert (test["only_first"], test["only_second"]) == (len(pair["first_better"]), len(pair["second_better"]))
    assert len(pair["first_better"]) + len(pair["second_better"]) > 0  # else nothing was compared
    for row in pair["first_better"] + pair["second_better"]:
        assert row["truth"] == labels[row["file"]]
    assert pair["difference"] == pytest.approx((test["only_second"] - test["only_first"]) / TEST)
    per_class = {row["class"]: row["second"] for row in pair["per_class"]}
    assert per_class == {
        name: pytest.approx(np.mean([theirs[file] for file in labels if labels[file] == name])) for name in CLASSES
    }
    assert pair["verdict"].startswith(f"No significant difference with {TEST} images; at least 20 are needed")
    parameters, multiply_adds = (handlens.summary(other)[key] for key in ("parameters", "multiply_adds"))
    assert (found["runs"][1]["parameters"], found["runs"][1]["multiply_adds"]) == (parameters, multiply_adds)
    size = sum(path.stat().st_size for path in (other / "engine").glob("model.*"))
    assert found["runs"][1]["file_mb"] == pytest.approx(size / 1e6)


@pytest.mark.slow
def test_the_same_again_and_where_it_is_written(first: Path, other: Path, tmp_path: Path):
    found = compared(first, other)
    folder = first / "comparisons" / "other"
    assert Path(found["page"]) == folder / "comparison.html"
    stored = read_json(folder / "comparison.json")
    assert stored["comparisons"] == json.loads(json.dumps(found["comparisons"]))
    again = compared(first, other)
    assert again["comparisons"] == found["comparisons"]
    assert [path.name for path in folder.parent.iterdir()] == ["other"]
    elsewhere = Path(shutil.copytree(other, tmp_path / "more" / "other"))
    assert Path(compared(first, elsewhere)["page"]).parent.name == "other-2"
    before = sorted(first.rglob("*"))
    page = tmp_path / "page.html"
    assert compared(first, other, page=page)["page"] == str(page)
    assert sorted(first.rglob("*")) == before
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and found["comparisons"][0]["verdict"] in html.unescape(text)
    assert text.count("data:image/jpeg") == sum(
        bool(found["comparisons"][0][side]) for side in ("first_better", "second_better")
    )
    for row in found["comparisons"][0]["first_better"]:
        assert row["file"] in text


@pytest.mark.slow
def test_a_run_against_its_own_exports(first: Path):
    """A file in a run's exports was trained on what the run was trained on."""
    exports = sorted((first / "exports").glob("*.xml"))
    assert len(exports) == 2
    found = compared(first, *exports)
    assert found["notes"] == [
        "Runs are computed and timed in float32, as their exports were compared with them.",
        "Each interval is of one comparison: among 2, one that excludes 0 by chance is likelier.",
    ]
    assert sorted(run["precision"] for run in found["runs"]) == ["f32", "f32", "int8"]
    assert [run["seen"] for run in found["runs"]] == [0, 0, 0]
    assert len({run["parameters"] for run in found["runs"]}) == 1
    whole = next(pair for pair in found["comparisons"] if "int8" not in pair["second"])
    assert (whole["interval"], whole["better"], whole["test"]["p"]) == ((0.0, 0.0), None, 1.0)
    assert whole["first_better"] == whole["second_better"] == []
    backwards = compared(exports[0], first)
    assert Path(backwards["page"]).parent.parent == Path(f"{exports[0]}.comparisons")


@pytest.mark.slow
def test_a_file_of_unknown_training_needs_data_and_says_so(first: Path, data: Path, tmp_path: Path):
    folder = tmp_path / "moved"
    folder.mkdir()
    for part in (first / "exports").glob("*"):
        if part.suffix in (".xml", ".bin") and "int8" not in part.name:
            shutil.copy(part, folder / part.name)
    (moved,) = folder.glob("*.xml")
    with pytest.raises(InputError, match=r"it is not known what .* was trained on; give labeled images"):
        compared(first, moved)
    found = compared(first, moved, data=data / "test")
    assert found["notes"] == [
        f"Whether {moved.name} was trained on some of these images is not known.",
        "Runs are computed and timed in float32, as their exports were compared with them.",
    ]
    assert (found["runs"][1]["seen"], found["runs"][1]["parameters"]) == (None, None)


@pytest.mark.slow
def test_images_that_one_run_has_learned_from_are_counted_copies_too(first: Path, data: Path, tmp_path: Path):
    theirs = tmp_path / "theirs"
    write_images(theirs / "train", per_class=4, seed=9)
    copies = sorted((data / "test").glob("*/*"))[::5]
    for number, path in enumerate(copies):
        shutil.copy(path, theirs / "train" / path.parent.name / f"copy{number}{path.suffix}")
    learned = handlens.train(theirs, out=tmp_path / "learned", recipe=TINY | {"image_size": 32}, golden=False)
    with pytest.raises(InputError, match=r"learned was trained on .*theirs and first on .*; give labeled images"):
        compared(first, learned)
    found = compared(first, learned, data=data)
    used = sum((theirs / id).name.startswith("copy") for id in _split(learned, "train", "validation"))
    assert used
    assert [run["seen"] for run in found["runs"]] == [0, used]
    assert found["notes"][0].startswith(f"{used} of these {TEST} images were used in training learned")
    verdict = found["comparisons"][0]["verdict"]
    assert verdict.endswith(f"But it is no fair comparison: of the images, {used} to train learned were used.")


def _split(run: Path, *names: str) -> list[str]:
    splits = read_json(run / "data.json")["splits"]
    return [id for name in names for id in splits.get(name, [])]


@pytest.mark.slow
def test_images_that_cannot_be_read_are_left_out_for_all(first: Path, other: Path, tmp_path: Path):
    write_images(tmp_path / "more", per_class=2, seed=4)
    broken = next((tmp_path / "more").glob("*/*.jpg"))
    broken.write_bytes(broken.read_bytes()[:300])
    found = compared(first, other, data=tmp_path / "more")
    assert found["images"] == 2 * len(CLASSES) - 1
    assert [entry["file"] for entry in found["unreadable"]] == [broken.relative_to(tmp_path / "more").as_posix()]
    for path in (tmp_path / "more").glob("*/*.jpg"):
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of the 6 images in .* can be read; see handlens check"):
        compared(first, other, data=tmp_path / "more")


def test_what_is_data_on_the_command_line(first: Path, data: Path, tmp_path: Path):
    run, images, file = str(first), str(data), str(next((first / "exports").glob("*.xml")))
    assert runs_and_data([run, run]) == ([run, run], None)
    assert runs_and_data([run, file]) == ([run, file], None)
    assert runs_and_data([run, "mobilenet_v2"]) == ([run, "mobilenet_v2"], None)
    assert runs_and_data([run, run, images]) == ([run, run], data)
    assert runs_and_data([images]) == ([images], None)
    started = tmp_path / "started"
    started.mkdir()
    for name in ("recipe.yaml", "data.json"):
        shutil.copy(first / name, started / name)
    assert runs_and_data([run, str(started)]) == ([run, str(started)], None)  # a run that is not finished


def test_on_the_command_line(first: Path, other: Path, data: Path):
    hostile = first.rename(first.with_name("<b>[red]\x1b[31m"))
    said = command("compare", hostile, other, data / "test", "--no-latency", "-q")
    assert said.stderr == ""
    assert "No significant difference with 15 images" in said.stdout
    assert "McNemar's exact test: p = " in said.stdout
    assert r"<b>[red]\x1b[31m" in said.stdout and "\x1b" not in said.stdout
    page = (hostile / "comparisons" / "other" / "comparison.html").read_text(encoding="utf-8")
    assert r"&lt;b&gt;[red]\x1b[31m" in page and "<b>[red]" not in page
    printed = json.loads(command("compare", hostile, other, "--data", data / "test", "--json", "--no-latency").stdout)
    assert printed["runs"][0]["latency_ms"] is None and printed["comparisons"][0]["second"] == "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{first}"], "compare needs at least two runs, got 1"),
        (["{first}", "{data}"], "compare needs at least two runs, got 1"),
        (["{first}", "{first}"], "first is given twice."),
        (["{first}", "nowhere"], "nowhere is neither a run folder nor a pretrained model"),
        (["{first}", "{other}", "--page", "a.pdf"], "--page must be a .html file, got a.pdf."),
        (["{first}", "{other}", "{data}", "--data", "{data}"], "--data gives the images: omit one of them."),
        (["{first}", "{other}", "--data", "{first}/golden"], "no labeled images"),
        (["{first}", "{other}", "--precision", "fp8"], "--precision must be auto or fp32, got 'fp8'."),
    ],
)
def test_what_cannot_be_compared(arguments, message, first: Path, other: Path, data: Path):
    words = [word.format(first=first, other=other, data=data) for word in arguments]
    done = command("compare", *words, "--no-latency", "-q", check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_of_other_classes_or_tasks_are_refused(first: Path, other: Path):
    value = read_json(other / "model.json")
    value["class_names"][0] = "d"
    (other / "model.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="other predicts other classes than first: b a only by first; d only by other"):
        compared(first, other)
    value["task"] = "tag"
    (other / "model.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="first is for classify and other for tag; give runs of one task"):
        compared(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_gives_the_number_of_evaluate(task: str, weights: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", weights)
    data = handlens.sample("bakery", tmp_path / "data", task=task, per_class=4, test_per_class=4, size=96)
    recipe = {"epochs": 1, "batch_size": 4, "workers": 0}
    runs = [
        handlens.train(data, out=tmp_path / f"run{size}", recipe=recipe | {"image_size": size}, golden=False)
        for size in (64, 96)
    ]
    found = handlens.compare(runs)
    metric = TASKS[task].metric
    values = [handlens.evaluate(run)["metrics"][metric] for run in runs]
    assert [run["value"] for run in found["runs"]] == values
    (pair,) = found["comparisons"]
    assert pair["difference"] == values[1] - values[0]
    low, high = pair["interval"]
    assert low <= high
    assert pair["test"]["test"] == ("McNemar" if task in ("classify", "tag") else "sign test")
    assert len(pair["first_better"]) == pair["test"]["only_first"]
    assert all(run["latency_ms"] > 0 and run["multiply_adds"] > 0 for run in found["runs"])
    page = Path(found["page"]).read_text(encoding="utf-8")
    for row in (pair["first_better"] + pair["second_better"])[:4]:
        assert {"file", "truth", "first", "second"} <= set(row) and row["file"] in page
    said = command("compare", *runs, "--no-latency", "-q", XDG_CACHE_HOME=weights).stdout
    assert f"{TASKS[task].of_class.title} of each class" in said
    assert pair["verdict"] in said.replace("\n", " ")
