"""Every net of the catalogue becomes the engine that `predict` runs, and answers there as in PyTorch."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from families import family_first, small
from handlens.models import CATALOGUE, build
from handlens.preprocess import Preprocess
from handlens.runtimes import RUNTIMES
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.openvino.convert import to_openvino
from handlens.runtimes.openvino.engine import OpenVINOEngine
from handlens.tasks import TASKS

CLASSIFIERS = [name for name, entry in CATALOGUE.items() if entry.task == "classify"]


@pytest.mark.parametrize("name", family_first(CLASSIFIERS))
@pytest.mark.parametrize("side", [96, pytest.param(97, marks=pytest.mark.slow)])
def test_openvino_answers_as_pytorch(name: str, side: int, with_batch_norm_statistics):
    """At an even and an odd size: SAME padding differs between them."""
    parameters = inspect.signature(CATALOGUE[name].constructor).parameters
    flattens = "image_size" in parameters
    if side == 97 and (flattens or name.startswith(("vgg", "resnet"))):
        pytest.skip("another size is another net, or no padding here depends on it")
    side = CATALOGUE[name].image_size if flattens else side
    channels = parameters["in_channels"].default
    net = with_batch_norm_statistics(
        build(name, num_classes=7, **small(name)), height=side, width=side, channels=channels
    ).eval()
    color = {} if channels == 3 else {"color": "gray", "mean": (0.5,), "std": (0.25,)}
    preprocess = Preprocess(height=side, width=side, short_side=side, **color)
    graph = DeployGraph(net, preprocess, last_step=TASKS["classify"].last_step)
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, channels), dtype=np.uint8)
    with torch.inference_mode():
        expected = graph(torch.from_numpy(images)).numpy()
    engine = OpenVINOEngine(to_openvino(graph, preprocess, outputs=TASKS["classify"].outputs), precision="fp32")
    np.testing.assert_allclose(engine.run(images)["probabilities"], expected, atol=1e-4)
    assert not RUNTIMES["openvino"].refuses(name)
