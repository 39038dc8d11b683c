"""Images made from noise, for one channel each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from handlens.errors import InputError
from handlens.explanation.filters import Ascent, first_kernels, images_by_gradient_ascent
from handlens.preprocess import Preprocess

PREPROCESS = Preprocess(height=32, width=32, short_side=32)


class Stripes(nn.Module):
    """Channel 0 answers to red, channel 1 to edges between left and right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.conv.weight.data.zero_()
        self.conv.weight.data[0, 0, 1, 1] = 1
        self.conv.weight.data[1, :, 1] = torch.tensor([-1.0, 0, 1])
        self.act = nn.ReLU()

    def forward(self, images):
        return self.act(self.conv(images))


@pytest.mark.parametrize("natural", [True, False])
def test_the_image_is_what_the_channel_looks_for(natural):
    ascent = Ascent(steps=40, jitter=0, natural_colors=natural)
    images, values = images_by_gradient_ascent(
        Stripes().requires_grad_(False), "act", [0, 1], PREPROCESS, ascent=ascent, progress=lambda *_: None
    )
    assert images.shape == (2, 32, 32, 3) and images.dtype == np.uint8
    red = images[0].astype(float).mean(axis=(0, 1))
    assert red[0] > red[1:].max() - (40 if natural else 0)  # natural colors change together
    steps = [np.abs(np.diff(image.astype(float).sum(axis=2), axis=1)).mean() for image in images]
    assert steps[1] > 2 * steps[0]
    start = images_by_gradient_ascent(
        Stripes().requires_grad_(False),
        "act",
        [0, 1],
        PREPROCESS,
        ascent=Ascent(steps=1, jitter=0, natural_colors=natural),
        progress=lambda *_: None,
    )[1]
    assert (values > start + 0.1).all()


def test_jitter_and_blur_change_the_image_and_the_seed_repeats_it():
    def made(**options):
        ascent = Ascent(steps=5, **options)
        return images_by_gradient_ascent(
            Stripes().requires_grad_(False), "act", [1], PREPROCESS, ascent=ascent, progress=lambda *_: None
        )[0]

    plain = made(jitter=0)
    np.testing.assert_array_equal(plain, made(jitter=0))
    for options in ({"jitter": 4}, {"jitter": 0, "blur": 1.5}, {"jitter": 0, "seed": 1}):
        assert (made(**options) != plain).any()


def test_kernels_are_drawn_where_they_see_the_image():
    net = Stripes()
    kernels = first_kernels(net, "conv")
    assert kernels is not None and kernels.shape == (2, 3, 3, 3)
    assert kernels[0, 1, 1].tolist() == [255, 0, 0]
    two = nn.Sequential(nn.Sequential(net.conv, nn.Conv2d(2, 3, 3)))
    assert first_kernels(two, "0.0") is not None
    assert first_kernels(two, "0.1") is None
    assert first_kernels(two, "0") is None  # its channels are those of the second


def test_a_channel_that_is_not_there():
    with pytest.raises(InputError, match="has 2 channels"):
        images_by_gradient_ascent(
            Stripes().requires_grad_(False), "act", [7], PREPROCESS, ascent=Ascent(steps=1), progress=lambda *_: None
        )
