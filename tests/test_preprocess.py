"""Preprocess against torchvision's transforms, which everyone's published accuracies were measured with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from handlens.errors import InputError
from handlens.preprocess import SCALINGS, Preprocess, middle


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs: resizing noise would hide mistakes."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(20, 400), width=st.integers(20, 400), short=st.sampled_from([64, 73, 96]))
def test_crop_gives_torchvisions_pixels(height, width, short):
    """Resized across, then down. Pillow 12 does so by itself; 13 turns it round for tall images: a level apart."""
    image = Image.fromarray(image_of(height, width))
    ours = Preprocess(height=64, width=64, short_side=short).pixels(np.asarray(image))
    scale = short / min(height, width)
    across = v2.functional.resize(image, [height, int(width * scale + 1e-9)])
    down = v2.functional.resize(across, [int(height * scale + 1e-9), across.width])
    np.testing.assert_array_equal(ours, np.asarray(v2.functional.center_crop(down, [64, 64])))
    usual = v2.Compose([v2.Resize(short), v2.CenterCrop(64)])(image)
    assert np.abs(ours.astype(int) - np.asarray(usual)).max() <= 1


def test_normalize_is_torchvisions():
    preprocess = Preprocess(height=64, width=64, short_side=64)
    pixels = preprocess.pixels(image_of(90, 120))
    theirs = v2.Normalize(preprocess.mean, preprocess.std)(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    np.testing.assert_allclose(preprocess.normalize(pixels), theirs.permute(1, 2, 0).numpy(), atol=1e-6)


def test_named_scalings_have_the_ranges_they_promise():
    black_and_white = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    for name, low, high in (("half", -1, 1), ("unit", 0, 1), ("lite", -127 / 128, 1)):
        mean, std = SCALINGS[name]
        scaled = Preprocess(mean=mean, std=std).normalize(black_and_white)
        assert scaled.min() == pytest.approx(low, abs=1e-6)
        assert scaled.max() == pytest.approx(high, abs=1e-6)


def test_stretch_and_pad_reach_the_size_and_pad_keeps_the_image():
    image = image_of(50, 200)
    assert Preprocess(height=64, width=96, resize="stretch").pixels(image).shape == (64, 96, 3)
    padded = Preprocess(height=64, width=64, resize="pad").pixels(image)
    assert (padded[0] == 114).all()
    assert (padded[32] != 114).any()


def test_gray_has_one_channel_as_pillow_computes_it():
    image = image_of(64, 64)
    gray = Preprocess(height=64, width=64, short_side=64, color="gray", mean=(0.5,), std=(0.5,))
    np.testing.assert_array_equal(gray.pixels(image)[:, :, 0], np.asarray(Image.fromarray(image).convert("L")))


def test_the_json_form_comes_back_equal():
    preprocess = Preprocess(height=96, width=128, resize="pad", mean=(0.1, 0.2, 0.3))
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resize": "squash"}, "squash"),
        ({"height": 0}, "0 x 224"),
        ({"short_side": 100}, "100"),
        ({"std": (0.0, 1.0, 1.0)}, "positive"),
        ({"mean": (0.5,)}, "3 values"),
        ({"color": "bgr"}, "bgr"),
    ],
)
def test_wrong_values_are_named(wrong, said):
    with pytest.raises(InputError, match=said):
        Preprocess(**wrong)


def test_a_missing_or_unknown_key_is_an_error():
    value = Preprocess().to_dict()
    del value["mean"]
    with pytest.raises(InputError, match="mean"):
        Preprocess.from_dict(value)
    with pytest.raises(InputError, match="gamma"):
        Preprocess.from_dict(Preprocess().to_dict() | {"gamma": 2})


def test_pixels_refuses_what_is_no_image():
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        Preprocess().pixels(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        Preprocess().pixels(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("preprocess", [Preprocess(), Preprocess(resize="stretch"), Preprocess(resize="pad")])
@pytest.mark.parametrize("shape", [(256, 256), (180, 256), (256, 100)])
def test_the_closer_view_is_the_middle_of_each_side(preprocess, shape):
    rows, columns = np.indices(shape)
    image = np.stack([rows, columns, np.full(shape, 255)], axis=2).astype(np.uint8)  # each pixel says where it is
    seen = [one[one[..., 2] > 200] for one in (preprocess.pixels(image), preprocess.pixels(middle(image)))]
    for axis in (0, 1):
        whole, closer = (one[:, axis].astype(int) for one in seen)
        assert np.ptp(closer) == pytest.approx(0.7 * np.ptp(whole), abs=4)
        assert np.median(closer) == pytest.approx(np.median(whole), abs=3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3, 2)])
def test_the_middle_of_tiny_and_thin_images_is_something(shape):
    assert Preprocess().pixels(middle(np.zeros((*shape, 3), dtype=np.uint8))).shape == (224, 224, 3)
