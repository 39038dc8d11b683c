"""The images of a folder by their embedding: which, how often they are computed, and what is said of bad ones."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from torch import nn

import handlens
from blobs import CLASSES, write_images
from handlens.cli import run
from handlens.errors import InputError
from handlens.flow import embeddings
from handlens.flow.runs import write_run
from handlens.models import build
from handlens.models.cost import parameters
from handlens.preprocess import SCALINGS, Preprocess
from handlens.runtimes.graph import EmbedGraph
from handlens.tasks import TASKS
from handlens.training.model_info import Architecture
from handlens.training.run import WEIGHTS
from handlens.training.saving import save_net

NETS = {
    "classify": ("mobilenet_v2", {"width": 0.35}),
    "tag": ("efficientnet_lite0", {}),
    "regress": ("lenet_color", {"image_size": 64}),
    "segment": ("unet", {"width": 0.25}),
    "detect": ("ssdlite", {}),
}


def run_of(folder, task, *, net=None, name=None, arguments=None):
    """A run folder whose model is as it was built."""
    torch.manual_seed(0)
    if net is None:
        name, options = NETS[task]
        arguments = {"num_classes": 3} | options
        net = build(name, **arguments).eval()
    mean, std = SCALINGS["imagenet"]
    preprocess = Preprocess(height=64, width=64, short_side=64, resize=TASKS[task].resize, mean=mean, std=std)
    folder.mkdir()
    save_net(net, folder / WEIGHTS)
    write_run(
        folder,
        net,
        architecture=Architecture(name, arguments),
        preprocess=preprocess,
        class_names=("a", "b", "c"),
        task=TASKS[task],
        chosen=TASKS[task].published(),
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("model") / "run", "classify")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve blobs. Tests must not change them."""
    return write_images(tmp_path_factory.mktemp("similar") / "images", per_class=4, seed=0)


@pytest.fixture
def own_images(images, tmp_path):
    return shutil.copytree(images, tmp_path / "images")


def named(found):
    return [Path(one["file"]).name for one in found["neighbors"]]


def refuse(*args, **kwargs):
    raise AssertionError("it was computed again")


@pytest.mark.slow
def test_neighbors_of_real_images_are_scikit_learns(weights, shared_data, tmp_path):
    """Features by PyTorch, neighbors by scikit-learn."""
    photos = sorted((shared_data / "flowers" / "test").rglob("*.jpg"))[::20]
    for photo in photos:
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / photo.name).symlink_to(photo)
    net, preprocess = handlens.pretrained("mobilenet_v2")
    graph = EmbedGraph(net, preprocess)
    pixels = np.stack([preprocess.pixels(np.asarray(Image.open(photo).convert("RGB"))) for photo in photos])
    with torch.inference_mode():
        features = torch.cat([graph(torch.from_numpy(part)) for part in np.array_split(pixels, 4)]).numpy()
    distances, order = NearestNeighbors(n_neighbors=len(photos), metric="cosine").fit(features).kneighbors(features)
    for query in range(0, len(photos), 8):
        found = handlens.similar("mobilenet_v2", photos[query], tmp_path / "photos", top=9, precision="fp32")
        expected = [photos[place].name for place in order[query, 1:10]]
        gaps = np.diff(distances[query, 1:11])
        assert gaps.min() > 1e-5  # else rounding could decide
        assert named(found) == expected
        similarities = [one["similarity"] for one in found["neighbors"]]
        np.testing.assert_allclose(similarities, 1 - distances[query, 1:10], atol=1e-5)


def test_blobs_of_one_color_are_neighbors(model, tmp_path):
    images = write_images(tmp_path / "plain", per_class=4, seed=0, noise=0.1)
    for name in CLASSES:
        found = handlens.similar(model, images / name / "000.jpg", images, top=3)
        assert [Path(one["file"]).parent.name for one in found["neighbors"]] == [name] * 3
        assert (found["images"], found["unreadable"]) == (12, [])


