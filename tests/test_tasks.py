"""Masks and boxes through every command, as a user meets them: real files, real runtimes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import handlens as package
from command import handlens
from handlens.reading.parsed import read_json
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas"
# Learning is not what is tested here: benchmarks/task_trainings.py does that.
RECIPE = "image_size: 96\nepochs: 1\nbatch_size: 4\nworkers: 0\naugmented_copies: 2\naugment: {mixup: 0.2}\n"


@pytest.fixture(scope="module", params=["segment", "detect"])
def trained(
    request: pytest.FixtureRequest, weights: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """(task, data, run), by the commands. Tests must not change them."""
    folder = tmp_path_factory.mktemp(f"빵 {request.param}")
    data, run, recipe = folder / "data", folder / "run", folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    handlens(
        "sample", "bakery", data, "--task", request.param, "--per-class", "2", "--test-per-class", "1", "--size", "96"
    )
    done = handlens("train", data, "--recipe", recipe, "--out", run, XDG_CACHE_HOME=weights)
    assert f"Not used for the task {request.param}: augment.mixup, augmented_copies." in done.stderr
    value = read_json(run / "model.json")
    assert set(value["validation"]) >= {"miou" if request.param == "segment" else "map50", "loss", "count"}
    return request.param, data, run


def held_out(data: Path, run: Path) -> list[Path]:
    return [data / id for id in read_json(run / "data.json")["splits"]["test"]]


def test_check_and_show_know_the_labels(trained: tuple[str, Path, Path], tmp_path: Path):
    task, data, _ = trained
    result = json.loads(handlens("check", data, "--json", check=False).stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "check.json"))
    table = handlens("check", data, check=False).stdout
    assert ("% of pixels" if task == "segment" else "boxes") in table
    if task == "detect":
        assert set(result["boxes_without_anchor"]) <= set(result["class_names"])
        assert "Training boxes that match no anchor of the default detector: " in table
    handlens("show", data, "-n", "4", "--out", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 150


def test_evaluate_prints_and_writes(trained: tuple[str, Path, Path], weights: str, tmp_path: Path):
    task, _, run = trained
    copy = shutil.copytree(run, tmp_path / "run")
    result = json.loads(handlens("evaluate", copy, "--json", XDG_CACHE_HOME=weights).stdout)
    jsonschema.validate(result, read_json(SCHEMAS / "evaluate.json"))
    assert (result["task"], result["split"]) == (task, "test")
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert ("mean IoU" if task == "segment" else "mAP at IoU 0.5") in page
    assert page.count("data:image/") >= 2
    stored = read_json(copy / "model.json")["metrics"]
    assert stored.items() <= result["metrics"].items()
    assert ("Mean IoU" if task == "segment" else "mAP50") in handlens("evaluate", copy, XDG_CACHE_HOME=weights).stdout


def test_predict_writes_tables_lines_and_images(trained: tuple[str, Path, Path], tmp_path: Path):
    task, data, run = trained
    images = held_out(data, run)
    table, folder, masks = tmp_path / "a.csv", tmp_path / "images", tmp_path / "masks"
    coco, yolo = tmp_path / "coco.json", tmp_path / "yolo"
    boxes = ("--threshold", "0.01", "--coco", coco, "--yolo", yolo)
    options = ("--masks", masks) if task == "segment" else boxes
    done = handlens(
        "predict",
        run,
        *images,
        "--csv",
        table,
        "--json",
        "--annotate",
        folder,
        "--sheet",
        tmp_path / "sheet.jpg",
        *options,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        jsonschema.validate(line, read_json(SCHEMAS / "predict.json"))
    assert [line["id"] for line in lines] == [str(path) for path in images]
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    kind = "areas" if task == "segment" else "boxes"
    assert len(rows) == sum(max(1, len(line[kind])) for line in lines)
    assert len(list(folder.iterdir())) == len(images)
    names = read_json(run / "model.json")["class_names"]
    if task == "detect":
        rows = read_json(coco)
        assert len(rows) == sum(len(line["boxes"]) for line in lines)
        first = next(line for line in lines if line["boxes"])
        row, box = next(row for row in rows if row["file_name"] == Path(first["id"]).name), first["boxes"][0]
        assert names[row["category_id"] - 1] == box["class"]
        left, top, right, bottom = box["box"]
        assert row["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.02)
        assert (yolo / "classes.txt").read_text(encoding="utf-8").split() == names
        line = (yolo / f"{Path(first['id']).stem}.txt").read_text().splitlines()[0].split()
        assert names[int(line[0])] == box["class"]
        assert float(line[1]) * first["width"] == pytest.approx((left + right) / 2, abs=0.02)
    if task == "segment":
        for path, line in zip(images, lines, strict=True):
            with Image.open(masks / f"{path.stem}.png") as mask:
                found = np.asarray(mask)
            assert found.shape == (line["height"], line["width"])
            assert {names[index] for index in np.unique(found)} == {area["class"] for area in line["areas"]}
        assert sum(area["pixels"] for area in lines[0]["areas"]) == lines[0]["height"] * lines[0]["width"]


def test_golden_images_are_answered_as_promised(trained: tuple[str, Path, Path]):
    task, _, run = trained
    golden = np.load(run / "golden/golden.npz")
    predictor = package.load(run, precision="fp32")
    answers = [predictor.engine.run(pixels[None]) for pixels in golden["images"]]
    for name in ("classes",) if task == "segment" else ("boxes", "scores"):
        found = np.concatenate([answer[name] for answer in answers])
        if task == "segment":
            assert (found == golden[name]).mean() > 0.999
        else:  # of faint boxes the last bit decides which are among the hundred
            np.testing.assert_allclose(found[:, :10], golden[name][:, :10], atol=1e-3)


@pytest.mark.parametrize(
    "to", [pytest.param(to, marks=[] if to == "openvino" else pytest.mark.slow) for to in RUNTIMES]
)
def test_export_is_proved_by_its_own_runtime(trained: tuple[str, Path, Path], weights: str, tmp_path: Path, to: str):
    task, data, run = trained
    out = tmp_path / f"model{RUNTIMES[to].suffix}"
    whole = json.loads(handlens("export", run, "--to", to, "--out", out, "--json", XDG_CACHE_HOME=weights).stdout)
    jsonschema.validate(whole, read_json(SCHEMAS / "export.json"))
    (result,) = whole["exports"]
    evaluated = json.loads(handlens("evaluate", out, data, "--precision", "fp32", "--json").stdout)
    assert evaluated["metrics"][TASKS[task].metric] == pytest.approx(result["rows"][0]["score"], abs=1e-4)
    assert (result["task"], result["passed"]) == (task, True)
    for row in result["rows"]:
        if not row["precision"].startswith("bf16"):  # which informs: a detector of one epoch moves with it
            assert row["score"] == pytest.approx(row["reference_score"], abs=0.01), row


def test_tiles_are_for_masks(trained: tuple[str, Path, Path], tmp_path: Path):
    task, data, run = trained
    with Image.open(held_out(data, run)[0]) as small:
        small.resize((230, 190)).save(tmp_path / "large.png")
    done = handlens("predict", run, tmp_path / "large.png", "--json", "--tiles", check=False)
    if task == "segment":
        assert json.loads(done.stdout)["height"] == 190
    else:
        assert done.returncode == 2
        assert "tiles are available for segmentation only" in done.stderr


def test_what_does_not_fit_the_task_is_refused(trained: tuple[str, Path, Path], tmp_path: Path):
    task, data, run = trained
    image = held_out(data, run)[0]
    if task == "segment":
        done = handlens("predict", run, image, "--threshold", "0.5", check=False)
        assert "a threshold applies to detection and multi-label models" in done.stderr
    else:
        (tmp_path / "old").mkdir()
        (tmp_path / "old/classes.txt").write_text("cat")
        done = handlens("predict", run, image, "--yolo", tmp_path / "old", check=False)
        assert "is not empty; choose a new folder" in done.stderr
        assert (tmp_path / "old/classes.txt").read_text() == "cat"
    assert done.returncode == 2


def test_images_of_one_name_keep_their_numbers_apart(trained: tuple[str, Path, Path], tmp_path: Path):
    task, data, run = trained
    if task == "segment":
        return
    for name in ("2.jpg", "b.jpg", "2.png"):
        with Image.open(held_out(data, run)[0]) as image:
            image.save(tmp_path / name)
    names = [tmp_path / name for name in ("2.jpg", "b.jpg", "2.png")]
    handlens("predict", run, *names, "--threshold", "0.001", "--coco", tmp_path / "a.json")
    rows = read_json(tmp_path / "a.json")
    numbers = {row["file_name"]: row["image_id"] for row in rows}
    assert numbers["2.jpg"] == 2
    assert len(set(numbers.values())) == len(numbers) == 3


def test_evaluate_names_a_damaged_mask_and_goes_on(trained: tuple[str, Path, Path], tmp_path: Path):
    task, data, run = trained
    if task == "detect":
        return
    copy = shutil.copytree(data, tmp_path / "data")
    masks = sorted(path for path in (copy / "masks").rglob("*.png") if "test" in path.parts)
    Image.fromarray(np.full((96, 96), 77, np.uint8)).save(masks[0])
    result = json.loads(handlens("evaluate", shutil.copytree(run, tmp_path / "run"), copy, "--json").stdout)
    assert [row["file"].split("/")[-1] for row in result["unreadable"]] == [masks[0].with_suffix(".jpg").name]
    assert result["images"] == len(masks) - 1
