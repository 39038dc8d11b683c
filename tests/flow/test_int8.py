"""int8: what it is calibrated with, the settings that are tried, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import handlens
from blobs import CLASSES
from command import handlens as command
from handlens.errors import InputError, ParityError
from handlens.evaluation.metrics import wilson_interval
from handlens.flow import calibration, int8
from handlens.flow.calibration import calibration_images
from handlens.flow.gate import Gate, failure
from handlens.flow.runs import find_run
from handlens.reading.parsed import read_json
from handlens.runtimes import RUNTIMES, comparison, parity
from handlens.runtimes.parity import OWN, Row

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
QUANTIZED = [name for name, runtime in RUNTIMES.items() if runtime.int8]


@pytest.fixture(scope="module")
def run(data: Path, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests must not change it."""
    recipe = {"mode": "head", "image_size": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", weights)
        return handlens.train(data, out=tmp_path_factory.mktemp("int8") / "run", recipe=recipe, golden=False)


def test_calibration_takes_training_images_of_every_class(run: Path, monkeypatch: pytest.MonkeyPatch):
    taken: list[Path] = []
    honest = calibration.decode
    monkeypatch.setattr(calibration, "decode", lambda path: taken.append(path) or honest(path))
    images = calibration_images(find_run(run), None, count=9)
    assert images.shape == (9, 64, 64, 3) and images.dtype == np.uint8
    assert Counter(path.parent.name for path in taken) == dict.fromkeys(CLASSES, 9 // len(CLASSES))
    splits = read_json(run / "data.json")["splits"]
    root = Path(read_json(run / "data.json")["root"]) if "root" in read_json(run / "data.json") else None
    ids = {path.relative_to(root or path.parents[2]).as_posix() for path in taken}
    assert ids <= set(splits["train"]) and not ids & set(splits["test"])


def test_what_cannot_be_read_is_left_out_and_nothing_is_a_sentence(run: Path, tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"words")
    with pytest.raises(InputError, match="has no images to calibrate int8 with; give some with --calibrate"):
        calibration_images(find_run(run), tmp_path)
    Image.new("RGB", (70, 80), "red").save(tmp_path / "good.png")
    assert len(calibration_images(find_run(run), tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("to", QUANTIZED)
def test_an_int8_export_is_small_says_so_and_keeps_what_the_model_knows(
    to: str, run: Path, weights: str, data: Path, tmp_path: Path
):
    out = tmp_path / f"model{RUNTIMES[to].suffix}"
    arguments = ("export", run, "--to", to, "--out", out, "--int8", "--max-drop", "60", "--json")
    done = command(*arguments, XDG_CACHE_HOME=weights)
    whole = json.loads(done.stdout)  # nothing else is printed there
    jsonschema.validate(whole, read_json(SCHEMAS / "export.json"))
    (made,) = whole["exports"]
    assert made["passed"] and made["rows"][0]["precision"] == "int8"
    assert [entry["chosen"] for entry in made["tried"]].count(True) == 1
    assert made["rows"][0]["size_mb"] < 0.35 * 8.9
    runtime = RUNTIMES[to]
    metadata = runtime.open(out).metadata
    assert metadata["class_names"] == sorted(CLASSES) and metadata["precision"] == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(file.name for file in runtime.files(out)), f"{out.name}.parity.json", f"{out.name}-app"]
    )
    images = sorted((data / "test").rglob("*.jpg"))
    lines = command("predict", out, *images, "--json").stdout.splitlines()
    right = [json.loads(line)["class"] == path.parent.name for line, path in zip(lines, images, strict=True)]
    assert np.mean(right) == pytest.approx(made["rows"][0]["score"])  # fifteen images: what they score is noise


@pytest.mark.slow
def test_layers_that_hurt_most_keep_their_bits(run: Path, tmp_path: Path):
    sizes = []
    for count in (0, 2):
        out = tmp_path / f"{count}.xml"
        _, report = handlens.export(run, to="openvino", out=out, int8=True, max_drop=60, images=6, keep_float=count)
        assert len(report.tried[0]["keep_float"]) == count
        sizes.append(report.rows[0].size_mb)
    assert sizes[1] > sizes[0]


@pytest.mark.slow
def test_where_no_setting_holds_the_weights_are_fine_tuned(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(int8, "LEARNED_FROM", 24 * 64 * 64)
    monkeypatch.setattr(int8, "FEWEST", 1)
    wanted = {"to": "onnx", "int8": True, "max_drop": -100, "images": 6, "out": tmp_path / "model.onnx"}  # a gain
    wanted["keep_float"] = 0
    said: list[str] = []
    with pytest.raises(ParityError) as refused:
        handlens.export(run, **wanted, fine_tune=2, report=handlens.Reporter(say=said.append))
    names = [setting.name for setting in RUNTIMES["onnx"].int8]
    *alone, last = refused.value.parity.tried
    assert [entry["setting"] for entry in alone] == names
    assert last["setting"] in [f"{name} (fine-tuned)" for name in names] and last["images"] == 6
    assert any(
        "No setting is within --max-drop; fine-tuning the weights" in line and "2 epochs of 24 images" in line
        for line in said
    )
    with pytest.raises(ParityError) as refused:
        handlens.export(run, **wanted, fine_tune=0)
    assert [entry["setting"] for entry in refused.value.parity.tried] == names


@pytest.mark.slow
def test_where_no_setting_holds_layers_stay_in_float(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    honest = Gate.compare_on_validation

    def strict(self: Gate, *arguments: object, **options: object) -> parity.Parity:
        found = honest(self, *arguments, **options)
        wanted.append(len(wanted))
        worse = replace(found.rows[0], passed=False, score=0.0)
        return found if len(wanted) > 4 else replace(found, rows=(worse,))

    wanted: list[int] = []
    monkeypatch.setattr(Gate, "compare_on_validation", strict)
    _, report = handlens.export(run, to="onnx", int8=True, max_drop=60, images=6, out=tmp_path / "model.onnx")
    assert report.passed and [len(entry["keep_float"]) for entry in report.tried] == [0, 0, 1, 2, 4]
    first, second = report.tried[2], report.tried[3]
    assert second["setting"].endswith(", 2 layers in float") and second["keep_float"][:1] == first["keep_float"]


@pytest.mark.slow
def test_a_model_that_cannot_be_simulated_is_judged_by_its_settings(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(*arguments: object, **options: object) -> None:
        raise InputError("it cannot be simulated.")

    monkeypatch.setattr("handlens.quantization.sensitivity.layers_that_hurt", refused)
    said: list[str] = []
    wanted = {"to": "onnx", "int8": True, "max_drop": -100, "images": 6, "fine_tune": 0}
    with pytest.raises(ParityError) as raised:
        handlens.export(run, **wanted, out=tmp_path / "a.onnx", report=handlens.Reporter(say=said.append))
    assert [entry["setting"] for entry in raised.value.parity.tried] == [s.name for s in RUNTIMES["onnx"].int8]
    assert "No layer stays in float: it cannot be simulated." in said


@pytest.mark.slow
def test_something_is_left_for_int8(run: Path, tmp_path: Path):
    with pytest.raises(InputError, match="--keep-float 100 leaves nothing for int8: the model has 53 layers"):
        handlens.export(run, to="openvino", int8=True, images=6, keep_float=100, out=tmp_path / "model.xml")
    assert not list(tmp_path.glob("model*"))


@pytest.mark.slow
def test_weights_are_changed_for_int8_before_the_quantizer_gets_them(run: Path, tmp_path: Path):
    answers = {}
    for name, options in {
        "plain": {"correct_bias": False},
        "corrected": {},
        "equalized": {"equalize": True},
    }.items():
        out, report = handlens.export(
            run, to="onnx", int8=True, max_drop=100, images=6, app=False, out=tmp_path / f"{name}.onnx", **options
        )
        assert report.passed
        pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
        answers[name] = RUNTIMES["onnx"].open(out).run(pixels)["probabilities"]
    assert not np.array_equal(answers["plain"], answers["corrected"])
    assert not np.array_equal(answers["corrected"], answers["equalized"])
    whole = RUNTIMES["onnx"].open(handlens.export(run, to="onnx", images=6, app=False, out=tmp_path / "f.onnx")[0])
    for name, made in answers.items():
        assert np.abs(made - whole.run(pixels)["probabilities"]).max() < 0.3, name


@pytest.mark.slow
def test_a_calibration_that_is_broken_does_not_pass(run: Path, weights: str, tmp_path: Path):
    black = tmp_path / "black"
    black.mkdir()
    Image.new("RGB", (64, 64)).save(black / "1.png")
    out = tmp_path / "model.xml"
    done = command(
        *("export", run, "--to", "openvino", "--out", out, "--int8", "--calibrate", black),
        XDG_CACHE_HOME=weights,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "the int8 export to openvino is refused: it loses" in done.stderr and "(--max-drop 1" in done.stderr
    assert all(setting.name in done.stderr for setting in RUNTIMES["openvino"].int8)
    report = read_json(tmp_path / "model.xml.parity-failed.json")
    names = [setting.name for setting in RUNTIMES["openvino"].int8]
    tried = [entry["setting"] for entry in report["tried"]]  # all were tried in vain
    assert tried[: len(names)] == names and len(tried) == len(names) + len(int8.KEPT) + 1
    assert tried[-1].endswith(" (fine-tuned)")
    assert not out.exists()


@pytest.mark.slow
def test_a_file_that_another_processor_runs_otherwise_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "model.xml"
    _, report = handlens.export(run, to="openvino", out=out, int8=True, max_drop=60, images=6)
    assert [entry.name for entry in report.kernels] == ["instructions up to SSE4.1", "instructions up to AVX2"]
    assert all(entry.images == 6 and entry.passed for entry in report.kernels)
    honest, said = comparison.run_outside, []

    def broken(*arguments, kernels=None, **options):
        if kernels is not None:
            raise InputError("model.xml cannot be read: bad combination")
        return honest(*arguments, **options)

    monkeypatch.setattr(comparison, "run_outside", broken)
    _, report = handlens.export(
        run, to="openvino", out=out, int8=True, max_drop=60, images=6, report=handlens.Reporter(say=said.append)
    )
    assert report.passed and (report.kernels[0].images, report.kernels[0].changed) == (0, None)
    assert any("SSE4.1, the file could not be tried: model.xml cannot be read" in line for line in said)
    monkeypatch.setattr(comparison, "run_outside", honest)
    monkeypatch.setattr(comparison, "share_by_rounding", lambda count: -0.1)
    with pytest.raises(ParityError, match=r"is refused: with instructions up to SSE4.1, \d+ % of the labels change"):
        handlens.export(run, to="openvino", out=out, int8=True, max_drop=60, images=6)


@pytest.mark.parametrize(("changed", "count"), [(1, 4), (2, 6), (3, 14), (8, 48)])
def test_kernels_may_change_what_chance_explains_and_no_more(changed: int, count: int):
    most = comparison.share_by_rounding(count)
    assert changed / count <= most < (changed + 1) / count
    assert wilson_interval(changed, count)[0] <= comparison.ROUNDING < wilson_interval(changed + 1, count)[0]


def test_a_refusal_names_what_was_the_reason():
    row = Row(
        **{"engine": "a", "precision": "int8", "pixels": OWN, "images": 100, "equal": 0.97, "largest_difference": 0.1},
        **{"mean_difference": 0.01, "excused": (), "differing": (), "score": 0.916, "reference_score": 0.92},
        **{"score_interval": None, "passed": True, "size_mb": 1.0, "latency_ms": 1.0, "peak_mb": None},
    )
    numbers = {"score": 0.7, "reference_score": 0.9, "equal": 0.8}
    tried = ({"setting": "mixed", "passed": False, "keep_float": []} | numbers,)
    report = parity.Parity("classify", 1e-4, 100, (row,), tried=tried, max_drop=0.01)
    assert not report.passed
    assert failure(report, "onnx") == (
        "the int8 export to onnx is refused: no setting is within --max-drop 1; on the validation images, int8 "
        "of float: mixed 70.0 of 90.0. --keep-float 1 leaves the layer that int8 hurts most in float"
    )
    few = replace(report, rows=(replace(row, images=30),), tried=({**tried[0], "keep_float": ["stem"]},))
    assert failure(few, "onnx").endswith("of 90.0. Of 30 images, one is 3.3 points: give more with --data")
    worse = replace(report, rows=(replace(row, score=0.85, passed=False),))
    more = replace(worse, available=300)
    assert "(--max-drop 1; --all compares all 300); on" in failure(more, "onnx")
    assert "refused: it loses 7.0 points of accuracy on 100 images (--max-drop 1); on" in failure(worse, "onnx")
    slow = parity.OtherKernels("slow kernels", 48, 0.5, False, 0.18)
    held = replace(report, tried=({**tried[0], "passed": True},), kernels=(slow,))
    assert "refused: with slow kernels, 50 % of the labels change; on" in failure(held, "onnx")


def test_what_does_not_go_together_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="--int8 and --with-resize exclude each other"):
        handlens.export(run, to="onnx", int8=True, with_resize=True)
    with pytest.raises(InputError, match="--fp16 and --int8 exclude each other"):
        handlens.export(run, to="onnx", int8=True, fp16=True)
    with pytest.raises(InputError, match="--keep-float is a number of layers, for --int8; got 3"):
        handlens.export(run, to="onnx", keep_float=3)
    for options in ({"equalize": True}, {"correct_bias": False}, {"fine_tune": 3}):
        with pytest.raises(InputError, match=r"--(equalize|no-correct-bias|fine-tune) belongs to --int8"):
            handlens.export(run, to="onnx", **options)
    with pytest.raises(InputError, match="--max-drop belongs to --fp16 and --int8"):
        handlens.export(run, to="onnx", max_drop=0.5)
    with pytest.raises(InputError, match="--fine-tune is a number of epochs, 0 for none; got -1"):
        handlens.export(run, to="onnx", int8=True, fine_tune=-1)
    monkeypatch.setattr(type(RUNTIMES["onnx"]), "int8", ())
    with pytest.raises(InputError, match="--int8 is not available for onnx; use --to "):
        handlens.export(run, to="onnx", int8=True)


def test_an_fp16_export_is_half_as_large_and_says_so(run: Path, tmp_path: Path):
    made, report = handlens.export(run, to="openvino", fp16=True, out=tmp_path / "model.xml", images=6)
    (row, _) = report.rows
    assert row.precision == "fp16" and row.equal == 1 and 4 < row.size_mb < 6
    assert report.max_drop == 0.01 and not report.kernels and not report.tried
    assert RUNTIMES["openvino"].open(made).metadata["precision"] == "fp16"


@pytest.mark.slow
def test_a_setting_whose_quantizer_fails_does_not_end_the_search(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runtime = RUNTIMES["openvino"]
    first, second, *_ = runtime.int8
    honest = type(runtime).quantize

    def failing(self, *arguments, setting, **options):
        if setting.name == first.name:
            raise RuntimeError("Check 'axis' failed\nsomewhere in its sources")
        return honest(self, *arguments, setting=setting, **options)

    monkeypatch.setattr(type(runtime), "quantize", failing)
    said: list[str] = []
    wanted = {"to": "openvino", "out": tmp_path / "model.xml", "int8": True, "max_drop": 100, "images": 6, "app": False}
    _, report = handlens.export(run, **wanted, report=handlens.Reporter(say=said.append))
    assert [entry["setting"] for entry in report.tried] == [second.name] and report.passed
    (line,) = [line for line in said if line.startswith(f"No int8 file with {first.name}: ")]
    assert line.endswith("cannot be converted to openvino: Check 'axis' failed")
    monkeypatch.setattr(runtime.__class__, "int8", (first,))
    with pytest.raises(InputError, match="cannot be converted to openvino: Check 'axis' failed"):
        handlens.export(run, **wanted)