@pytest.mark.parametrize(
    "task", [task if task in ("regress", "segment") else pytest.param(task, marks=pytest.mark.slow) for task in NETS]
)
def test_every_task(task, images, tmp_path):
    folder = run_of(tmp_path / "run", task)
    found = handlens.similar(folder, images / "c" / "000.jpg", images, top=20)
    assert len(found["neighbors"]) == 11
    values = [one["similarity"] for one in found["neighbors"]]
    assert values == sorted(values, reverse=True) and -1 <= values[-1] < values[0] < 1


def test_a_query_is_not_its_own_neighbor_but_a_copy_is(model, own_images, tmp_path, monkeypatch):
    query = own_images / "c" / "000.jpg"
    copy = own_images / "a copy.jpg"
    shutil.copy(query, copy)
    link = tmp_path / "link.jpg"
    link.symlink_to(query)
    monkeypatch.chdir(own_images)
    for spelled in (query, Path("c/000.jpg"), link, own_images / "c" / ".." / "c" / "000.jpg"):
        found = handlens.similar(model, spelled, own_images, top=20)
        assert len(found["neighbors"]) == 12
        assert found["neighbors"][0] == {"file": str(copy), "similarity": 1.0}
    elsewhere = shutil.copy(query, tmp_path / "elsewhere.jpg")
    found = handlens.similar(model, elsewhere, own_images, top=2)
    assert [one["file"] for one in found["neighbors"]] == [str(copy), str(query)]  # equals by their names
    assert [one["similarity"] for one in found["neighbors"]] == [1.0, 1.0]


def test_nothing_is_computed_twice(model, own_images, tmp_path, monkeypatch):
    query = own_images / "c" / "000.jpg"
    first = handlens.similar(model, query, own_images)
    monkeypatch.setattr(embeddings, "_converted", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "OpenVINOEngine", refuse)
        assert handlens.similar(model, query, own_images) == first
        (own_images / "b a" / "000.jpg").rename(own_images / "renamed.jpg")
        again = handlens.similar(model, query, own_images)
        assert [one["similarity"] for one in again["neighbors"]] == [one["similarity"] for one in first["neighbors"]]
        (own_images / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")  # is tried, without an engine
        assert len(handlens.similar(model, query, own_images)["unreadable"]) == 1
        Image.new("RGB", (70, 70), "red").save(own_images / "renamed.jpg")  # other content
        with pytest.raises(AssertionError, match="computed again"):
            handlens.similar(model, query, own_images)
    new = handlens.similar(model, query, own_images, top=20)  # by the model that was kept
    assert "renamed.jpg" in named(new)
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "handlens" / "features")
    assert handlens.similar(model, query, own_images, top=20) == new


def test_features_of_head_training_are_found(model, images, monkeypatch):
    from handlens.data import open_dataset
    from handlens.data.check import audit
    from handlens.flow.runs import build_from, find_run
    from handlens.reporter import QUIET
    from handlens.tasks.heads import FrozenBackbone
    from handlens.training.recipe import Recipe

    opened = find_run(model)
    seen = audit(open_dataset(images))
    net = build_from(opened)
    net.classifier = nn.Linear(net.classifier.in_features, 7)  # which does not count
    frozen = FrozenBackbone(net, opened.preprocess, seen, Recipe(), QUIET)
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "handlens" / "features", ignore_errors=True)
    features = frozen.features(seen.dataset.records)
    monkeypatch.setattr(embeddings, "OpenVINOEngine", refuse)
    found = handlens.similar(model, images / "c" / "000.jpg", images, top=1)
    paths = [str(record.path) for record in seen.dataset.records]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    query = paths.index(str(images / "c" / "000.jpg"))
    alike = unit @ unit[query]
    alike[query] = -1
    best = int(alike.argmax())
    assert found["neighbors"] == [{"file": paths[best], "similarity": pytest.approx(float(alike[best]), abs=2e-6)}]


