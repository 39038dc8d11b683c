"""The arithmetic inside a graph against Preprocess, and the resize inside against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from handlens.deploy.graph import DeployGraph, ResizingGraph, Scale, resize_matrix
from handlens.preprocess import SCALINGS, Preprocess


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scale_is_normalise(scaling):
    mean, std = SCALINGS[scaling]
    preprocess = Preprocess(mean=mean, std=std)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    ours = Scale(preprocess)(torch.from_numpy(pixels)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, preprocess.normalise(pixels), atol=2e-6)


def test_probabilities_come_out():
    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))  # "logits": the three channels

    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    pixels[..., 2] = 255
    graph = DeployGraph(Net(), Preprocess(mean=(0, 0, 0), std=(1, 1, 1)))
    expected = torch.tensor([[0.0, 0.0, 1.0]]).softmax(dim=1)
    torch.testing.assert_close(graph(pixels), expected)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(2, 300), new_size=st.integers(2, 300))
def test_resizing_by_a_matrix_is_pillows_resize(size, new_size):
    line = np.random.default_rng(size * 1000 + new_size).integers(0, 256, (size, 1), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(line).resize((1, new_size), Image.Resampling.BILINEAR))[:, 0]
    matrix = resize_matrix(torch.ones(size), torch.tensor(new_size), torch.tensor(0), new_size)
    ours = (matrix @ torch.from_numpy(line[:, 0].copy()).float()).round()
    assert np.abs(ours.numpy() - theirs).max() <= 1  # Pillow's fixed-point weights may round the other way


@settings(max_examples=25, deadline=None)
@given(height=st.integers(30, 300), width=st.integers(30, 300), short=st.sampled_from([64, 75]))
def test_the_graph_that_resizes_sees_preprocess_pixels(height, width, short):
    preprocess = Preprocess(height=64, width=64, short_side=short)
    image = np.random.default_rng(height * 999 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    graph = ResizingGraph(DeployGraph(nn.Identity(), preprocess), preprocess)
    graph.deployed = nn.Identity()  # what would go into the DeployGraph
    inside = graph(torch.from_numpy(image[None]))[0].numpy().astype(int)
    assert np.abs(inside - preprocess.pixels(image)).max() <= 2  # two passes, each may round the other way
