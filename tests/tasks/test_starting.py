"""Where training starts: the net, its weights, its input size and its anchors, for every net that is no classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from handlens.data import open_dataset
from handlens.data.labels.boxes import Box, BoxLabels, usable_boxes
from handlens.data.record import Dataset, Record
from handlens.data.split import split_dataset
from handlens.errors import InputError
from handlens.models import CATALOGUE, build
from handlens.preprocess import SCALINGS, Preprocess
from handlens.reporter import QUIET
from handlens.samples.bakery_set import write_bakery
from handlens.tasks import TASKS
from handlens.tasks.detect.fit import DetectorFit, fit_detector
from handlens.tasks.heads import _augmented_loader
from handlens.tasks.starting import begin
from handlens.training.recipe_file import make_recipe

NETS = [name for name, entry in CATALOGUE.items() if entry.task != "classify"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    made = {}
    for task in ("segment", "detect"):
        folder = tmp_path_factory.mktemp(task) / "bakery"
        write_bakery(folder, task=task, per_class=2, test_per_class=1, size=96, seed=0)
        made[task] = split_dataset(open_dataset(folder), validation=0.2, seed=0)
    return made


@pytest.mark.parametrize("name", NETS)
def test_every_net_starts_from_scratch_with_its_own_normalization(name: str, data: dict[str, Dataset]):
    task = CATALOGUE[name].task
    recipe = make_recipe({"model": name, "mode": "scratch"}).settled("scratch", TASKS[task].defaults)
    start = begin(TASKS[task], recipe, data[task], QUIET)
    assert (start.preprocess.mean, start.preprocess.std) == SCALINGS[CATALOGUE[name].scaling]
    images = torch.rand(2, 3, start.preprocess.height, start.preprocess.width)
    with torch.inference_mode():
        answer = start.net.train()(images)
    assert len(answer if task == "segment" else answer.logits) == 2


@pytest.mark.parametrize("name", ["unet", "encoder_decoder"])
def test_a_net_without_published_weights_says_so(name: str, data: dict[str, Dataset]):
    recipe = make_recipe({"model": name}).settled("finetune", TASKS["segment"].defaults)
    with pytest.raises(InputError, match=f"there are no published weights for {name}; use --mode scratch"):
        begin(TASKS["segment"], recipe, data["segment"], QUIET)


@pytest.mark.parametrize("name", ["deeplab_v3", "ssdlite", "deeplab_v3_mobilenet_v2_voc", "ssdlite_mobilenet_v2_coco"])
def test_a_classifiers_file_is_a_backbone_with_the_classifiers_normalization(
    name: str, data: dict[str, Dataset], tmp_path: Path
):
    backbone = build("mobilenet_v2", num_classes=7)
    save_file(backbone.state_dict(), tmp_path / "backbone.safetensors")
    task = CATALOGUE[name].task
    values = {"model": name, "mode": "finetune", "weights": str(tmp_path / "backbone.safetensors")}
    start = begin(TASKS[task], make_recipe(values).settled("finetune", TASKS[task].defaults), data[task], QUIET)
    torch.testing.assert_close(start.net.backbone.stem.conv.weight, backbone.stem.conv.weight)
    assert (start.preprocess.mean, start.preprocess.std) == SCALINGS["imagenet"]
    assert start.weights == values["weights"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deeplab_v3", {"output_stride": 4}, "deeplab_v3: output_stride must be one of 16, 8"),
        ("deeplab_v3", {"decoder": -3}, "deeplab_v3: decoder must be"),
        ("ssdlite", {"first_stride": 4}, "ssdlite: first_stride must be one of"),
        ("ssdlite", {"scores": "x"}, "ssdlite: scores must be"),
    ],
)
def test_an_option_out_of_range_is_one_sentence(name, options, message, data: dict[str, Dataset]):
    task = CATALOGUE[name].task
    recipe = make_recipe({"model": name, "options": options}).settled("scratch", TASKS[task].defaults)
    with pytest.raises(InputError, match=message):
        begin(TASKS[task], recipe, data[task], QUIET)


def test_anchors_of_ones_own_are_kept(data: dict[str, Dataset]):
    anchors = [[[0.2, 0.3]], [[0.5, 0.5]]]
    recipe = make_recipe({"model": "ssdlite", "options": {"anchors": anchors}}).settled(
        "scratch", TASKS["detect"].defaults
    )
    start = begin(TASKS["detect"], recipe, data["detect"], QUIET)
    assert start.architecture.arguments["anchors"] == anchors


def with_boxes(folder: Path, side: int) -> Dataset:
    """Images of 640 x 480 with a box of this side."""
    records = []
    for number in range(4):
        path = folder / f"{number}.png"
        Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(path)
        box = Box(label=0, left=100, top=100, right=100 + side, bottom=100 + side)
        records.append(Record(path=path, id=path.name, label=(box,), split="train"))
    return Dataset(root=folder, format="voc", class_names=("cell",), records=tuple(records), kind=BoxLabels())


@pytest.mark.parametrize(("side", "size"), [(200, (240, 320)), (50, (312, 416)), (38, (384, 512)), (8, (384, 512))])
def test_small_objects_get_a_larger_input(side: int, size: tuple[int, int], tmp_path: Path):
    fit = fit_detector(
        make_recipe({"model": "ssdlite"}).settled("finetune", TASKS["detect"].defaults), with_boxes(tmp_path, side)
    )
    assert (fit.height, fit.width) == size
    assert set(fit.unreached) == {"cell"}
    assert set(fit.options) == {"first_stride", "anchors"}


def test_a_detector_without_anchors_is_fitted_to_its_data_by_the_size_alone(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "ssdlite", replace(CATALOGUE["ssdlite"], suited_to=None))
    recipe = make_recipe({"model": "ssdlite"}).settled("finetune", TASKS["detect"].defaults)
    assert fit_detector(recipe, with_boxes(tmp_path, 50)) == DetectorFit(312, 416, {}, {})


def test_boxes_that_count_are_cut_and_the_others_left_out(tmp_path: Path):
    boxes = [(60, 10, 160, 50), (50, 50, 40, 60), (10, 10, 10, 40), (200, 0, 250, 20), (5, 5, 30, 30), (5, 5, 30, 30)]
    record = Record(
        path=tmp_path / "a.png",
        id="a.png",
        label=tuple(Box(label=0, left=a, top=b, right=c, bottom=d) for a, b, c, d in boxes),
    )
    counted = usable_boxes(record, size=(100, 80))
    assert [(box.left, box.top, box.right, box.bottom) for box in counted] == [(60, 10, 100, 50), (5, 5, 30, 30)]


def test_augmented_copies_of_a_head_are_drawn_with_every_transform_of_the_recipe(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "1.png")
    preprocess = Preprocess(height=32, width=32, short_side=32)
    recipe = make_recipe({"augment": {"flip": 0.0, "vertical_flip": 1.0, "crop_area": 1.0, "color": 0.0}})
    load = _augmented_loader(recipe, preprocess, 1, {tmp_path / "1.png": "digest"})
    assert np.array_equal(load(tmp_path / "1.png", preprocess)[0], image[::-1])
