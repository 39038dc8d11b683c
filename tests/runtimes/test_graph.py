"""The arithmetic inside a graph against Preprocess, and the resize inside against Pillow."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from handlens.models import build
from handlens.preprocess import SCALINGS, Preprocess
from handlens.runtimes.graph import DeployGraph, EmbedGraph, HeadGraph, ResizingGraph, Scale, _luma
from handlens.runtimes.names import FEATURES
from handlens.runtimes.openvino.convert import add_head, save_openvino, to_openvino
from handlens.runtimes.openvino.engine import OpenVINOEngine
from handlens.tasks import TASKS


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scale_is_normalize(scaling):
    mean, std = SCALINGS[scaling]
    preprocess = Preprocess(mean=mean, std=std)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    ours = Scale(preprocess)(torch.from_numpy(pixels)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, preprocess.normalize(pixels), atol=2e-6)


def test_probabilities_come_out():
    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))  # "logits": the three channels

    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    pixels[..., 2] = 255
    graph = DeployGraph(Net(), Preprocess(mean=(0, 0, 0), std=(1, 1, 1)), last_step=TASKS["classify"].last_step)
    expected = torch.tensor([[0.0, 0.0, 1.0]]).softmax(dim=1)
    torch.testing.assert_close(graph(pixels), expected)


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.has_head], ids=lambda task: task.name)
def test_a_head_added_to_converted_features_is_the_converted_whole(task, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    images[0] //= 2
    images[1] = images[1] // 2 + 128
    net = build("mobilenet_v2", num_classes=5, width=0.35)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # a true average: after one step that of the images
    net(Scale(Preprocess())(torch.from_numpy(images)))
    preprocess = Preprocess(height=64, width=64, short_side=64)
    net.eval()
    features = to_openvino(EmbedGraph(net, preprocess), preprocess, outputs=(FEATURES,))
    with torch.no_grad():  # fitted meanwhile
        net.classifier.weight.mul_(torch.tensor([[-3.0], [-1.0], [1.0], [2.0], [5.0]]))
    whole = to_openvino(DeployGraph(net, preprocess, last_step=task.last_step), preprocess, outputs=task.outputs)
    added = add_head(features, HeadGraph(net.classifier, last_step=task.last_step), outputs=task.outputs)
    engines = [OpenVINOEngine(model, precision="fp32") for model in (whole, added, features)]
    engines.append(OpenVINOEngine(save_openvino(added, tmp_path / "made.xml", metadata={}), precision="fp32"))
    expected, made, before, saved = (engine.run(images) for engine in engines)
    assert tuple(made) == tuple(saved) == tuple(expected) == task.outputs
    for output in task.outputs:
        np.testing.assert_array_equal(made[output], expected[output])
        np.testing.assert_array_equal(saved[output], expected[output])
        assert made[output].std(axis=0).max() > 1e-3  # else images would not matter
    assert list(before) == [FEATURES]  # still a model of its own
    assert all(weight.requires_grad for weight in net.parameters())  # converting has no part in training


def test_a_model_with_a_scripted_part_is_converted():
    torch.manual_seed(0)
    net = nn.Sequential(torch.jit.script(nn.Conv2d(3, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    preprocess, task = Preprocess(height=16, width=16, short_side=16), TASKS["classify"]
    graph = DeployGraph(net.eval(), preprocess, last_step=task.last_step)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    engine = OpenVINOEngine(to_openvino(graph, preprocess, outputs=task.outputs), precision="fp32")
    for name, expected in graph.arrays(images, task.outputs).items():
        np.testing.assert_allclose(engine.run(images)[name], expected, atol=1e-5)


def test_nothing_is_sent_where_openvino_was_imported_before():
    """Its usage statistics fork the process at each conversion."""
    script = """
import os, time
forks = []
os.register_at_fork(after_in_parent=lambda: forks.append(1))
import openvino, torch
from handlens.preprocess import Preprocess
from handlens.runtimes.openvino.convert import to_openvino
from torch import nn
time.sleep(2)
forks.clear()  # of the import itself, which was not ours
to_openvino(nn.Flatten(), Preprocess(height=8, width=8, short_side=8), outputs=("flat",))
time.sleep(2)
assert forks == [], forks
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def resizing(preprocess: Preprocess) -> ResizingGraph:
    graph = ResizingGraph(DeployGraph(nn.Identity(), preprocess, last_step=TASKS["classify"].last_step), preprocess)
    graph.deployed = nn.Identity()  # what would go into the DeployGraph
    return graph


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_graph_that_resizes_sees_preprocess_pixels(data):
    """To the last level: a level more or less in a few pixels moves the scores of boxes by 0.05."""
    if data.draw(st.booleans()):
        preprocess = Preprocess(height=64, width=64, short_side=data.draw(st.sampled_from([64, 75])))
    else:
        sides = st.integers(1, 200)
        preprocess = Preprocess(height=data.draw(sides), width=data.draw(sides), resize="stretch")
    if data.draw(st.booleans()):
        preprocess = replace(preprocess, color="gray", mean=(0.5,), std=(0.5,))
    height, width = data.draw(st.integers(2, 900)), data.draw(st.integers(2, 900))
    image = np.random.default_rng(height * 999 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    inside = resizing(preprocess)(torch.from_numpy(image[None]))[0].numpy()
    np.testing.assert_array_equal(inside, preprocess.pixels(image))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (600, 800), (3024, 4032), (4096, 230)])
def test_sizes_of_cameras(height, width):
    """480 x 640 to 384 x 512: weights are twelfths, so that halves are frequent and each must go Pillow's way."""
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 2] //= 200  # 0 and 1: the least sums
    for preprocess in (Preprocess(), Preprocess(height=384, width=512, resize="stretch")):
        inside = resizing(preprocess)(torch.from_numpy(image[None]))[0].numpy()
        np.testing.assert_array_equal(inside, preprocess.pixels(image))


def test_gray_is_pillows_for_every_color():
    """All 2^24 of them, in pieces: sums are exact."""
    ramp = torch.arange(256.0)
    green, blue = (part.reshape(1, 1, 256, 256) for part in torch.meshgrid(ramp, ramp, indexing="ij"))
    for red in range(256):
        colors = torch.cat([torch.full_like(green, float(red)), green, blue], dim=1)
        pillow = Image.fromarray(colors[0].permute(1, 2, 0).to(torch.uint8).numpy()).convert("L")
        assert np.array_equal(_luma(colors)[0, 0].to(torch.uint8).numpy(), np.asarray(pillow))
