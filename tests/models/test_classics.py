"""The classic nets against torchvision's, with the same weights, and against the published counts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from handlens.models import CATALOGUE, build
from handlens.models.cost import parameters
from handlens.models.layouts import to_our_names
from handlens.models.weights import load_into

# Parameters with the classes and options given; trainable ones alone, as papers and torchvision count them.
PUBLISHED = [
    ("dense", {"num_classes": 10}, 101_770),
    ("lenet5", {"num_classes": 10}, 61_706),
    ("lenet5", {"num_classes": 10, "image_size": 32}, 61_706),
    ("lenet_color", {"num_classes": 2}, 46_038_242),
    ("alexnet", {"num_classes": 1000}, 61_100_840),
    ("alexnet", {"num_classes": 1000, "two_towers": True}, 60_965_224),
    ("vgg11", {"num_classes": 1000}, 132_863_336),
    ("vgg11_bn", {"num_classes": 1000}, 132_868_840),
    ("vgg13", {"num_classes": 1000}, 133_047_848),
    ("vgg13_bn", {"num_classes": 1000}, 133_053_736),
    ("vgg16", {"num_classes": 1000}, 138_357_544),
    ("vgg19", {"num_classes": 1000}, 143_667_240),
    ("googlenet", {"num_classes": 1000}, 6_624_904),
    ("googlenet", {"num_classes": 1000, "auxiliary": True}, 13_004_888),
    ("googlenet", {"num_classes": 1000, "kernel": 5}, 7_005_832),
    ("googlenet", {"num_classes": 1000, "kernel": 5, "batch_norm": False}, 6_998_552),
    ("resnet18", {"num_classes": 1000}, 11_689_512),
    ("resnet34", {"num_classes": 1000}, 21_797_672),
    ("resnet50", {"num_classes": 1000}, 25_557_032),
    ("resnet101", {"num_classes": 1000}, 44_549_160),
    ("resnet152", {"num_classes": 1000}, 60_192_808),
    ("mobilenet_v1", {"num_classes": 1000}, 4_231_976),
    ("mobilenet_v1_mnist", {"num_classes": 10}, 8_756_682),
    ("simple_convnet", {"num_classes": 1}, 991_041),
    ("residual_convnet", {"num_classes": 1}, 297_697),
    ("mini_xception", {"num_classes": 1}, 718_849),
    ("xception", {"num_classes": 1000}, 22_855_952),
]


@pytest.mark.parametrize(("name", "options", "count"), PUBLISHED)
def test_it_has_the_published_number_of_parameters(name, options, count):
    with torch.device("meta"):
        assert parameters(build(name, **options)) == count


def keras_count(net: nn.Module) -> int:
    """With the statistics of batch norms, as Keras prints its totals."""
    return sum(value.numel() for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [("mini_xception", 1, 721_857), ("mobilenet_v1_mnist", 10, 8_764_682), ("xception", 1000, 22_910_480)],
)
def test_with_statistics_it_has_the_number_that_keras_prints(name, classes, count):
    with torch.device("meta"):
        assert keras_count(build(name, num_classes=classes)) == count


THEIRS = {
    name: getattr(torchvision.models, name)
    for name in CATALOGUE
    if name.startswith(("alexnet", "vgg", "resnet"))
} | {
    "googlenet": partial(torchvision.models.googlenet, transform_input=False, init_weights=False)
}  # fmt: skip


@pytest.mark.parametrize("name", list(THEIRS))
def test_with_the_same_weights_it_gives_torchvisions_logits(name, pictures, with_batch_norm_statistics):
    """Through the names of torchvision's files, as published weights and people's own come."""
    theirs = THEIRS[name](num_classes=7)
    if any(isinstance(module, nn.BatchNorm2d) for module in theirs.modules()):
        theirs = with_batch_norm_statistics(theirs)
    ours = build(name, num_classes=7)
    load_into(ours, to_our_names(theirs.state_dict()), new_head=False)
    images = pictures(2, height=96, width=131)
    with torch.inference_mode():
        expected, logits = theirs.eval()(images), ours.eval()(images)
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
