"""explain, from the command line and from Python, on every task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handlens
from attack.make import flat
from command import handlens as command
from handlens.errors import InputError
from handlens.explanation.filters import Ascent
from handlens.flow.explain import activations, explain, filters
from handlens.flow.explain_pictures import write_explanations


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    flat(folder, count=2)
    return folder


def test_heat_maps_of_a_prediction(exported_run: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    done = command("explain", exported_run, photos, "--out", tmp_path / "out", "--json", check=False)
    assert done.returncode == 1, done.stderr
    assert "bad.png" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["good0.png", "good1.png"]
    for row in rows:
        assert len(row["explained"]) == 1
        assert row["explained"][0]["layer"]
        label = handlens.load(exported_run)(row["file"]).label
        assert row["explained"][0]["title"].startswith(label)
        with Image.open(row["picture"]) as picture:
            assert min(picture.size) > 200


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "scorecam", "occlusion"])
def test_every_method_explains_a_class_that_was_asked_for(method: str, exported_run: Path, photos: Path) -> None:
    name = handlens.load(exported_run).names[0]
    found = list(explain(exported_run, [photos / "good0.png"], why=name, method=method))
    assert len(found) == 1 and len(found[0]) == 1
    one = found[0][0]
    assert one.title.startswith(name)
    assert one.heat.shape == one.image.shape[:2] == (64, 64)
    assert one.heat.min() >= 0 and one.heat.max() in (0, 1)
    assert (one.layer is None) == (method == "occlusion")


def test_the_picture_is_the_images_own_where_nothing_is_hot(exported_run: Path, photos: Path) -> None:
    one = next(iter(explain(exported_run, [photos / "good0.png"])))[0]
    cold = one.heat == 0
    gray = (one.image @ np.array([0.299, 0.587, 0.114])).round()
    assert np.abs(one.picture()[..., 0][cold] - gray[cold]).max(initial=0) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ssdlite_mobilenet_v2_coco", "deeplab_v3_mobilenet_v2_voc"])
def test_boxes_and_areas(
    model: str, weights: str, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", weights)
    images = sorted((shared_data / "coco_val128" / "images").iterdir())[:2]
    found = list(write_explanations(explain(model, images), tmp_path))
    assert len(found) == 2
    for file, explanations in found:
        assert file is not None and file.is_file()
        for one in explanations:
            assert one.heat.max() == 1
            assert one.method == ("gradcam" if one.box is None else "layercam")
            if one.box is not None:  # the hottest place is in or beside the box that it explains
                left, top, right, bottom = one.box
                y, x = np.unravel_index(int(one.heat.argmax()), one.heat.shape)
                reach = 0.1 * max(one.heat.shape)
                assert left - reach <= x <= right + reach and top - reach <= y <= bottom + reach


def test_channels_of_a_layer(exported_run: Path, photos: Path, tmp_path: Path) -> None:
    found = list(activations(exported_run, [photos], layer="stem"))
    assert [one.path.name for one in found] == ["good0.png", "good1.png"]
    for one in found:
        strongest = one.maps.max(axis=(1, 2))
        assert list(strongest[one.order]) == sorted(strongest, reverse=True)
    dead = np.flatnonzero(np.max([one.maps.max(axis=(1, 2)) for one in found], axis=0) <= 0)
    assert found[-1].dead == tuple(dead)
    done = command("explain", exported_run, photos, "--activations", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "channels are nowhere above 0" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_what_channels_look_for(exported_run: Path, tmp_path: Path) -> None:
    kernels = filters(exported_run, layer="stem")
    assert kernels.values is None and kernels.images.shape[1:] == (3, 3, 3)
    with pytest.raises(InputError, match="a blur of 40 pixels is too much for images of 64 x 64"):
        filters(exported_run, layer="s8", ascent=Ascent(blur=40))
    done = command(
        "explain", exported_run, "--filters", "--layer", "s8", "--channels", "0,3", "--steps", "3", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*-filters.png"))) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--why", "unicorn"], "no class 'unicorn'"),
        (["--method", "magic"], "no method 'magic'"),
        (["--layer", "blocks.99"], "no layer 'blocks.99'"),
        (["--method", "occlusion", "--layer", "stem"], "needs no layer"),
        (["--activations", "--filters"], "choose"),
        (["--activations", "--why", "disk"], "omit --why and --method"),
        (["--layer", "nope"], "take a stride (s"),
        (["--filters", "--layer", "stem"], "neither images"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: list[str], says: str, exported_run: Path, photos: Path) -> None:
    done = command("explain", exported_run, photos, *words, "--out", photos.parent / "out", check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_pictures_go_into_a_folder(exported_run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    done = command("explain", exported_run, photos, "--out", tmp_path / "a.txt", check=False)
    assert done.returncode == 2 and "is a file" in done.stderr
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_no_images_and_no_such_channel(exported_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        explain(exported_run, [tmp_path])
    with pytest.raises(InputError, match="has channels 0 to"):
        filters(exported_run, layer="stem", channels=[4000])
