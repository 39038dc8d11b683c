"""quantize-report and cost --int8, as their users call them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import handlens
from command import handlens as command
from handlens.errors import InputError
from handlens.flow import survival as flow_survival
from handlens.flow.judge import Judge
from handlens.flow.proof import ProofImages
from handlens.flow.quantize_report import quantize_report
from handlens.flow.runs import build_from, find_run
from handlens.flow.survival import say_survival, survival
from handlens.quantization import sensitivity
from handlens.reporter import QUIET, Reporter
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def run(data: Path, weights: str, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests must not change it."""
    recipe = {"mode": "head", "image_size": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", weights)
        folder = tmp_path_factory.mktemp("report") / "run"
        return handlens.train(data, out=folder, recipe=recipe, golden=False, report=Reporter(say=said.append))


def test_after_training_one_line_says_what_int8_will_cost(run: Path, said: list[str]):
    lines = [line for line in said if line.startswith("int8 will probably cost about ")]
    assert len(lines) == 1 and "points of accuracy (95 % interval 0." in lines[0]


@pytest.mark.slow
def test_the_report_lists_every_layer_and_what_float_costs(run: Path, data: Path, tmp_path: Path):
    picture = tmp_path / "layers.png"
    done = command("quantize-report", run, "--to", "onnx", "--images", 8, "--plot", picture, "--json")
    found = json.loads(done.stdout)
    net = build_from(find_run(run))
    names = [layer["name"] for layer in found["layers"]]
    assert len(names) == 53 and set(names) <= dict(net.named_modules()).keys()
    noises = [layer["noise"] for layer in found["layers"]]
    assert noises == sorted(noises, reverse=True) and noises[-1] > 0
    assert [row["layers"] for row in found["kept"]] == [0, 1, 2, 4, 8, 16]
    assert found["kept"][-1]["signal_db"] > found["kept"][0]["signal_db"]
    assert found["kept"][2]["extra_bytes"] == sum(layer["extra_bytes"] for layer in found["layers"][:2])
    assert found["metric"] == "accuracy" and 0.5 < found["reference"] <= 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = command("quantize-report", run, "--to", "onnx", "--images", 2, "--layers", 3)
    assert names[0] in table.stdout and "Simulated as onnx (7-bit weights) on 2 images" in table.stdout


@pytest.mark.slow
def test_the_files_of_a_runtime_say_what_float_costs(run: Path):
    done = command("quantize-report", run, "--to", "onnx", "--images", 2, "--time", "--json")
    found = json.loads(done.stdout)
    sizes = [row["mb"] for row in found["kept"]]
    assert sizes == sorted(sizes) and sizes[-1] < found["float32"]["mb"]
    grown, told = sizes[-1] - sizes[0], (found["kept"][-1]["extra_bytes"]) / 1e6
    assert grown == pytest.approx(told, rel=0.1, abs=0.02)  # scales and names come and go with a layer's rounding
    assert all(row["ms"] > 0 for row in [found["float32"], *found["kept"]])


def test_no_test_image_is_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch):
    from handlens.flow import proof

    taken: list[Path] = []
    honest = proof.decode
    monkeypatch.setattr(proof, "decode", lambda path: taken.append(path) or honest(path))
    Judge(find_run(run), build_from(find_run(run)), data=None, images=100, report=QUIET)
    assert len(taken) > 3 and all("train" in path.parts and "test" not in path.parts for path in taken)


def test_of_other_data_the_test_split_is_left_alone_and_lost_labels_are_said(run: Path, data: Path, tmp_path: Path):
    other = shutil.copytree(data, tmp_path / "other")
    opened = find_run(run)
    judge = Judge(opened, build_from(opened), data=other, images=100, report=QUIET)
    assert judge._sources is not None
    assert {record.path.relative_to(other).parts[0] for record in judge._sources.records} == {"train"}
    for folder in list(other.glob("*/*")):
        folder.rename(folder.with_name(f"{folder.name}-renamed"))
    said: list[str] = []
    judge = Judge(opened, build_from(opened), data=other, images=4, report=Reporter(say=said.append))
    assert len(judge.pixels) == 4 and judge.reference is None
    assert any("are used without labels: the data has classes that the model was not trained on" in s for s in said)


