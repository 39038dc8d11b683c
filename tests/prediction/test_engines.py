"""The file that predict runs: measured, named, or the run's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import handlens
from command import handlens as command
from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.flow.engines import add_fastest, measure_engines
from handlens.prediction import engines
from handlens.prediction.engines import Speed, candidates, chosen_file, keep_ranking, keep_speeds
from handlens.reading.parsed import read_json
from handlens.reporter import QUIET, Reporter
from handlens.runtimes import RUNTIMES
from handlens.timing.race import Failed
from handlens.training.run import Run, open_run


@pytest.fixture
def run(exported_run: Path, tmp_path: Path) -> Run:
    """One that a test may change, and nothing measured."""
    shutil.rmtree(cache_folder() / "engines", ignore_errors=True)
    return open_run(shutil.copytree(exported_run, tmp_path / "run"))


def take(run: Run, *, engine: str | None = None, precision="auto", few: bool = False) -> str:
    return chosen_file(run, engine=engine, precision=precision, few=few).relative_to(run.folder).as_posix()


def speed(first_s: float, images_per_second: float, precision: str = "f32") -> Speed:
    return Speed(first_s, images_per_second, precision)


OWN, EXPORT, INT8 = "engine/model.xml", "exports/run.xml", "exports/run-int8.xml"


def test_the_fastest_that_was_measured_here_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch):
    own, export, int8 = candidates(run)
    assert (own.int8, export.int8, int8.int8) == (False, False, True)
    assert take(run) == OWN  # nothing is known
    keep_speeds(
        run,
        {
            own.digest: speed(1.0, 100),
            export.digest: speed(2.0, 130),
            int8.digest: speed(0.1, 900),
        },
    )
    if own.digest == export.digest:
        pytest.fail("the two would be one file")
    assert take(run) == EXPORT  # a stream, in float
    assert take(run, few=True) == OWN  # the first prediction
    keep_speeds(run, {own.digest: speed(1.0, 100), export.digest: speed(0.99, 101)})
    assert take(run) == take(run, few=True) == OWN  # that is noise
    keep_speeds(run, {export.digest: speed(0.1, 900)})
    assert take(run) == OWN  # nothing to compare with
    keep_speeds(run, {own.digest: speed(1.0, 100), export.digest: speed(0.5, 130)})
    assert take(run) == take(run, few=True) == take(run, precision="fp32") == EXPORT
    keep_speeds(run, {own.digest: speed(1.0, 100, "bf16"), export.digest: speed(0.5, 130)})
    assert (take(run), take(run, precision="fp32")) == (EXPORT, OWN)  # how fast it is in float32 is not known
    keep_speeds(run, {own.digest: speed(1.0, 100), export.digest: speed(0.5, 130)})
    described = engines.describe()
    monkeypatch.setattr(engines, "describe", lambda: described | {"cores": described["cores"] + 1})
    assert take(run) == OWN  # another machine
    monkeypatch.undo()
    with (run.folder / "exports" / "run.bin").open("ab") as file:
        file.write(b"\0")
    assert take(run) == OWN  # not what was proved


def test_a_record_that_cannot_be_read_is_none(run: Run):
    own, export, _ = candidates(run)
    keep_speeds(run, {own.digest: speed(1.0, 100), export.digest: speed(0.5, 130)})
    (record,) = (cache_folder() / "engines").rglob("*.json")
    for text in ("{", "[]", '{"a": {"seconds": 1}}', '{"a": 3}'):
        record.write_text(text, encoding="utf-8")
        assert take(run) == OWN


def test_engine_and_precision_name_a_file(run: Run):
    assert take(run, engine="openvino") == OWN
    assert take(run, precision="int8") == take(run, engine="openvino", precision="int8") == INT8
    with pytest.raises(InputError, match=r"unknown engine 'onyx'; the closest match is 'onnx'"):
        take(run, engine="onyx")
    again = f"make one with: handlens export {run.folder} --to onnx"
    with pytest.raises(InputError, match=f"run has no verified file for onnx; {again}$"):
        take(run, engine="onnx")
    with pytest.raises(InputError, match=f"run has no verified int8 file for onnx; {again} --int8$"):
        take(run, engine="onnx", precision="int8")
    with (run.folder / "exports" / "run-int8.bin").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match="run has no int8 file that is what its parity report says: it has changed"):
        take(run, precision="int8")
    (run.folder / "exports" / "run-int8.xml.parity.json").unlink()  # that of the float32 export stays
    with pytest.raises(InputError, match="run has no verified int8 file for openvino; make one with: "):
        take(run, engine="openvino", precision="int8")
    shutil.rmtree(run.folder / "exports")
    with pytest.raises(InputError, match=f"no verified int8 file; .* {run.folder} --to openvino --int8$"):
        take(run, precision="int8")


def test_an_engine_that_is_not_installed_says_what_brings_it(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(RUNTIMES["litert"]), "installed", False)
    with pytest.raises(InputError, match=r"litert is not installed: pip install 'handlens\[litert\]'"):
        take(run, engine="litert")


def test_a_file_is_what_it_is(run: Run):
    export, int8 = run.folder / "exports" / "run.xml", run.folder / "exports" / "run-int8.xml"
    image = next((run.folder.parent).rglob("*.png"), None)
    assert image is None  # nothing is read before the sentence
    for path, options, sentence in (
        (export, {"engine": "onnx"}, r"run\.xml is run by openvino, not by onnx"),
        (export, {"precision": "int8"}, r"run\.xml is not int8"),
    ):
        with pytest.raises(InputError, match=sentence):
            handlens.load(path, **options)
    assert handlens.load(int8, precision="int8").engine.precision == "int8"
    assert handlens.load(export, engine="openvino").engine.precision != "int8"


@pytest.mark.slow
def test_what_is_measured_is_what_predict_takes_and_its_answers_stay(run: Run, data: Path):
    images = sorted((data / "test").rglob("*.jpg"))
    before = command("predict", run.folder, *images, "--json", "--precision", "fp32")
    rows = measure_engines(run, report=QUIET)
    assert [(row["name"], row["int8"]) for row in rows] == [("openvino", False)] * 2 + [("openvino", True)]
    assert all(row["images_per_second"] > 1 and 0.05 < row["first_s"] < 60 for row in rows)
    best = max(rows[:2], key=lambda row: row["images_per_second"])
    worth = best["images_per_second"] > engines.WORTH * rows[0]["images_per_second"]
    assert str(run.folder / take(run)) == (best if worth else rows[0])["file"]
    own, export, _ = candidates(run)
    keep_speeds(run, {own.digest: speed(1.0, 100), export.digest: speed(0.5, 130)})
    after = command("predict", run.folder, *images, "--json", "--precision", "fp32")
    assert "Computed by OpenVINO" in after.stderr and "exports/run.xml" in after.stderr.replace("\n", "")
    assert "Computed by" not in before.stderr
    for old, new in zip(before.stdout.splitlines(), after.stdout.splitlines(), strict=True):
        first, second = json.loads(old), json.loads(new)
        assert first["class"] == second["class"]
        assert first["probability"] == pytest.approx(second["probability"], abs=1e-4)


def test_int8_predicts_and_is_evaluated(run: Run, data: Path):
    done = command("predict", run.folder, data / "test", "--precision", "int8", "--csv", run.folder / "a.csv")
    assert "in int8, from" in done.stderr
    before = (run.folder / "model.json").read_bytes()
    value = json.loads(command("evaluate", run.folder, "--precision", "int8", "--json").stdout)
    assert value["precision"] == "int8"
    assert (run.folder / "model.json").read_bytes() == before  # its metrics are those of its own engine
    assert read_json(run.folder / "evaluations/int8/evaluation.json")["precision"] == "int8"
    assert json.loads(command("evaluate", run.folder, "--json").stdout)["precision"] != "int8"


def test_training_exports_to_what_is_known_to_be_fastest_for_such_a_model(run: Run, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def export(run: Run, *, to: str, **more) -> None:
        asked.append(to)
        if to == "onnx":
            raise InputError("onnx cannot take it.")

    said: list[str] = []
    monkeypatch.setattr("handlens.flow.export.export", export)
    monkeypatch.setattr(type(RUNTIMES["litert"]), "missing", lambda self: None)
    report = handlens.Reporter(say=said.append)
    add_fastest(run.folder, report=report)
    assert asked == [] and said == []  # nothing is known
    keep_ranking(run, {"openvino": speed(1.0, 100), "litert": speed(0.5, 130), "onnx": speed(0.9, 110)})
    add_fastest(run.folder, report=report)
    assert asked == ["litert"] and "litert is the fastest here for such a model" in said[0]
    assert take(run) == OWN  # there is only the stand-in's export, which is none
    keep_ranking(run, {"openvino": speed(1.0, 100), "litert": speed(0.5, 90), "onnx": speed(0.9, 110)})
    add_fastest(run.folder, report=report)
    assert asked == ["litert", "onnx"] and said[-1] == "Without onnx, because onnx cannot take it."
    keep_ranking(run, {"openvino": speed(1.0, 100), "onnx": speed(0.9, 101)})
    add_fastest(run.folder, report=report)  # that is noise
    monkeypatch.setattr(type(RUNTIMES["litert"]), "missing", lambda self: "its converter")
    keep_ranking(run, {"openvino": speed(1.0, 100), "litert": speed(0.5, 130)})
    add_fastest(run.folder, report=report)  # training installs nothing
    assert asked == ["litert", "onnx"]


@pytest.mark.slow
def test_what_is_known_of_one_run_makes_the_next_one_faster(run: Run, data: Path, tmp_path: Path):
    keep_ranking(run, {"openvino": speed(1.0, 100), "onnx": speed(0.5, 130)})
    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0}
    folder = handlens.train(data, out=tmp_path / "next", recipe=recipe)
    assert take(open_run(folder)) == "exports/next.onnx"
    assert handlens.load(folder).engine.runtime.startswith("ONNX Runtime")


def test_what_could_not_be_timed_or_kept_is_said(run: Run, monkeypatch: pytest.MonkeyPatch):
    (cache_folder() / "engines").parent.mkdir(parents=True, exist_ok=True)
    (cache_folder() / "engines").write_text("a file where a folder should be")
    monkeypatch.setattr("handlens.flow.engines.race", lambda *_, **__: ([], [Failed("0", "it died.")]))
    said: list[str] = []
    try:
        assert measure_engines(run, report=Reporter(say=said.append)) == []
    finally:
        (cache_folder() / "engines").unlink()
    assert "Not timed: model.xml: it died." in said and "they cannot be kept" in said[-1]
