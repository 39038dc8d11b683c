"""What every segmenter and detector gives to compare images by; classifiers: test_contract.py."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from families import family_first
from handlens.models import CATALOGUE, backbone, build

OTHERS = [name for name, entry in CATALOGUE.items() if entry.task != "classify"]
VARIANTS = {name: (name, {}) for name in OTHERS} | {
    "unet on MobileNetV2": ("unet", {"backbone": "mobilenet_v2", "batch_norm": True}),
    "deeplab_v3, decoder": ("deeplab_v3", {"decoder": 32}),
    "ssdlite on ResNet-18": ("ssdlite", {"backbone": "resnet18"}),
}


@pytest.mark.parametrize("variant", family_first(VARIANTS))
def test_an_embedding_per_image(variant, with_batch_norm_statistics, random_images):
    name, options = VARIANTS[variant]
    known = inspect.signature(CATALOGUE[name].constructor).parameters
    slim = {"width": 0.25} if name == "unet" else {}
    net = with_batch_norm_statistics(build(name, num_classes=3, **options, **slim))
    images = random_images(2, height=97, width=120, channels=known["in_channels"].default)
    with torch.inference_mode():
        both, alone = net.embed(images), net.embed(images[:1])
    assert both.shape[0] == 2 and both.ndim == 2 and both.shape[1] >= 64
    assert (both[0] - both[1]).abs().max() > 1e-2
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-4 * float(both.abs().max()))


@pytest.mark.parametrize("maps", [("head", "s8"), ("s8", "head")])
def test_a_backbone_gives_what_its_classifier_is_fed(maps, with_batch_norm_statistics, random_images):
    whole = with_batch_norm_statistics(build("mobilenet_v2", num_classes=3))
    cut = backbone("mobilenet_v2", maps=maps)
    cut.load_state_dict(cut.part_of(whole.state_dict())[0])
    assert cut.deepest == "head" and not isinstance(cut.head, nn.Identity)
    with torch.inference_mode():
        images = random_images(2)
        torch.testing.assert_close(cut.eval().embed(images), whole.embed(images))