@pytest.mark.slow
def test_the_drop_is_predicted_for_every_setting(run: Path, data: Path, tmp_path: Path):
    rows = json.loads(command("cost", run, "--int8", "--json").stdout)
    assert [(row["runtime"], row["setting"]) for row in rows] == [
        (name, setting.name) for name, runtime in RUNTIMES.items() for setting in runtime.int8
    ]
    for row in rows:
        assert 0 <= row["interval"][0] <= row["drop"] <= row["interval"][1] <= 1
        assert row["within"] == (row["drop"] <= 0.01) and row["counted"] is not None
    table = command("cost", run, "--int8", "--data", data / "test")
    assert "within 1 point" in table.stdout and "Predicted by simulation from 15 images" in table.stdout


def test_a_pretrained_model_is_calibrated_with_images_that_are_not_measured_on(
    data: Path, weights: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", weights)
    found = find_run("mobilenet_v2")
    judge = Judge(found, build_from(found), data=data / "test", images=99, every_other=True, report=QUIET)
    assert judge._sources is not None
    measured = {record.path for record in judge._sources.records}
    spared = {record.path for record in judge.spared}
    assert (len(measured), len(spared), len(judge.pixels)) == (7, 8, 7) and not measured & spared
    with pytest.raises(
        InputError, match="int8 is predicted on images like those that mobilenet_v2 will see: give some"
    ):
        survival("mobilenet_v2")


def test_what_cannot_be_reported_is_a_sentence(run: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"onnx has no int8 setting 'unsigned'; .*(7-bit|unsigned) weights'"):
        quantize_report(run, to="onnx", setting="unsigned")
    with pytest.raises(InputError, match="--images must be at least 1, got 0"):
        quantize_report(run, to="onnx", images=0)
    done = command("cost", "mobilenet_v2", "--data", run, check=False)
    assert done.returncode == 2 and "--data and --calibrate belong to --int8" in done.stderr
    monkeypatch.setattr(type(RUNTIMES["onnx"]), "int8", ())
    with pytest.raises(InputError, match="int8 is not available for onnx; use --to "):
        quantize_report(run, to="onnx")


def test_the_line_after_training_looks_at_every_class(run: Path, monkeypatch: pytest.MonkeyPatch):
    """However few images there is time for: they are in the order of their classes."""
    opened, taken = find_run(run), []
    honest = sensitivity.normalized
    numbered = np.broadcast_to(np.arange(48, dtype=np.uint8)[:, None, None, None], (48, 64, 64, 3))
    monkeypatch.setattr(flow_survival, "_pixels", lambda records, preprocess, count: numbered)
    monkeypatch.setattr(flow_survival, "SECONDS", 0)
    monkeypatch.setattr(sensitivity, "normalized", lambda pixels, *rest: taken.append(pixels) or honest(pixels, *rest))
    dataset = SimpleNamespace(part=lambda name: [])
    said: list[str] = []
    say_survival(TASKS[opened.task], build_from(opened), opened.preprocess, dataset, Reporter(say=said.append))
    assert taken[-1][:, 0, 0, 0].tolist() == np.linspace(0, 47, flow_survival.FEWEST).astype(int).tolist()
    assert "predicted from 16 images" in said[-1]


def test_a_metric_that_is_not_defined_is_no_score(run: Path, monkeypatch: pytest.MonkeyPatch):
    """As mAP of images without an object, or of masks with ignored pixels alone."""
    opened = find_run(run)
    proof = ProofImages(opened, None)
    count = len(list(proof.decoded(QUIET)))
    arrays = {"probabilities": np.full((count, len(opened.class_names)), 1 / len(opened.class_names), np.float32)}
    assert proof.score(arrays) is not None

    class Undefined:
        records = (1,)

        def __init__(self, *_: object) -> None: ...
        def add(self, *_: object) -> None: ...
        def metrics(self) -> dict[str, None]:
            return {TASKS[opened.task].metric: None}

    class Ignored(Undefined):
        def metrics(self) -> dict[str, None]:
            raise InputError("no metric can be computed.")

    for measure in (Undefined, Ignored):
        monkeypatch.setattr(type(TASKS[opened.task]), "measure", lambda self, *_, made=measure: made())
        assert proof.score(arrays) is None