def test_a_second_query_does_not_import_torch(model, images):
    handlens.similar(model, images / "c" / "000.jpg", images)
    code = (
        "import sys, handlens; handlens.similar(*sys.argv[1:]); "
        "print([name for name in ('torch', 'matplotlib', 'lightning') if name in sys.modules])"
    )
    arguments = [str(model), str(images / "c" / "001.jpg"), str(images)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bad_files_are_named_and_the_rest_goes_on(model, own_images, tmp_path, capsys):
    broken = [own_images / "broken.jpg", own_images / "c" / "same.jpg"]  # one content
    for path in broken:
        path.write_bytes(b"\xff\xd8\xff nothing")
    os.mkfifo(own_images / "pipe.png")
    (own_images / "lost.jpg").symlink_to(tmp_path / "nowhere")
    query = str(own_images / "c" / "000.jpg")
    assert run(["similar", str(model), query, str(own_images), "--top", "20", "--json"]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    bad = {str(path) for path in [*broken, own_images / "pipe.png", own_images / "lost.jpg"]}
    assert {entry["file"] for entry in found["unreadable"]} == bad
    for entry in found["unreadable"]:
        assert entry["file"] in entry["reason"] and entry["reason"] in printed.err
    assert len(found["neighbors"]) == 11 and not bad & {one["file"] for one in found["neighbors"]}


def test_strange_names_in_every_output(model, images, tmp_path, capsys):
    folder = tmp_path / "<b>\x1b[31m"
    folder.mkdir()
    for number, name in enumerate(["=1+1.jpg", "[bold]x.jpg", "줄\n바꿈 🍞.jpg", "long" * 50 + ".jpg"]):
        shutil.copy(images / "c" / f"{number:03d}.jpg", folder / name)
    table, sheet = tmp_path / "out" / "table.csv", tmp_path / "sheet.JPG"
    query = str(images / "c" / "000.jpg")
    files = ["--csv", str(table), "--sheet", str(sheet)]
    assert run(["similar", str(model), query, str(folder), *files, "-q"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "[bold]x.jpg" in said and "\\x1b[31m" in said
    with table.open(encoding="utf-8-sig", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"] and rows[0]["similarity"] == "1.0"
    assert {Path(row["file"]).name for row in rows} == {path.name for path in folder.iterdir()}
    with Image.open(sheet) as drawn:
        assert drawn.format == "JPEG" and drawn.width > 3 * 160  # the query and four
    assert run(["similar", str(model), "--duplicates", "0.2", str(folder), *files, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["groups"][0]) == 4


def test_groups(model, own_images, tmp_path, capsys):
    original = own_images / "c" / "000.jpg"
    shutil.copy(original, own_images / "copy.jpg")
    with Image.open(original) as image:
        image.save(own_images / "same pixels.png")
    with Image.open(own_images / "b a" / "001.jpg") as image:
        image.resize((300, 240)).save(own_images / "larger.png")
    table, sheet = tmp_path / "groups.csv", tmp_path / "groups.png"
    files = ["--csv", str(table), "--sheet", str(sheet)]
    assert run(["similar", str(model), str(own_images), "--duplicates", "1", *files]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("000.jpg", "copy.jpg", "same pixels.png")) and "larger" not in said
    found = handlens.similar_groups(model, own_images, threshold=0.9999, precision="fp32")  # bf16 rounds more
    groups = [[Path(one["file"]).name for one in group] for group in found["groups"]]
    assert ["000.jpg", "copy.jpg", "same pixels.png"] in groups and ["001.jpg", "larger.png"] in groups
    with table.open(encoding="utf-8-sig", newline="") as text:
        assert [row["group"] for row in csv.DictReader(text)] == ["1", "1", "1"]
    with Image.open(sheet) as drawn:
        assert drawn.width == 3 * 180
    sheet.unlink()
    for path in ("copy.jpg", "same pixels.png"):
        (own_images / path).unlink()
    assert run(["similar", str(model), str(own_images), "--duplicates", "1", *files]) == 0
    printed = capsys.readouterr()
    assert "No two images with a similarity of at least 1." in printed.out
    assert "was not written: there are no groups" in printed.err and not sheet.exists()
    assert table.read_text(encoding="utf-8-sig").split() == ["group,file,similarity"]
    assert run(["similar", str(model), str(own_images), "--duplicates", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}"], "similar takes an image and a folder, or a folder with --duplicates THRESHOLD"),
        (["{query}", "{images}", "{images}"], "similar takes an image and a folder"),
        (["{images}", "{images}"], "not an image file; give QUERY, then FOLDER"),
        (["{query}", "{query}"], "000.jpg is not a folder"),
        (["{query}", "{images}/none"], "none is missing; give a folder"),
        (["{images}/none.jpg", "{images}"], "none.jpg is missing; give QUERY, then FOLDER"),
        (["{query}", "{empty}"], "no images in"),
        (["{text}", "{images}"], "is not an image"),
        (["{images}", "--duplicates", "1.5"], "must be above 0 and at most 1, got 1.5"),
        (["{images}", "--duplicates", "nan"], "must be above 0 and at most 1, got nan"),
        (["{query}", "{images}", "--duplicates", "0.9"], "--duplicates takes one folder, without QUERY and --top; got"),
        (["{images}", "--duplicates", "0.9", "--top", "3"], "--top belongs to QUERY"),
        (["{query}", "{images}", "--sheet", "{empty}/sheet.gif"], "a contact sheet is a .png or .jpg file"),
        (["{query}", "{images}", "--sheet", "{images}/c/sheet.png"], "would be read as an image"),
        (["{query}", "{images}", "--precision", "int8"], "--precision must be auto or fp32"),
    ],
)
def test_what_cannot_be_asked(arguments, message, model, images, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    places = {
        "images": images,
        "query": images / "c" / "000.jpg",
        "empty": tmp_path / "empty",
        "text": tmp_path / "text.jpg",
    }
    filled = [argument.format(**places) for argument in arguments]
    assert run(["similar", str(model), *filled]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.out == ""
    assert not [path for path in images.rglob("*") if "sheet" in path.name]


def test_no_such_run(model, images, capsys):
    assert run(["similar", "mobilenet_v3", str(images / "c" / "000.jpg"), str(images)]) == 2
    assert "mobilenet_v3 is neither a run folder nor a pretrained model" in capsys.readouterr().err
    assert run(["similar", str(model / "engine" / "model.xml"), str(images / "c" / "000.jpg"), str(images)]) == 2
    assert "is an exported model, which can predict and be evaluated; give its run folder" in capsys.readouterr().err


class Headless(nn.Module):
    """A model of one's own without an embedding."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 3, stride=8)

    def forward(self, images):
        return self.conv(images).mean(dim=(2, 3))


class WithMaps(Headless):
    def embed(self, images):
        return self.conv(images)


class WithNan(Headless):
    def embed(self, images):
        return (self.conv(images) - 1e9).mean(dim=(2, 3)).sqrt()


class Embedding(Headless):
    def embed(self, images):
        return self.conv(images).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Headless, "has no embedding; give the model a method embed"),
        (WithMaps, r"must return \(N, D\) features, got \(2, 3, 8, 8\) for two images"),
        (WithNan, "the model gives nan or infinite features for"),
    ],
)
def test_models_of_ones_own_without_a_usable_embedding(kind, message, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_nets", sys.modules[__name__])
    folder = run_of(
        tmp_path / "run", "classify", net=kind(num_classes=3).eval(), name=f"own_nets:{kind.__name__}", arguments={}
    )
    model = json.loads((folder / "model.json").read_text())
    model["architecture"]["arguments"] = {"num_classes": 3}
    (folder / "model.json").write_text(json.dumps(model))
    with pytest.raises(InputError, match=message):
        handlens.similar(folder, images / "c" / "000.jpg", images)


def test_a_model_of_ones_own_is_computed_again_when_its_code_changes(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_nets", sys.modules[__name__])
    net = Embedding(num_classes=3).eval()
    assert parameters(net) == 84
    folder = run_of(tmp_path / "run", "classify", net=net, name="own_nets:Embedding", arguments={"num_classes": 3})
    query = images / "c" / "000.jpg"
    first = handlens.similar(folder, query, images)
    assert handlens.similar(folder, query, images) == first
    monkeypatch.setattr(Embedding, "embed", lambda self, x: self.conv(x).relu().amax(dim=(2, 3)))
    assert handlens.similar(folder, query, images)["neighbors"] != first["neighbors"]
