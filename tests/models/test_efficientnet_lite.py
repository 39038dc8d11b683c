"""EfficientNet-Lite0 against timm's, with the published weights and without."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from handlens.models import build
from handlens.models.cost import multiply_adds, parameters
from handlens.models.loading import load_into, to_our_names
from handlens.models.pretrained import load_weights
from handlens.weights import SOURCES


def to_timm(published: dict[str, torch.Tensor], reference: torch.nn.Module) -> dict[str, torch.Tensor]:
    """By order: both list their layers from the images to the logits, and every shape is checked on loading."""
    return dict(zip(reference.state_dict(), published.values(), strict=True))


def test_with_the_published_weights_it_gives_timms_logits(published, published_file, shared_data):
    published("efficientnet_lite0")
    ours = build("efficientnet_lite0", num_classes=1000).eval()
    assert load_into(ours, load_weights("efficientnet_lite0"), new_head=False) is None
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(to_timm(torch.load(published_file("efficientnet_lite0"), weights_only=True), theirs))
    files = sorted((shared_data / "imagenet_val500" / "images").iterdir())[::100]
    assert len(files) == 5
    preprocess = SOURCES["efficientnet_lite0"].preprocess
    pixels = np.stack([preprocess.pixels(np.asarray(Image.open(file).convert("RGB"))) for file in files])
    images = torch.from_numpy(preprocess.normalize(pixels)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (98, 63)])
def test_it_is_timms_at_odd_and_even_sizes(size, with_batch_norm_statistics, random_images):
    theirs = with_batch_norm_statistics(timm.create_model("tf_efficientnet_lite0", num_classes=20))
    ours = build("efficientnet_lite0", num_classes=20).eval()
    load_into(ours, to_our_names(theirs.state_dict()), new_head=False)
    images = random_images(2, height=size[0], width=size[1])
    with torch.inference_mode():
        expected = theirs(images)
        assert (expected[0] - expected[1]).abs().max() > 1e-2
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)


def test_it_has_the_published_size():
    with torch.device("meta"):
        net = build("efficientnet_lite0", num_classes=1000)
    assert parameters(net) == 4_652_008
    assert multiply_adds(net, height=224, width=224) / 1e6 == pytest.approx(407, rel=0.06)  # TensorFlow's README: 407 M


def test_its_maps_are_b0s():
    maps = build("efficientnet_lite0", num_classes=2).maps
    assert [maps[f"block{number}"][0] for number in range(1, 17)] == [
        16,
        24,
        24,
        40,
        40,
        80,
        80,
        80,
        112,
        112,
        112,
        192,
        192,
        192,
        192,
        320,
    ]
    assert maps["stem"] == (32, 2)
    assert maps["head"] == (1280, 32)
    assert "block17" not in maps
