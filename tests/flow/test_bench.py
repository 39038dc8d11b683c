"""bench: what is timed of a run, of files, and how it is shown."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import handlens as command
from handlens.errors import InputError
from handlens.files import write_json
from handlens.flow.bench import bench
from handlens.reading.parsed import read_json
from handlens.runtimes import RUNTIMES
from handlens.timing.plot import bench_plot
from handlens.training.proved import proved_files
from handlens.training.run import open_run

FEW = {"threads": [1], "batches": [1], "rounds": 1}


@pytest.fixture
def run(exported_run: Path) -> Path:
    return exported_run


@pytest.mark.slow
def test_a_run_in_its_engine_and_in_pytorch(run: Path):
    found = bench(run, engines=["openvino", "pytorch"], **FEW)
    rows = {row["name"]: row for row in found["rows"]}
    assert {"openvino", "openvino int8", "PyTorch"} <= set(rows)
    assert rows["openvino"]["runtime"].startswith("OpenVINO 20") and rows["PyTorch"]["runtime"].startswith("PyTorch 2")
    assert found["reference"] == "PyTorch" and rows["PyTorch"]["faster"] == 1.0
    assert rows["openvino"]["faster"] == pytest.approx(
        rows["PyTorch"]["median_ms"] / rows["openvino"]["median_ms"], rel=1e-6
    )  # of one round
    assert [(row["run"], row["name"], row["int8"]) for row in found["predict"]] == [
        ("run", "openvino", False),  # its engine
        ("run", "openvino", False),
        ("run", "openvino", True),
    ]
    assert found["left_out"] == [] and found["machine"]["cores"] >= 1


@pytest.mark.slow
def test_a_module_that_cannot_be_saved_costs_pytorch_alone(run: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_, **__):
        raise RuntimeError("Serialization of parametrized modules is only supported through state_dict().\nMore.")

    monkeypatch.setattr("torch.save", refused)
    found = bench(run, engines=["openvino", "pytorch"], **FEW)
    assert {row["name"] for row in found["rows"]} == {"openvino", "openvino int8"}
    (left,) = found["left_out"]
    assert left["name"] == "PyTorch" and left["reason"].endswith("only supported through state_dict().")


@pytest.mark.slow
def test_a_run_in_every_runtime_and_compiled(run: Path):
    found = bench(run, **FEW)
    names = {row["name"] for row in found["rows"]} | {entry["name"] for entry in found["left_out"]}
    assert names == {*RUNTIMES, "openvino int8", "PyTorch", "torch.compile"}  # and what the run has proved
    assert len(found["rows"]) >= 3


@pytest.mark.slow
def test_files_are_shown_by_name_and_as_json_and_drawn(run: Path, tmp_path: Path):
    file = run / "exports" / "run.xml"
    for part in (file, file.with_suffix(".bin")):
        shutil.copyfile(part, tmp_path / part.name)
    few = ("--threads", "1,2", "--batch", "1", "--rounds", "1")
    done = command("bench", file, run / "engine" / "model.xml", *few, "--plot", tmp_path / "a.png")
    for word in ("run.xml", "model.xml", "OpenVINO", "median ms", "first prediction s"):
        assert word in done.stdout
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert image.shape[0] > 400 and image.shape[1] > 700 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    few = ("--threads", "1", "--batch", "1,2", "--rounds", "1")
    value = json.loads(command("bench", file, tmp_path / "run.xml", *few, "--json").stdout)
    assert {row["name"] for row in value["rows"]} == {str(file), str(tmp_path / "run.xml")}  # names that are alike
    assert {(row["threads"], row["batch"]) for row in value["rows"]} == {(1, 1), (1, 2)}


@pytest.mark.slow
def test_runs_of_the_same_name_are_told_apart(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / run.name)
    both = [run, tmp_path / run.name]
    found = bench(both, engines=["openvino"], **FEW)
    names = {row["name"] for row in found["rows"]}
    assert names == {f"{folder} {name}" for folder in both for name in ("openvino", "openvino int8")}
    assert {row["run"] for row in found["predict"]} == {str(folder) for folder in both}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("RUN", "--engines", "onyx"), "unknown engine 'onyx'; the closest match is 'onnx'."),
        (("RUN", "--threads", "0"), "--threads must be from 1 to 1,024, got 0."),
        (("RUN", "--batch", "1,x"), "--batch must be whole numbers separated by commas, got '1,x'."),
        (("RUN", "--batch", "2000"), "--batch must be from 1 to 1,024, got 2000."),
        (("RUN", "--plot", "a.jpg"), "--plot must be a PNG file, got a.jpg."),
        (("FILE", "--engines", "onnx"), "run.xml is run by openvino, not by onnx; --engines is for runs."),
        (("nowhere",), "nowhere is neither a run folder nor a pretrained model"),
        ((), "bench needs models to time"),
        (("--adb",), "--adb needs exported files, or runs that have exports."),
        (("RUN", "--adb", "--threads", "1,4"), "--adb takes one number of --threads, got 1,4."),
        (("RUN", "--adb", "--threads", "0"), "--threads must be from 1 to 1,024, got 0."),
        (("RUN", "--adb", "--batch", "4", "--plot", "a.png"), "only prints commands; omit --plot, --batch."),
    ],
)
def test_what_cannot_be_timed_is_a_sentence(arguments, sentence: str, run: Path):
    places = {"RUN": str(run), "FILE": str(run / "exports" / "run.xml")}
    done = command("bench", *(places.get(word, word) for word in arguments), check=False)
    assert done.returncode == 2 and sentence in done.stderr


def test_the_commands_for_a_device(run: Path, tmp_path: Path):
    found = json.loads(command("bench", "--adb", run, "--threads", "4", "--json").stdout)
    assert [entry["program"] for entry in found] == ["benchmark_app"] * 2  # the one in float, the one in int8
    commands = found[0]["commands"]
    assert f"adb push {run / 'exports' / 'run.bin'} /data/local/tmp/" in commands
    assert "-nthreads 4" in commands[-1] and "-shape [1,64,64,3]" in commands[-1]
    assert "adb shell" in command("bench", "--adb", run / "exports" / "run.xml").stdout
    shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("exports"))
    done = command("bench", "--adb", tmp_path / "bare", check=False)
    assert done.returncode == 2 and "bare has no exports; make one with: handlens export" in done.stderr


def test_an_export_counts_as_proved_until_something_has_changed(run: Path, tmp_path: Path):
    folder = tmp_path / "copy"

    def fresh() -> list:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder)
        return proved_files(open_run(folder))

    found = [(proved.path.name, proved.runtime.name, proved.precision) for proved in fresh()]
    assert found == [("run.xml", "openvino", "fp32"), ("run-int8.xml", "openvino", "int8")]

    def counted() -> list[str]:
        return [proved.path.name for proved in proved_files(open_run(folder))]

    report = folder / "exports" / "run.xml.parity.json"
    said = read_json(report)
    for change in ({"passed": False}, {"weights": "0" * 64}, {"whole": False}, {"files": {}}, {"to": "nothing"}):
        fresh()
        write_json(report, said | change)
        assert counted() == ["run-int8.xml"], change
    fresh()
    with (folder / "exports" / "run.bin").open("ab") as file:
        file.write(b"\0")
    assert counted() == ["run-int8.xml"]
    fresh()
    (folder / "exports" / "run.bin").unlink()
    assert counted() == ["run-int8.xml"]
    fresh()
    report.write_text("{", encoding="utf-8")
    assert counted() == ["run-int8.xml"]


def test_only_what_was_timed_here_is_drawn():
    with pytest.raises(InputError, match="there is nothing to draw"):
        bench_plot({"rows": [{"device": "phone.txt"}]})


def test_any_name_of_a_file_is_one_argument_here_and_on_the_device():
    (program, *_) = RUNTIMES["litert"].programs
    file = Path("models of 'mine'/bread $1.tflite")
    of_program, of_file, _, run = program.commands((file,), threads=1, runs=5, height=8, width=8, channels=3)
    assert shlex.split(of_file)[2] == str(file)
    (_, _, on_the_device) = shlex.split(run)
    assert f"--graph=/data/local/tmp/{file.name}" in shlex.split(on_the_device)
    assert shlex.split(of_program)[2] == program.name
