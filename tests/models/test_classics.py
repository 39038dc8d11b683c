"""The classic nets against torchvision's, with the same weights, and against the published counts."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn

from families import small
from handlens.models import CATALOGUE, build
from handlens.models.cost import parameters
from handlens.models.loading import load_into, to_our_names
from handlens.reporter import QUIET
from handlens.tasks.image_level import start_image_model
from handlens.training.recipe_file import make_recipe

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


@pytest.mark.parametrize(
    ("name", "options", "least"), [("lenet5", {}, 12), ("lenet5", {"padding": 0}, 16), ("simple_convnet", {}, 78)]
)
def test_a_net_that_flattens_says_its_least_size(name, options, least):
    net = build(name, num_classes=2, image_size=least, **options)
    assert net(torch.rand(1, 1 if name == "lenet5" else 3, least, least)).isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} x {least} are needed"):
        build(name, num_classes=2, image_size=(200, least - 1), **options)


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


def two_towers(classes: int) -> nn.Module:
    """Krizhevsky et al. 2012, section 3.5, layer by layer; only the third convolution sees both towers."""
    normalize = partial(nn.LocalResponseNorm, 5, alpha=5 * 1e-4, beta=0.75, k=2.0)
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4, padding=2),
        nn.ReLU(),
        normalize(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(),
        normalize(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 64),  # 4096 in the paper
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


class Reference(nn.Module):
    """An Inception module, of plain layers of torch."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(channels, one, 1), nn.ReLU())
        self.three = nn.Sequential(
            nn.Conv2d(channels, three[0], 1), nn.ReLU(), nn.Conv2d(three[0], three[1], 3, padding=1), nn.ReLU()
        )
        self.five = nn.Sequential(
            nn.Conv2d(channels, five[0], 1), nn.ReLU(), nn.Conv2d(five[0], five[1], 5, padding=2), nn.ReLU()
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(channels, pooled, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in (self.one, self.three, self.five, self.pooled)], dim=1)


def papers_googlenet(classes: int) -> nn.Module:
    """Szegedy et al. 2014, Figure 3 and Table 1, without its auxiliary heads."""
    normalize = partial(nn.LocalResponseNorm, 5, alpha=5 * 1e-4, beta=0.75, k=2.0)
    halve = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3),
        nn.ReLU(),
        halve(),
        normalize(),
        nn.Conv2d(64, 64, 1),
        nn.ReLU(),
        nn.Conv2d(64, 192, 3, padding=1),
        nn.ReLU(),
        normalize(),
        halve(),
        Reference(192, 64, (96, 128), (16, 32), 32),
        Reference(256, 128, (128, 192), (32, 96), 64),
        halve(),
        Reference(480, 192, (96, 208), (16, 48), 64),
        Reference(512, 160, (112, 224), (24, 64), 64),
        Reference(512, 128, (128, 256), (24, 64), 64),
        Reference(512, 112, (144, 288), (32, 64), 64),
        Reference(528, 256, (160, 320), (32, 128), 128),
        halve(),
        Reference(832, 256, (160, 320), (32, 128), 128),
        Reference(832, 384, (192, 384), (48, 128), 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1024, classes),
    )


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("alexnet", {"two_towers": True, "hidden": 64}, two_towers),
        ("googlenet", {"kernel": 5, "batch_norm": False}, papers_googlenet),
    ],
)
def test_the_papers_own_form_answers_as_one_of_plain_layers(name, options, reference, random_images):
    theirs = reference(7).eval()
    ours = build(name, num_classes=7, **options).eval()
    kinds = (nn.Conv2d, nn.Linear)
    pairs = [[module for module in net.modules() if isinstance(module, kinds)] for net in (theirs, ours)]
    for one, other in zip(*pairs, strict=True):  # both in the order of the paper
        nn.init.kaiming_normal_(one.weight)
        nn.init.normal_(one.bias, 0, 0.1)
        other.load_state_dict(one.state_dict())
    images = 3 * random_images(2, height=224, width=224)  # large enough that the normalization counts
    with torch.inference_mode():
        expected, logits = theirs(images), ours(images)
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_relu_between_depthwise_and_pointwise_can_be_left_out(random_images, with_batch_norm_statistics):
    net = with_batch_norm_statistics(build("mobilenet_v1", num_classes=7))
    without = build("mobilenet_v1", num_classes=7, act_between=False).eval()
    without.load_state_dict(net.state_dict())
    images = random_images(2)
    with torch.inference_mode():
        assert not torch.allclose(net(images), without(images), rtol=0.01)
        before = net.stem(images)
        first = net.blocks[0]
        bare = first.pointwise(first.depthwise.norm(first.depthwise.conv(before)))
        assert torch.equal(without.blocks[0](before), bare)
        assert not torch.equal(first(before), bare)


