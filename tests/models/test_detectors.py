"""What every detector of the catalogue promises."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.ops import box_iou

from families import family_first
from handlens.models import CATALOGUE, build
from handlens.models.blocks import freeze_batch_norm
from handlens.preprocess import SCALINGS

DETECTORS = [name for name, entry in CATALOGUE.items() if entry.task == "detect"]
pytestmark = pytest.mark.parametrize("name", family_first(DETECTORS))


@pytest.fixture
def net(name, with_batch_norm_statistics):
    return with_batch_norm_statistics(build(name, num_classes=4))


class Decoded(nn.Module):
    """What is exported: images in, boxes out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net.decode(self.net(images))


def test_raw_is_tensors_that_fit_together(net, random_images):
    with torch.inference_mode():
        raw, alone = net(random_images(2)), net(random_images(1))
    count = len(raw.anchors)
    assert raw.offsets.shape == (2, count, 4)
    assert raw.logits.shape[:2] == (2, count)
    assert alone.offsets.shape == (1, count, 4)
    assert (raw.anchors[:, 2:] > raw.anchors[:, :2]).all()


def test_images_do_not_mix(net, random_images):
    """In float64: other batch sizes round otherwise, and a random net makes much of it."""
    net, images = net.double(), random_images(2).double()
    with torch.inference_mode():
        both, alone = net(images), net(images[:1])
    assert (both.logits[0] - both.logits[1]).abs().max() > 1e-2  # else nothing below could fail
    for made, expected in zip(both[:2], alone[:2], strict=True):
        torch.testing.assert_close(made[:1], expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


def test_training_and_evaluation_give_the_same_raw_up_to_batch_norm(net, random_images):
    freeze_batch_norm(net, fold=False)
    images = random_images(2)
    with torch.no_grad():
        for made, expected in zip(net.train()(images), net.eval()(images), strict=True):
            torch.testing.assert_close(made, expected)


def test_decoded_boxes_are_padded_sorted_fractions(net, random_images):
    with torch.inference_mode():
        raw = net(random_images(2, height=160, width=160))
        boxes, scores, labels = net.decode(raw)
        everything = net.decode(raw, suppress=False)
    assert boxes.shape == (2, 100, 4)
    assert scores.shape == labels.shape == (2, 100)
    assert everything[1].shape == (2, 400)
    assert (scores.diff(dim=1) <= 0).all()
    assert scores.max() <= 1
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (boxes[:, :, 2:] >= boxes[:, :, :2]).all()
    assert not labels.is_floating_point()
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}  # no background
    for image in range(2):
        same = labels[image, :, None] == labels[image]
        real = (scores[image] > 0)[:, None] & (scores[image] > 0)
        overlap = box_iou(boxes[image], boxes[image]).fill_diagonal_(0)
        assert overlap[same & real].nan_to_num().max() <= 0.6
        assert real.sum() > 100


def test_every_parameter_gets_a_gradient(net, random_images):
    boxes = torch.tensor([[0.05, 0.05, 0.15, 0.2], [0.1, 0.2, 0.9, 0.95], [0.3, 0.3, 0.6, 0.5], [0.4, 0.1, 0.8, 0.6]])
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.02, 0.2, 0.98, 0.8]])
    anchors = net(random_images(1, height=96, width=96)).anchors
    spread = anchors[:: max(1, len(anchors) // 40)].clamp(0, 1)  # so that every map has something to learn
    spread = spread[((spread[:, 2:] - spread[:, :2]) > 0.05).all(dim=1)]
    targets = [(torch.cat([boxes, whole]), torch.tensor([0, 1, 2, 3, 0, 1])), (spread, torch.arange(len(spread)) % 4)]
    net.train()
    sum(net.loss(net(random_images(2, height=96, width=96)), targets, classes="focal")).backward()
    without = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_saved_and_loaded_it_answers_alike(name, net, random_images, tmp_path):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other = build(name, num_classes=4).eval()
    images = random_images(1)
    with torch.inference_mode():
        assert not torch.equal(other(images).logits, net(images).logits)
        other.load_state_dict(load_file(tmp_path / "net.safetensors"))
        for made, expected in zip(other(images), net(images), strict=True):
            assert torch.equal(made, expected)


@pytest.mark.slow  # tests/test_tasks.py exports one through the gate
def test_the_runtimes_agree_on_decoded_boxes(name, net, random_images, tmp_path):
    if name == "ssd":
        pytest.skip("conversion takes long, and ssd has no operation that ssdlite does not have")
    images = random_images(2, height=160, width=160)
    module = Decoded(net).eval()
    with torch.no_grad():
        expected = [value.numpy() for value in module(images)]
        program = torch.export.export(module, (images,))
        exported = [value.numpy() for value in program.module()(images)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn about their own parts
            torch.onnx.export(program, dynamo=True, verbose=False, external_data=False, optimize=False).save(
                tmp_path / "net.onnx"
            )
            traced = torch.jit.trace(module, images, check_trace=False)
            converted = openvino.convert_model(traced, example_input=images)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    from_onnx = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    from_openvino = list(compiled(images.numpy()).values())
    assert (expected[1] > 0.1).sum() > 20
    for made in (exported, from_onnx, from_openvino):
        same_boxes(made, expected)


def same_boxes(made, expected):
    """Every box finds one of its class; ranks may change where scores are equal up to rounding."""
    (boxes, scores, labels), (their_boxes, their_scores, their_labels) = made, expected
    np.testing.assert_allclose(scores, their_scores, atol=1e-3)
    for image in range(len(boxes)):
        distance = np.abs(boxes[image][:, None] - their_boxes[image]).max(axis=2)
        distance[labels[image][:, None] != their_labels[image]] = 1
        close = (distance.min(axis=1) < 1e-3).mean()
        assert close > 0.98


def test_it_learns_two_images(name):
    """Two rectangles each, of two classes; a net that cannot learn these learns nothing."""
    rectangles = [((8, 8, 48, 40, 0), (56, 48, 88, 88, 1)), ((16, 56, 40, 88, 1), (48, 8, 88, 32, 0))]
    images, targets = 0.05 * torch.randn(2, 3, 96, 96), []
    for image, pair in enumerate(rectangles):
        for left, top, right, bottom, label in pair:
            images[image, label, top:bottom, left:right] = 1
        table = torch.tensor(pair, dtype=torch.float32)
        targets.append((table[:, :4] / 96, table[:, 4].long()))
    net = build(name, num_classes=2, **({"width": 0.35} if name in ("ssd", "ssdlite") else {}))
    optimizer = torch.optim.Adam(net.parameters(), lr=1.5e-3)
    first = None
    for _ in range(150):
        loss = sum(net.train().loss(net(images), targets))
        first = first or float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        if loss < first / 40:
            break
        optimizer.step()
    assert loss < first / 40
    with torch.no_grad():  # still in training: the running statistics are young
        boxes, scores, labels = net.decode(net(images))
    for image, (truth, classes) in enumerate(targets):
        sure = scores[image] > 0.4
        overlap = box_iou(truth, boxes[image, sure])
        overlap[classes[:, None] != labels[image, sure]] = 0
        assert 2 <= sure.sum() <= 6
        assert (overlap.amax(dim=1) > 0.6).all()  # each rectangle is found, as what it is


def test_the_catalogue_says_how_to_feed_it(name):
    entry = CATALOGUE[name]
    assert entry.scaling in SCALINGS
    net = build(name, num_classes=2).eval()
    with torch.inference_mode():
        boxes, _, _ = net.decode(net(torch.zeros(1, 3, entry.image_size, entry.image_size)))
    assert boxes.shape == (1, 100, 4)
