"""Models with weights from TensorFlow.js packages against the published graphs, run by TensorFlow.js under node."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.losses.coding import decode_boxes
from handlens.models import build
from handlens.models.detect.anchors import grid_anchors, map_grids, published_anchors
from handlens.models.loading import load_into
from handlens.models.pretrained import load_weights
from handlens.weights import SOURCES
from handlens.weights.class_names import COCO_CLASSES, COCO_IDS
from handlens.weights.tfjs import read_tensors

NAME = "ssdlite_mobilenet_v2_coco"
RUNTIME = ("@tensorflow/tfjs-core@4.22.0", "@tensorflow/tfjs-converter@4.22.0", "@tensorflow/tfjs-backend-cpu@4.22.0")


@pytest.fixture(scope="module")
def package(published_package) -> Path:
    return published_package(NAME)


@pytest.fixture
def net(published) -> nn.Module:
    published(NAME)
    net = build(NAME, num_classes=80)
    assert load_into(net, load_weights(NAME), new_head=False) is None
    return net.eval()


@pytest.fixture(scope="module")
def tfjs(tmp_path_factory) -> Callable[..., list[np.ndarray]]:
    """Runs a graph of a package: (package, folder in it, pixels (S, S, 3) uint8, outputs) -> their float32 values."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed, and TensorFlow.js runs under node")
    folder = tmp_path_factory.mktemp("tfjs")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--cache", str(folder / "cache"), *RUNTIME]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install TensorFlow.js: {done.stderr[-200:]}")
    shutil.copy(Path(__file__).with_name("run_tfjs.js"), folder)

    def run(package: Path, model: str, pixels: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        with tarfile.open(package) as archive:
            archive.extractall(folder)
        (folder / "pixels").write_bytes(pixels.tobytes())
        command = [node, "run_tfjs.js", f"package/{model}", "pixels", str(len(pixels)), *outputs]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
        shapes = json.loads(done.stdout.splitlines()[-1])
        return [np.fromfile(folder / f"output{number}", "<f4").reshape(shape) for number, shape in enumerate(shapes)]

    return run


@pytest.fixture
def published_graph(package, tfjs):
    """Runs the published detector: pixels (300, 300, 3) uint8 -> boxes (1917, 4) y, x, y, x and scores (1917, 90)."""

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = ("Postprocessor/ExpandDims_1", "Postprocessor/Slice")
        boxes, scores = tfjs(package, "models/coco-ssd", pixels, outputs)
        return boxes.reshape(1917, 4), scores.reshape(1917, 90)

    return run


def answers(net: nn.Module, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Every box (1917, 4) and probability (1917, 80), before anything is chosen."""
    images = torch.from_numpy(SOURCES[NAME].preprocess.normalize(pixels)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        raw = net(images)
        return decode_boxes(raw.offsets, raw.anchors)[0], net.probabilities(raw.logits)[0]


def test_every_box_and_score_is_the_published_graphs(net, published_graph, shared_data):
    preprocess = SOURCES[NAME].preprocess
    for file in sorted((shared_data / "coco_val128" / "images").iterdir())[:2]:
        pixels = preprocess.pixels(np.asarray(Image.open(file).convert("RGB")))
        their_boxes, their_scores = published_graph(pixels)
        boxes, scores = answers(net, pixels)
        assert their_scores.max() > 0.5  # it sees something
        np.testing.assert_allclose(boxes.numpy()[:, [1, 0, 3, 2]], their_boxes, atol=1e-3)
        np.testing.assert_allclose(scores.numpy(), their_scores[:, [number - 1 for number in COCO_IDS]], atol=1e-3)
        unused = np.delete(their_scores, [number - 1 for number in COCO_IDS], axis=1)
        assert unused.max() < 0.01  # nothing is lost with the ids that have no class


def test_anchors_are_the_published_ones(package):
    theirs = torch.from_numpy(read_tensors(package)["Postprocessor/ExpandDims"][0].copy())
    ours = grid_anchors(published_anchors(), map_grids(300, 300))
    torch.testing.assert_close(ours[:, [1, 0, 3, 2]], theirs, rtol=0, atol=1e-6)


def test_the_classes_are_cocos(shared_data):
    names = yaml.safe_load((shared_data / "coco_val128" / "classes.yaml").read_text())["names"]
    assert list(COCO_CLASSES) == [names[index] for index in range(80)]
    assert len(COCO_IDS) == 80
    assert (COCO_IDS[0], COCO_IDS[-1]) == (1, 90)


def test_a_new_number_of_classes_and_new_anchors_keep_all_but_the_last_layers(published):
    published(NAME)
    state = load_weights(NAME)
    anchors = [[[0.06, 0.08], [0.16, 0.2]], [[0.3, 0.4]]]
    net = build(NAME, num_classes=3, anchors=anchors)
    fresh = {key: value.clone() for key, value in net.state_dict().items()}
    sentence = load_into(net, state, new_head=True)
    assert sentence == "The box and class predictors were replaced by new ones (different classes or anchors)."
    for key, value in net.state_dict().items():
        if key in ("boxes.s16.1.weight", "classes.s16.1.weight", "boxes.s32.1.bias", "classes.s32.1.bias"):
            assert torch.equal(value, fresh[key]), key
        elif not key.endswith("num_batches_tracked") and ".1.weight" not in key and ".1.bias" not in key:
            assert torch.equal(value, state[key]), key
    with pytest.raises(InputError, match="with a different shape"):
        load_into(build(NAME, num_classes=3), state, new_head=False)


def test_where_the_anchors_need_only_the_finest_map_the_backbone_is_cut_there(published):
    published(NAME)
    state = load_weights(NAME)
    net = build(NAME, num_classes=3, anchors=[[[0.03, 0.04]]], first_stride=8)
    load_into(net, state, new_head=True)
    cut = net.backbone.blocks[-1].conv.weight
    assert torch.equal(cut, state["backbone.blocks.6.expand.conv.weight"])


def test_a_finer_map_is_learned_and_the_others_start_from_theirs(published):
    published(NAME)
    state = load_weights(NAME)
    net = build(NAME, num_classes=3, anchors=[[[0.03, 0.04]], [[0.1, 0.1]], [[0.3, 0.4]]], first_stride=8)
    fresh = net.boxes["s8"][0].conv.weight.clone()
    load_into(net, state, new_head=True)
    assert torch.equal(net.boxes["s8"][0].conv.weight, fresh)
    assert torch.equal(net.boxes["s16"][0].conv.weight, state["boxes.s16.0.conv.weight"])
    assert torch.equal(net.classes["s32"][0].conv.weight, state["classes.s32.0.conv.weight"])


def test_what_is_no_such_package_is_refused(tmp_path, package):
    whole = package.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / "x.tgz").write_bytes(content)
        with pytest.raises(InputError, match="not a complete package"):
            load_weights(tmp_path / "x.tgz")
    (tmp_path / "hello").write_text("hello")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "hello", "package/hello")
    with pytest.raises(InputError, match=r"has no model\.json"):
        load_weights(tmp_path / "x.tgz")


@pytest.mark.slow  # half a minute in JavaScript
def test_every_logit_of_the_published_segmenter_is_its_graphs(published, published_package, tfjs, shared_data):
    name = "deeplab_v3_mobilenet_v2_voc"
    published(name)
    net = build(name, num_classes=21)
    load_into(net, load_weights(name), new_head=False)
    file = min((shared_data / "coco_val128" / "images").glob("*000285*"))  # a bear, which VOC has no class for: a dog
    pixels = np.asarray(Image.open(file).convert("RGB").resize((513, 513)))
    (theirs,) = tfjs(published_package(name), "model", pixels, ["logits/semantic/BiasAdd"])
    images = torch.from_numpy(SOURCES[name].preprocess.normalize(pixels)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        net.eval()
        maps = net.backbone(images)
        logits = net.classifier(net.aspp(*maps.values()))
    assert logits.shape == (1, 21, 65, 65)
    np.testing.assert_allclose(logits.permute(0, 2, 3, 1).numpy(), theirs, atol=2e-3)
    assert (theirs.argmax(axis=-1) == 12).mean() > 0.5  # it sees something
