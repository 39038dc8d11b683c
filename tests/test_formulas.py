"""Worked formulas against layers that are counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from handlens.errors import InputError
from handlens.formulas import KINDS, Question, explain
from handlens.models.classify.mobilenet_v2 import InvertedResidual
from handlens.models.cost import measure, parameters


def worked(kind: str, question: Question) -> dict[str, float]:
    return {step.what: step.value for step in explain(kind, question)}


@settings(max_examples=40, deadline=None)
@given(
    inside=st.integers(1, 9),
    outside=st.integers(1, 9),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
    size=st.integers(7, 40),
    bias=st.booleans(),
)
def test_a_convolution(inside, outside, kernel, stride, padding, size, bias):
    question = Question(
        inside=inside, outside=outside, kernel=kernel, stride=stride, padding=padding, size=size, bias=bias
    )
    layer = nn.Conv2d(inside, outside, kernel, stride, padding, bias=bias)
    found = worked("conv", question)
    assert found["output size"] == layer(torch.zeros(1, inside, size, size)).shape[2]
    assert found["parameters"] == parameters(layer)
    ordinary = measure(layer, height=size, width=size, channels=inside).multiply_adds
    assert found["multiply-adds"] == ordinary
    apart = nn.Sequential(
        nn.Conv2d(inside, inside, kernel, stride, padding, groups=inside, bias=False),
        nn.Conv2d(inside, outside, 1, bias=False),
    )
    separable = measure(apart, height=size, width=size, channels=inside).multiply_adds
    assert found["multiply-adds if separable"] == worked("separable", question)["multiply-adds"] == separable
    assert found["as a fraction of the standard convolution"] == pytest.approx(separable / ordinary)


@pytest.mark.parametrize("expansion", [1, 6])
@pytest.mark.parametrize(("stride", "outside"), [(1, 24), (2, 24), (1, 32)])
def test_an_inverted_residual(expansion, stride, outside):
    question = Question(inside=24, outside=outside, stride=stride, size=28, expansion=expansion)
    block = InvertedResidual(24, outside, expansion=expansion, stride=stride)
    found = worked("inverted_residual", question)
    assert found["with batch norm scale and shift"] == parameters(block)
    assert found["multiply-adds"] == measure(block, height=28, width=28, channels=24).multiply_adds
    assert found["skip: stride 1, same size and channels"] == int(block.skip)
    if "the same in one product" in found:
        assert found["the same in one product"] == found["multiply-adds"]


@pytest.mark.parametrize("padding", [0, 1, 5, "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_inverted_residual_whose_map_changes_its_size(padding, stride):
    """Counted as three convolutions; a map of another size cannot be added."""
    question = Question(inside=16, outside=16, stride=stride, padding=padding, size=28, expansion=6)
    pixels = padding if isinstance(padding, int) else 0
    block = nn.Sequential(
        nn.Conv2d(16, 96, 1, bias=False),
        nn.Conv2d(96, 96, 3, stride, pixels, groups=96, bias=False),
        nn.Conv2d(96, 16, 1, bias=False),
    )
    found = worked("inverted_residual", question)
    cost = measure(block, height=28, width=28, channels=16)
    assert found["multiply-adds"] == cost.multiply_adds
    assert found.get("the same in one product", cost.multiply_adds) == cost.multiply_adds
    assert found["skip: stride 1, same size and channels"] == int(cost.layers[-1].shape == (16, 28, 28))


def test_same_valid_and_dense():
    assert worked("pool", Question(inside=3, outside=3, kernel=3, stride=2, size=7))["output size"] == 4
    assert (
        worked("pool", Question(inside=3, outside=3, kernel=3, stride=2, padding="valid", size=7))["output size"] == 3
    )
    dense = worked("dense", Question(inside=1, outside=128, size=28, bias=True))
    assert dense["parameters"] == 100_480  # of the dense baseline's first layer
    assert dense["weights at half the side"] * 4 == dense["multiply-adds"]


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        ("convolution", {}, "unknown layer 'convolution'; available: conv, depthwise"),
        ("conv", {"inside": 0}, "input channels must be from 1 to 1,000,000, got 0"),
        ("conv", {"padding": "full"}, "padding must be pixels, same or valid"),
        ("conv", {"padding": -1}, "padding must be from 0"),
        ("conv", {"outside": 10**300}, "output channels must be from 1 to 1,000,000"),
        ("pool", {}, "pool keeps the number of channels, got 3 in and 4 out"),
        ("inverted_residual", {"bias": True}, "inverted_residual has no bias"),
        ("conv", {"kernel": 9, "size": 5, "padding": 1}, "a kernel of 9 is larger than an input of 5"),
    ],
)
def test_what_cannot_be_is_said(kind, numbers, message):
    with pytest.raises(InputError, match=message):
        explain(kind, Question(**{"inside": 3, "outside": 4} | numbers))


def test_every_kind_says_how_large_its_output_is_or_what_goes_in():
    for kind in KINDS:
        first = explain(kind, Question(inside=8, outside=8))[0]
        assert first.what in ("output size", "numbers in") and first.value > 0
