"""What evaluate measures on, where it writes, and what it says of images that are not those it was trained beside."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import handlens
from blobs import CLASSES, write_images
from handlens.errors import InputError
from handlens.flow.labeled_images import test_images as images_of
from handlens.reading.parsed import read_json
from handlens.training.recipe_file import make_recipe
from handlens.training.run import Run, open_run, write_model_json

RECIPE = make_recipe({"mode": "head", "image_size": 64})


@pytest.fixture(scope="module")
def trained(weights: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, run); tests copy what they change."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_images(folder / "data" / "train", per_class=6, seed=0)
    write_images(folder / "data" / "test", per_class=3, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", weights)
        return folder / "data", handlens.train(folder / "data", out=folder / "run", recipe=RECIPE, golden=False)


@pytest.fixture
def copied(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    data, run = (shutil.copytree(folder, tmp_path / folder.name) for folder in trained)
    opened = open_run(run)
    write_model_json(run, replace(opened.model, data=replace(opened.model.data, root=str(data))))
    return data, run


def test_other_data_leaves_the_runs_own_numbers_alone(copied: tuple[Path, Path], tmp_path: Path):
    _, run = copied
    own = handlens.evaluate(run)
    before = {name: (run / name).read_bytes() for name in ("model.json", "evaluation.json", "report.html")}
    for number, parent in enumerate(("one", "two"), start=1):
        other = tmp_path / parent / "others"
        write_images(other, per_class=2, seed=7 + number)
        for _ in range(2):  # again into the same folder
            result = handlens.evaluate(run, other)
        folder = run / "evaluations" / ("others" if number == 1 else "others-2")
        assert Path(result["report"]) == folder / "report.html"
        assert read_json(folder / "evaluation.json")["images"] == result["images"] == 2 * len(CLASSES)
    assert {name: (run / name).read_bytes() for name in before} == before
    assert own["images"] == 3 * len(CLASSES)
    assert len(list((run / "evaluations").iterdir())) == 2


def test_images_that_were_trained_on_are_counted(copied: tuple[Path, Path]):
    data, run = copied
    test = images_of(open_run(run), data / "train", format=None, config=None)
    assert any(note.startswith(f"{6 * len(CLASSES)} of these") for note in test.notes)


def test_what_changed_since_training_is_said(copied: tuple[Path, Path]):
    data, run = copied
    of_test = sorted((data / "test").glob("*/*.jpg"))

    def notes() -> tuple[str, ...]:
        return images_of(open_run(run), None, format=None, config=None).notes

    assert notes() == ()
    shutil.copyfile(of_test[1], of_test[0])
    assert len(notes()) == 1
    assert "have changed since" in notes()[0]
    of_test[0].unlink()
    test = images_of(open_run(run), None, format=None, config=None)
    assert test.missing == (of_test[0].relative_to(data).as_posix(),)
    assert test.notes[0].startswith(f"1 of the {len(of_test)} test images are no longer in")


@pytest.mark.parametrize(("names", "read"), [(("a", "b", "c"), [0, 1]), (("0", "1", "5"), None)])
def test_numbers_are_indices_only_where_no_class_is_called_by_a_number(
    trained: tuple[Path, Path], tmp_path: Path, names: tuple[str, ...], read: list[int] | None
):
    run = open_run(trained[1])
    numbered = Run(run.folder, replace(run.model, class_names=tuple(names)))
    write_images(tmp_path / "all", per_class=1, seed=3)
    first, second, _ = sorted((tmp_path / "all").iterdir())
    data = tmp_path / "numbers"
    data.mkdir()
    first.rename(data / "0")
    second.rename(data / ("1" if read else "2"))  # not the third class, which is called 5
    if read is None:
        with pytest.raises(InputError, match="was not trained on: 2"):
            images_of(numbered, data, format=None, config=None)
    else:
        records = images_of(numbered, data, format=None, config=None).records
        assert [record.label for record in records] == read
