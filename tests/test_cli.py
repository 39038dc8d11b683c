"""The command line as a user meets it: real files, real runtimes, and a real process once per area."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from importlib.metadata import version
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from blobs import CLASSES, write_images
from command import handlens, handlens_process
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json
from handlens.runtimes import RUNTIMES

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas"


@pytest.fixture(scope="session")
def run(data: Path, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, made by the command. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "빵 run"
    done = handlens_process("train", data, "--mode", "head", "--out", folder, "--json", XDG_CACHE_HOME=weights)
    value = json.loads(done.stdout)
    jsonschema.validate(value, read_json(SCHEMAS / "train.json"))
    assert value["validation"]["top1"] > 0.8
    return folder


def test_help_is_quick_and_complete():
    assert {"sample", "check", "show", "train", "evaluate", "predict", "export", "weights"} <= set(
        handlens_process("--help").stdout.split()
    )
    for command in ("sample", "check", "show", "train", "evaluate", "predict", "export"):
        assert "Usage" in handlens(command, "--help").stdout


def test_the_version_is_that_of_the_package():
    assert handlens("--version").stdout == f"handlens {version('handlens')}\n"


def test_a_run_holds_what_it_promises(run: Path):
    for name in (
        "recipe.yaml",
        "data.json",
        "model.json",
        "model.safetensors",
        "engine/model.xml",
        "golden/golden.json",
    ):
        assert (run / name).is_file(), name
    model = read_json(run / "model.json")
    assert model["class_names"] == sorted(CLASSES)
    assert model["format"] == 1
    assert model["preprocess"]["short_side"] == 224


def test_golden_images_are_answered_as_promised(run: Path):
    import handlens as package

    predictor = package.load(run, precision="fp32")
    golden = np.load(run / "golden/golden.npz")
    entries = read_json(run / "golden/golden.json")["files"]
    assert len(entries) == len(golden["images"]) == 8
    for entry, pixels, expected in zip(entries, golden["images"], golden["probabilities"], strict=True):
        np.testing.assert_allclose(predictor(run / "golden" / entry["file"]).probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(predictor(pixels).probabilities, expected, atol=1e-5)


def test_evaluate_prints_and_writes(run: Path, weights: str, tmp_path: Path):
    copy = shutil.copytree(run, tmp_path / "moved run")
    done = handlens_process("evaluate", copy, "--json", XDG_CACHE_HOME=weights)
    result = json.loads(done.stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "evaluate.json"))
    assert result["split"] == "test"
    assert result["metrics"]["count"] == 15
    assert result["metrics"]["top1"] > 0.6
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert "딸기 빵" in page
    assert read_json(copy / "model.json")["metrics"]["top1"] == result["metrics"]["top1"]
    table = handlens("evaluate", copy, XDG_CACHE_HOME=weights)
    assert "95 % interval" in table.stdout
    assert "\x1b" not in table.stdout  # no colors into a pipe


def test_predict_keeps_order_and_names_and_goes_on_after_bad_files(run: Path, data: Path, tmp_path: Path):
    folder = tmp_path / "사진 폴더"
    folder.mkdir()
    sources = sorted((data / "test").glob("*/*.jpg"))
    for number, source in enumerate(sources):
        shutil.copyfile(source, folder / f"{number:02d} {source.parent.name}.jpg")
    (folder / "03 empty.jpg").write_bytes(b"")
    (folder / "07 words.jpg").write_text("not an image")
    table = tmp_path / "out.csv"
    done = handlens("predict", run, folder, "--csv", table, "--top", "2", check=False)
    assert done.returncode == 1
    assert done.stderr.count("handlens: ") == 2
    assert "empty (0 bytes)" in done.stderr
    raw = table.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["id"] for row in rows] == [str(path) for path in sorted(folder.iterdir())]
    good = [row for row in rows if not row["error"]]
    assert len(good) == len(sources)
    right = [row["class"] == Path(row["id"]).stem[3:] for row in good]
    assert sum(right) > 0.6 * len(right)
    assert all(float(row["probability"]) >= float(row["probability2"]) for row in good)


def test_predict_json_lines_have_their_schema(run: Path, data: Path, tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = handlens("predict", run, data / "test" / "c", tmp_path / "bad.png", "--json", check=False)
    schema = read_json(SCHEMAS / "predict.json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 6
    for line in lines:
        jsonschema.validate(line, schema)
    assert "error" in lines[-1]


def test_predict_writes_images_and_a_sheet_and_overwrites_nothing(run: Path, data: Path, tmp_path: Path):
    before = {path: sha256_of(path) for path in data.rglob("*.jpg")}
    out = tmp_path / "annotated"
    arguments = ("predict", run, data / "test", "--annotate", out, "--sheet", tmp_path / "sheet.png")
    handlens(*arguments)
    assert len(list(out.iterdir())) == 15  # five names, three folders
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 400
    assert {path: sha256_of(path) for path in data.rglob("*.jpg")} == before


def test_predict_does_not_load_torch(run: Path, data: Path):
    code = (
        "import sys; from handlens.cli import run; code = run(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; assert 'matplotlib' not in sys.modules; sys.exit(code)"
    )
    image = next((data / "test" / "c").iterdir())
    done = subprocess.run([sys.executable, "-c", code, "predict", run, image], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "to", [pytest.param(to, marks=[] if to == "openvino" else [pytest.mark.slow]) for to in RUNTIMES]
)
def test_export_is_proved_by_its_own_runtime(run: Path, data: Path, weights: str, tmp_path: Path, to: str):
    out = tmp_path / f"model{RUNTIMES[to].suffix}"
    done = handlens("export", run, "--to", to, "--out", out, "--json", XDG_CACHE_HOME=weights)
    result = json.loads(done.stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "export.json"))
    assert result["passed"]
    (made,) = result["exports"]
    assert len(made["rows"]) == len(RUNTIMES[to].precisions)
    assert all(row["images"] == 15 for row in made["rows"])
    assert made["resizers"][0]["changed"] == 0 and len(made["resizers"]) == 5
    assert 10 < made["rows"][0]["peak_mb"] < 1000  # not that of the process that asked
    if to == "onnx":
        import onnx

        metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(out).metadata_props}
        assert metadata["handlens.class_names"] == sorted(CLASSES)
        assert metadata["handlens.preprocess"]["mean"] == read_json(run / "model.json")["preprocess"]["mean"]

    images = sorted((data / "test" / "c").iterdir())
    ours, its = (handlens("predict", model, *images, "--json", "--precision", "fp32").stdout for model in (run, out))
    for mine, other in zip(ours.splitlines(), its.splitlines(), strict=True):
        mine, other = json.loads(mine), json.loads(other)
        assert mine["class"] == other["class"]
        assert mine["probability"] == pytest.approx(other["probability"], abs=1e-4)
    evaluated = json.loads(handlens("evaluate", out, data, "--json").stdout)
    jsonschema.validate(evaluated, read_json(SCHEMAS / "evaluate.json"))
    assert evaluated["metrics"]["top1"] == made["rows"][0]["score"]
    assert evaluated["runtime"] == made["rows"][0]["engine"]
    assert Path(evaluated["report"]).parent == Path(f"{out}.evaluations") / data.name
    again = handlens("export", out, "--to", to, check=False)
    assert again.returncode == 2 and "is an exported model, which can predict and be evaluated" in again.stderr


def test_files_that_are_no_exported_models_are_refused(run: Path, data: Path, tmp_path: Path):
    image = next((data / "test" / "c").iterdir())
    text = tmp_path / "notes.txt"
    text.write_text("words")
    done = handlens("predict", text, image, check=False)
    assert done.returncode == 2 and "neither a run folder nor an exported model (.pte, .tflite, " in done.stderr
    for suffix, content in ((".tflite", b""), (".tflite", b"words"), (".onnx", b"words"), (".xml", b"<a/>")):
        broken = tmp_path / f"broken{suffix}"
        broken.write_bytes(content)
        done = handlens("predict", broken, image, check=False)
        assert done.returncode == 2 and f"broken{suffix} cannot be read: " in done.stderr
        assert len(done.stderr.splitlines()) == 1
    engine = tmp_path / "model.xml"
    shutil.copyfile(run / "engine" / "model.bin", engine.with_suffix(".bin"))
    text_of_engine = (run / "engine" / "model.xml").read_text(encoding="utf-8")
    engine.write_text(text_of_engine.replace("<class_names ", "<other_names "), encoding="utf-8")
    done = handlens("predict", engine, image, check=False)
    assert done.returncode == 2 and "was not exported by handlens" in done.stderr


def test_the_comparison_of_an_export_has_a_budget(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("handlens.flow.gate.BUDGET", 0.0)
    arguments = ("export", run, "--to", "openvino", "--no-app", "--out", tmp_path / "model.xml")
    done = handlens(*arguments)
    assert "on 8 images of 15 (--all compares all)" in done.stderr
    for options, count in ((("--all",), 15), (("--max-images", "3"), 3)):
        (made,) = json.loads(handlens(*arguments, *options, "--json").stdout)["exports"]
        assert (made["rows"][0]["images"], made["available"]) == (count, 15)


def test_exports_to_several_runtimes_fail_one_by_one(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(type(RUNTIMES["onnx"]), "refuses", lambda self, model: "it cannot.")
    done = handlens("export", run, "--to", "onnx,openvino", "--out", tmp_path / "out", "--json", check=False)
    result = json.loads(done.stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "export.json"))
    assert done.returncode == 2 and "handlens: it cannot." in done.stderr
    assert [(made["to"], made["passed"], made["error"]) for made in result["exports"]] == [
        ("onnx", False, "it cannot."),
        ("openvino", True, None),
    ]
    assert (tmp_path / "out" / f"{run.name}.xml").is_file()
    for to in ("tensorrt", "onnx,", "onnx,tensorrt"):
        done = handlens("export", run, "--to", to, check=False)
        assert done.returncode == 2 and "unknown export target" in done.stderr


def test_check_reads_and_never_writes(data: Path, tmp_path: Path):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "train" / "c" / "broken.jpg").write_bytes((folder / "train/c/000.jpg").read_bytes()[:400])
    shutil.copyfile(folder / "train/c/001.jpg", folder / "test/c/copy.jpg")
    before = {path: (sha256_of(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    done = handlens_process("check", folder, "--json", check=False)
    assert done.returncode == 1
    result = json.loads(done.stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "check.json"))
    assert [entry["file"] for entry in result["unreadable"]] == ["train/c/broken.jpg"]
    assert ["test/c/copy.jpg", "train/c/001.jpg"] in [sorted(group) for group in result["across_splits"]]
    assert {path: (sha256_of(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()} == before
    assert handlens("check", folder, check=False).stdout.count("warning") >= 2


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_masks_and_boxes_are_made_checked_and_shown(task: str, tmp_path: Path):
    folder = tmp_path / "빵집"
    handlens("sample", "bakery", folder, "--task", task, "--per-class", 1, "--test-per-class", 1, "--size", 64)
    result = json.loads(handlens("check", folder, "--json", check=False).stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "check.json"))
    assert (result["task"], result["images"], result["unreadable"]) == (task, 20, [])
    table = handlens("check", folder, check=False).stdout
    assert "pretzel" in table
    assert ("% of pixels" if task == "segment" else "train boxes") in table
    done = handlens("show", folder, "-n", 3, "--out", tmp_path / "sheet.png")
    assert done.stdout.strip() == str(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 640


def test_suspected_label_errors_are_found(data: Path, weights: str, tmp_path: Path):
    folder = shutil.copytree(data / "train", tmp_path / "data")
    (folder / "c" / "005.jpg").rename(folder / "b a" / "wrong.jpg")
    done = handlens("check", folder, "--labels", "--json", check=False, XDG_CACHE_HOME=weights)
    suspected = json.loads(done.stdout)["suspected_label_errors"]
    assert "b a/wrong.jpg" in [entry["file"] for entry in suspected[:3]]


def test_the_sheet_of_suspects_says_what_it_leaves_out(
    data: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, sheet = shutil.copytree(data / "train", tmp_path / "data"), tmp_path / "sheet.png"
    for number in range(4):
        (folder / "c" / f"00{number}.jpg").rename(folder / "b a" / f"wrong{number}.jpg")
    monkeypatch.setattr("handlens.flow.sheets.MOST_SUSPECTS", 1)
    done = handlens("check", folder, "--labels", "--sheet", sheet, check=False, XDG_CACHE_HOME=weights)
    assert sheet.is_file() and f"{sheet}: the likeliest 1 of " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "nowhere"), 2, "nowhere"),
        (("train", "{data}", "--learning-rate", "-1"), 2, "learning_rate = -1"),
        (("train", "{data}", "--mode", "magic"), 2, "magic"),
        (("train", "{data}", "--model", "mobilenet_v3"), 2, "mobilenet_v3"),
        (("check", "{data}", "--sheet", "{new}"), 2, "--labels"),
        (("check", "{data}", "--labels", "--sheet", "{new}"), 2, ".png"),
        (
            (
                "train",
                "{one}",
            ),
            1,
            "class",
        ),
        (("train", "{empty}"), 2, "image"),
        (("train", "{data}", "--out", "{full}"), 2, "not empty"),
        (("train", "{data}", "--weights", "{pickle}", "--out", "{new}"), 2, "could run code"),
        (("predict", "nowhere", "{data}"), 2, "mobilenet_v2"),
        (("evaluate", "{empty}"), 2, "not a run folder"),
        (("sample", "cheese", "{new}"), 2, "bakery"),
        (("frobnicate",), 2, "frobnicate"),
        (("export", "{empty}", "--to", "onnx", "--all", "--max-images", "3"), 2, "exclude each other"),
        (("plan", "--run", "{empty}", "--task", "classify"), 2, "--task is for published designs"),
        (("plan", "--run", "{empty}", "--classes", "3"), 2, "--classes is for published designs"),
        (("bench", "mobilenet_v2", "--plot", "{full}/mine.txt/a.png"), 2, "cannot be written"),
    ],
)
def test_errors_are_one_sentence_with_an_exit_code(data: Path, weights: str, tmp_path: Path, arguments, code, said):
    places = {name: tmp_path / name for name in ("one", "empty", "full", "new")}
    write_images(tmp_path / "all", per_class=3, seed=0)
    places["one"].mkdir()
    shutil.copytree(tmp_path / "all" / "c", places["one"] / "c")
    places["empty"].mkdir()
    places["full"].mkdir()
    (places["full"] / "mine.txt").write_text("keep me")
    places["pickle"] = tmp_path / "weights.pth"
    places["pickle"].write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "hacked").encode() + b"'\ntR.")
    filled = [argument.format(data=data, **places) for argument in arguments]
    done = handlens(*filled, check=False, XDG_CACHE_HOME=weights)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (places["full"] / "mine.txt").read_text() == "keep me"
    assert not (tmp_path / "hacked").exists()


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path):
    for arguments in (("--debug", "check", tmp_path), ("check", tmp_path, "--debug")):
        done = handlens_process(*arguments, check=False)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "InputError" in done.stderr


@pytest.mark.slow
def test_nfd_names_on_disk_are_nfc_in_results(weights: str, tmp_path: Path):
    write_images(tmp_path / "data", per_class=6, seed=3)
    name = next(name for name in CLASSES if not name.isascii())
    (tmp_path / "data" / name).rename(tmp_path / "data" / unicodedata.normalize("NFD", name))
    options = ("--mode", "head", "--image-size", 64, "--no-golden")
    handlens("train", tmp_path / "data", *options, "--out", tmp_path / "run", XDG_CACHE_HOME=weights)
    assert name in read_json(tmp_path / "run/model.json")["class_names"]


@pytest.mark.parametrize("table", [False, True])
def test_a_reader_that_has_had_enough_is_no_error(table: bool, run: Path, data: Path, tmp_path: Path):
    """More than a pipe holds, so that writing fails while predictions are still made. A file is written to its end."""
    written = tmp_path / "predictions.csv"
    code = (
        "import sys; from handlens import cli;"
        "cli.shared.print_line = lambda text: sys.stdout.write(text + 70_000 * ' ' + '\\n');"
        "cli.runs.print_line = cli.shared.print_line; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "predict", run, data / "test", "--json", *(["--csv", written] if table else [])],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["class"]
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    images = len(list((data / "test").rglob("*.jpg")))
    assert process.stderr.read() == (f"{images} images, 0 unreadable.\n" if table else "")
    process.stderr.close()
    if table:
        assert len(written.read_text(encoding="utf-8-sig").splitlines()) == 1 + images


def test_a_wrong_path_or_run_leaves_an_earlier_csv_alone(run: Path, data: Path, tmp_path: Path):
    table, empty = tmp_path / "answers.csv", tmp_path / "empty"
    empty.mkdir()
    table.write_text("of yesterday")
    for arguments in ((run, tmp_path / "mistyped"), (run, empty), ("mobilenet_v3", data / "test")):
        done = handlens("predict", *arguments, "--csv", table, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("handlens: ")
        assert table.read_text() == "of yesterday"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_answers_go_to_standard_output_also_beside_a_progress_bar(run: Path, data: Path):
    """rich prints standard output among its bars, on standard error, unless it is told not to."""
    master, slave = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "handlens", "predict", run, data / "test", "--json"],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(slave)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 15
    shown = os.read(master, 65536)
    assert b"predicting" in shown and b"15/15" in shown
    os.close(master)


def test_an_interrupted_csv_is_kept_beside(run: Path, data: Path, tmp_path: Path):
    folder = tmp_path / "many"
    folder.mkdir()
    source = next((data / "test" / "c").iterdir())
    for number in range(20_000):
        (folder / f"{number:05d}.jpg").symlink_to(source)
    process = subprocess.Popen(
        [sys.executable, "-m", "handlens", "predict", run, folder, "--csv", tmp_path / "answers.csv"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where a shell began us with "&"
    )
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 20_000 for path in tmp_path.glob(".answers.csv*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "answers.partial.csv" in errors
    assert not (tmp_path / "answers.csv").exists()
    rows = list(csv.DictReader((tmp_path / "answers.partial.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert 100 < len(rows) < 20_000
    assert rows[-1]["probability"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs root's network namespaces")
def test_nothing_is_sent_and_nothing_written_outside_run_and_cache(data: Path, weights: str, tmp_path: Path):
    """Every command in a namespace without a network, with a fresh HOME."""
    home, cache, out = tmp_path / "home", tmp_path / "cache", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    shutil.copytree(Path(weights) / "handlens" / "weights", cache / "handlens" / "weights")
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("MPLCONFIGDIR", None)
    commands: list[tuple[object, ...]] = [
        ("check", data),
        ("train", data, "--mode", "head", "--out", out / "run"),
        ("evaluate", out / "run"),
        ("predict", out / "run", data / "test", "--csv", out / "a.csv", "--sheet", out / "a.png"),
        ("predict", "mobilenet_v2", data / "test"),
        ("export", out / "run", "--to", "onnx"),
        ("export", out / "run", "--to", "openvino"),
        ("weights", "list"),
        ("sample", "bakery", out / "breads", "--per-class", "1", "--test-per-class", "1"),
    ]
    for command in commands:
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-m", "handlens", *map(str, command)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 1), f"{command}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{command}: {done.stderr}"
    assert [str(path) for path in home.rglob("*")] == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "cache", "out"}
    assert {path.name for path in cache.iterdir()} == {"handlens"}
