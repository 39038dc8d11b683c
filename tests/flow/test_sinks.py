"""Outputs of predictions: what each holds, and that a failure leaves nothing half written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handlens
from handlens.data.decode import decode
from handlens.errors import InputError
from handlens.flow.predict import writing
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.results import Boxes, Classes, Numbers, Prediction
from handlens.training.model_info import Architecture, ModelInfo
from handlens.training.run import Run

NAMES = ("cat", "dog")


def run_of(task: str) -> Run:
    architecture = Architecture("mobilenet_v2", {})
    info = ModelInfo(task=task, architecture=architecture, class_names=NAMES, preprocess=Preprocess(), files={})
    return Run(Path("runs/pets"), info)


def photo(path: Path, *, size: tuple[int, int] = (120, 90)) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def classified(path: Path) -> Prediction:
    return Prediction(path, Classes(np.array([0.25, 0.75], np.float32), NAMES))


def detected(path: Path) -> Prediction:
    box = np.array([[10, 20, 50, 60]], np.float32)
    return Prediction(path, Boxes(box, np.array([1]), np.array([0.5], np.float32), NAMES, height=90, width=120))


@pytest.mark.parametrize("option", ["masks", "coco", "yolo"])
def test_an_output_that_the_task_does_not_have_is_refused_before_anything_is_written(option: str, tmp_path: Path):
    told = {"masks": "segment", "coco": "detect", "yolo": "detect"}[option]
    outputs = writing(
        run_of("classify"),
        csv=tmp_path / "a.csv",
        annotate=tmp_path / "annotated",
        of_task={option: tmp_path / "out"},
    )
    message = f"--{option} needs a model whose task is {told}; that of pets is classify"
    with pytest.raises(InputError, match=message), outputs:
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sheet": "a.webp"}, "a .png or .jpg file"), ({"yolo": "old"}, "is not empty; choose a new folder")],
)
def test_an_output_that_refuses_its_path_leaves_all_as_it_was(options: dict[str, str], message: str, tmp_path: Path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/classes.txt").write_text("cow")
    paths = {name: tmp_path / value for name, value in options.items()}
    sheet, yolo = paths.get("sheet"), {"yolo": paths["yolo"]} if "yolo" in paths else {}
    outputs = writing(
        run_of("detect"),
        csv=tmp_path / "new/a.csv",
        annotate=tmp_path / "annotated",
        sheet=sheet,
        of_task={"coco": tmp_path / "new/coco.json"} | yolo,
    )
    with pytest.raises(InputError, match=message), outputs:
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old/classes.txt").read_text() == "cow"


def test_copies_of_jpegs_are_jpegs_of_about_their_size_and_the_rest_is_png(tmp_path: Path):
    photos = [photo(tmp_path / name, size=(900, 700)) for name in ("a.jpg", "b.JPEG")]
    drawing = photo(tmp_path / "c.png")
    with writing(run_of("classify"), annotate=tmp_path / "out", print_line=lambda _: None) as write:
        for path in (*photos, drawing):
            write(classified(path))
    made = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert sorted(made) == ["a.jpg", "b.jpg", "c.png"]
    for name, path in made.items():
        with Image.open(path) as image:
            assert image.format == ("PNG" if name == "c.png" else "JPEG")
    size = sum(path.stat().st_size for path in photos)
    assert made["a.jpg"].stat().st_size + made["b.jpg"].stat().st_size < 1.3 * size
    expected = classified(drawing).result
    assert expected is not None
    assert np.array_equal(decode(made["c.png"]), expected.draw(decode(drawing)))  # of PNG nothing is lost


def test_an_image_is_decoded_whole_once_and_only_where_something_is_drawn_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    image = photo(tmp_path / "a.jpg")
    numbers = Numbers(np.array([1.5], np.float32), ("weight",))
    reads: list[object] = []

    def read(path: Path, *, at_least: tuple[int, int] | None = None) -> np.ndarray:
        reads.append(at_least)
        return decode(path, at_least=at_least)

    monkeypatch.setattr("handlens.tasks.sinks.decode", read)
    sheet = tmp_path / "sheet.png"
    for task, prediction, expected in (
        ("classify", classified(image), [(160, 160)]),
        ("regress", Prediction(image, numbers), [(160, 160)]),
        ("detect", detected(image), [None]),
    ):
        reads.clear()
        with writing(run_of(task), sheet=sheet, csv=tmp_path / "a.csv") as write:
            write(prediction)
        assert reads == expected, task
    reads.clear()
    with writing(run_of("detect"), sheet=sheet, annotate=tmp_path / "out", csv=tmp_path / "a.csv") as write:
        write(detected(image))
    assert reads == [None]


def test_what_could_not_be_read_has_a_row_and_keeps_its_place(tmp_path: Path):
    photos = [photo(tmp_path / f"{name}.jpg") for name in "abc"]
    files = {"coco": tmp_path / "coco.json", "yolo": tmp_path / "yolo"}
    lines: list[str] = []
    with writing(
        run_of("detect"), csv=tmp_path / "a.csv", as_json=True, of_task=files, print_line=lines.append
    ) as write:
        for prediction in (detected(photos[0]), Prediction(photos[1], None, "it is empty"), detected(photos[2])):
            write(prediction)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["error"] for row in rows] == ["", "it is empty", ""]
    assert [row["class"] for row in rows] == ["dog", "", "dog"]
    assert [json.loads(line).get("error") for line in lines] == [None, "it is empty", None]
    ids = {row["file_name"]: row["image_id"] for row in json.loads(files["coco"].read_text())}
    assert ids == {"a.jpg": 1, "c.jpg": 3}
    assert sorted(path.name for path in files["yolo"].iterdir()) == ["a.txt", "c.txt", "classes.txt"]


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_error_leaves_no_half_of_a_file_and_ctrl_c_the_rows_so_far(error: BaseException, tmp_path: Path):
    image = photo(tmp_path / "a.jpg")
    out = tmp_path / "out"
    with (
        pytest.raises(type(error)) as caught,
        writing(run_of("detect"), csv=out / "a.csv", sheet=out / "a.png", of_task={"coco": out / "coco.json"}) as write,
    ):
        write(detected(image))
        raise error
    stopped = isinstance(error, KeyboardInterrupt)
    assert [path.name for path in out.iterdir()] == (["a.partial.csv"] if stopped else [])
    assert getattr(caught.value, "__notes__", []) == (
        [f"stopped; the 1 predictions so far are in {out / 'a.partial.csv'}."] if stopped else []
    )


def test_progress_says_of_how_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for number in range(12):
        photo(tmp_path / f"{number}.jpg")
    (tmp_path / "words.txt").write_text("no image")
    monkeypatch.setattr("handlens.flow.predict.Predictor", Echo)
    monkeypatch.setattr("handlens.flow.predict.open_chosen", lambda run, **options: None)
    monkeypatch.setattr("handlens.flow.predict.find_run", lambda run, exported, report: run)
    for few in (8, 3):  # images up to which the first answer matters most
        monkeypatch.setattr("handlens.flow.predict.FEW", few)
        assert told(tmp_path) == [("predicting", done, 12) for done in range(1, 13)]
    monkeypatch.setattr("handlens.flow.predict.COUNTED", 11)
    assert told(tmp_path)[-1] == ("predicting", 12, None)
    assert told(tmp_path / "3.jpg") == [("predicting", 1, 1)]


class Echo:
    def __init__(self, run: Run, **options: object) -> None: ...

    predict = staticmethod(lambda paths: map(classified, paths))


def told(path: Path) -> list[tuple[str, int, int | None]]:
    said: list[tuple[str, int, int | None]] = []

    def note(what: str, done: int, total: int | None) -> None:
        said.append((what, done, total))

    predictions = handlens.predict(run_of("classify"), [path], report=Reporter(progress=note))
    assert len(list(predictions)) == len(said)
    return said