def test_dropout_is_the_papers_unless_asked_otherwise():
    wanted = {
        "mobilenet_v2": 0.2,
        "mini_xception": 0.5,
        "xception": 0.5,
        "alexnet": 0.5,
        "vgg16": 0.5,
        "googlenet": 0.4,
        "resnet50": 0.0,
        "lenet5": 0.0,
        "mobilenet_v1": 1e-3,
    }
    for name, share in wanted.items():
        for options, expected in (({}, share), ({"dropout": 0.3}, 0.3)):
            recipe = make_recipe({"model": name, "mode": "scratch"} | options).settled("scratch")
            with torch.device("meta"):
                net = start_image_model(recipe, 3, QUIET).net
            assert net.dropout.p == expected, name


ODD_BATCHES = """
import torch
from handlens.models import build

net = build("residual_convnet", num_classes=5).to(memory_format=torch.channels_last)
for _ in range(60):
    images = torch.rand(13, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    torch.nn.functional.cross_entropy(net(images), torch.randint(0, 5, (13,))).backward()
"""


@pytest.mark.slow
def test_an_odd_number_of_images_does_not_write_beyond_its_memory():
    """With the textbook's strided projection most processes of this kind died on a CPU with AVX-512."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", ODD_BATCHES], env=os.environ | {"MALLOC_CHECK_": "3"}, check=False, timeout=120
        )
        assert done.returncode == 0


THEIRS = {
    name: getattr(torchvision.models, name) for name in CATALOGUE if name.startswith(("alexnet", "vgg", "resnet"))
} | {"googlenet": partial(torchvision.models.googlenet, transform_input=False, init_weights=False)}


def torchvisions(name: str) -> nn.Module:
    """Torchvision's net for 7 classes, with 64 units in a hidden dense layer as ours is built by `small`."""
    if not small(name):
        return THEIRS[name](num_classes=7)
    with torch.device("meta"):
        net = THEIRS[name](num_classes=7)
    for module in net.features.to_empty(device="cpu"):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    dense = [number for number, layer in enumerate(net.classifier) if isinstance(layer, nn.Linear)]
    widths = [net.classifier[dense[0]].in_features, 64, 64, 7]
    for number, (inside, outside) in zip(dense, pairwise(widths), strict=True):
        net.classifier[number] = nn.Linear(inside, outside)
    return net


@pytest.mark.parametrize("name", list(THEIRS))
def test_with_the_same_weights_it_gives_torchvisions_logits(name, random_images, with_batch_norm_statistics):
    """Through the names of torchvision's files, as published weights and people's own come."""
    theirs = torchvisions(name)
    if any(isinstance(module, nn.BatchNorm2d) for module in theirs.modules()):
        theirs = with_batch_norm_statistics(theirs)
    ours = build(name, num_classes=7, **small(name))
    load_into(ours, to_our_names(theirs.state_dict()), new_head=False)
    images = random_images(2, height=96, width=131)
    with torch.inference_mode():
        expected, logits = theirs.eval()(images), ours.eval()(images)
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
