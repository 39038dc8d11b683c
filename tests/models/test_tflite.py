"""DeepLabv3 with the published VOC weights against the published file, run by LiteRT; its reader against LiteRT's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from handlens.data.voc_classes import VOC_CLASSES
from handlens.errors import InputError
from handlens.models import build
from handlens.models.loading import load_into
from handlens.models.pretrained import load_weights
from handlens.runtimes.graph import Scale
from handlens.weights import SOURCES
from handlens.weights.class_names import COCO_CLASSES
from handlens.weights.tflite import read_constants

NAME = "deeplab_v3_mobilenet_v2_05_voc"


@pytest.fixture(scope="module")
def file(published_file) -> Path:
    return published_file(NAME)


@pytest.fixture(scope="module")
def interpreter(file):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed: ai-edge-litert")
    interpreter = litert.Interpreter(str(file))
    interpreter.allocate_tensors()
    return interpreter


@pytest.fixture
def net(published) -> nn.Module:
    published(NAME)
    net = build(NAME, num_classes=21)
    assert load_into(net, load_weights(NAME), new_head=False) is None
    return net.eval()


def test_logits_are_the_published_files_on_real_images(net, interpreter, shared_data):
    preprocess = SOURCES[NAME].preprocess
    files = sorted((shared_data / "coco_val128" / "images").iterdir())[:3]
    found = set()
    for image in files:
        pixels = preprocess.pixels(np.asarray(Image.open(image).convert("RGB")))
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], preprocess.normalize(pixels)[None])
        interpreter.invoke()
        theirs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]  # (257, 257, 21)
        with torch.inference_mode():
            ours = net(Scale(preprocess)(torch.tensor(pixels)[None]))[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)  # of up to 40
        assert (ours.argmax(axis=2) == theirs.argmax(axis=2)).mean() > 0.9999
        found |= set(np.unique(theirs.argmax(axis=2)).tolist())
    assert len(found) > 3  # it sees something


def test_constants_are_those_that_litert_reads(file, interpreter):
    ours = read_constants(file)
    weights = {key: value for key, value in ours.items() if "weights" in key or "bias" in key}
    theirs = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    assert len(weights) == 2 * (1 + 50 + 4)  # stem, 17 blocks of which the first has two convolutions, the head
    for name, value in weights.items():
        np.testing.assert_array_equal(value, interpreter.get_tensor(theirs[name]))


def test_every_constant_of_the_net_is_used(file):
    state = load_weights(file)
    numbers = sum(value.numel() for key, value in state.items() if not key.endswith(("running_mean", "running_var")))
    scales = sum(value.numel() for key, value in state.items() if key.endswith("norm.weight"))
    weights = (value.size for key, value in read_constants(file).items() if "weights" in key or "bias" in key)
    assert numbers - scales == sum(weights)  # the scales are 1 and come from us


def test_people_are_found(net, shared_data):
    """The classes stand in VOC's order: what is called a person lies where COCO has the boxes of people."""
    folder, preprocess = shared_data / "coco_val128", SOURCES[NAME].preprocess
    largest = []
    for labels in (folder / "labels").iterdir():
        for row in labels.read_text().splitlines():
            label, x, y, width, height = map(float, row.split())
            if label == COCO_CLASSES.index("person"):
                largest.append(
                    (width * height, labels.stem, x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                )
    inside = everywhere = 0
    for _, stem, *corners in sorted(largest)[-4:]:
        left, top, right, bottom = (round(257 * side) for side in corners)
        pixels = preprocess.pixels(np.asarray(Image.open(folder / "images" / f"{stem}.jpg").convert("RGB")))
        with torch.inference_mode():
            person = net(Scale(preprocess)(torch.tensor(pixels)[None]))[0].argmax(dim=0) == VOC_CLASSES.index("person")
        inside += int(person[top:bottom, left:right].sum())
        everywhere += int(person.sum())
    assert everywhere > 4 * 0.1 * 257**2
    assert inside / everywhere > 0.8


def test_a_new_number_of_classes_keeps_all_but_the_classifier(published):
    published(NAME)
    state = load_weights(NAME)
    net = build(NAME, num_classes=3)
    assert (
        load_into(net, state, new_head=True)
        == "The pretrained classifier of 21 outputs was replaced by a new one of 3."
    )
    assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items() if "classifier" not in key)


@pytest.mark.parametrize("change", ["empty", "cut", "other", "random"])
def test_what_is_no_such_file_is_refused(change, file, tmp_path):
    whole = file.read_bytes()
    content = {
        "empty": b"",
        "cut": whole[:100_000],
        "other": b"PK" + whole[2:4] + b"0000" + whole[8:],
        "random": whole[:8] + np.random.default_rng(0).bytes(4000),
    }[change]
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.tflite is not a (complete )?TensorFlow Lite file"):
        load_weights(tmp_path / "x.tflite")


def test_another_model_is_refused(file, tmp_path):
    content = file.read_bytes().replace(b"image_pooling/weights", b"image_poolinG/weights")
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(InputError, match="it has no 'image_pooling/weights'"):
        load_weights(tmp_path / "x.tflite")


def test_damaged_files_end_in_an_input_error_or_in_tensors(file, tmp_path):
    whole, chance = file.read_bytes(), np.random.default_rng(0)
    tables = len(whole) - 60_000  # the tables stand behind the numbers
    for _ in range(60):
        content = bytearray(whole)
        for position in chance.integers(tables, len(whole), 300):
            content[position] = chance.integers(256)
        (tmp_path / "x.tflite").write_bytes(content)
        try:
            state = load_weights(tmp_path / "x.tflite")
        except InputError:
            continue
        assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_parts_behind_the_backbone_that_the_weights_do_not_have_are_fresh(published):
    published(NAME)
    state = load_weights(NAME)
    net = build(NAME, num_classes=3, decoder=32)
    fresh = {key: value.clone() for key, value in net.state_dict().items()}
    assert (
        load_into(net, state, new_head=True)
        == "Replaced by new layers: decoder, classifier; all others are pretrained."
    )
    for key, value in net.state_dict().items():
        own = key.startswith(("decoder.", "classifier.")) or key.endswith(".num_batches_tracked")
        assert torch.equal(value, (fresh if own else state)[key]), key
