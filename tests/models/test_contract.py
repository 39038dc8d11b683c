"""What every classifier of the catalogue promises."""

from __future__ import annotations

import copy
import inspect
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from bf16 import in_both
from families import family_first, small
from handlens.models import CATALOGUE, backbone, build
from handlens.models.backbones import BACKBONES
from handlens.models.blocks import freeze_batch_norm
from handlens.models.loading import load_into
from handlens.models.pretrained import load_weights
from handlens.preprocess import SCALINGS, Preprocess
from handlens.runtimes.graph import DeployGraph
from handlens.tasks import TASKS
from handlens.weights import SOURCES

CLASSIFIERS = [name for name, entry in CATALOGUE.items() if entry.task == "classify"]
FOR_ONE_SIZE = {"dense", "lenet5", "lenet_color", "mobilenet_v1_mnist", "simple_convnet"}  # they flatten a map
ROUNDED_DOWN = {
    "alexnet",
    "googlenet",
    "residual_convnet",
    "xception",
    "mini_xception",
}  # no padding, or pooling without
# With their norms folded or frozen: behind a convolution, alone, behind the activation, before the convolution.
FROZEN = {"mobilenet_v2", "googlenet", "mobilenet_v1_mnist", "mini_xception"}
pytestmark = pytest.mark.parametrize("name", family_first(CLASSIFIERS), scope="module")  # each is built once


@pytest.fixture(scope="module")
def shape(name):
    """Of images that the net takes."""
    side = CATALOGUE[name].image_size if name in FOR_ONE_SIZE else 96
    parameters = inspect.signature(CATALOGUE[name].constructor).parameters
    return {"height": side, "width": side, "channels": parameters["in_channels"].default}


@pytest.fixture(scope="module")
def built(name, shape, with_batch_norm_statistics):
    torch.manual_seed(0)
    return with_batch_norm_statistics(build(name, num_classes=7, **small(name)), **shape)


@pytest.fixture
def net(built):
    return copy.deepcopy(built)


@pytest.fixture
def images_of(random_images, shape):
    """Makes images for the net."""
    return lambda count, **other: random_images(count, **shape | other)


def test_two_images_in_two_rows_of_logits_out(net, images_of):
    images = images_of(2)
    with torch.inference_mode():
        logits, alone = net(images), net(images[:1])
    assert logits.shape == (2, 7)
    assert (logits[0] - logits[1]).abs().max() > 1e-2  # else nothing below could fail
    # Images do not mix; other batch sizes may round otherwise.
    torch.testing.assert_close(logits[:1], alone, rtol=0, atol=1e-4 * float(logits.abs().max()))


def test_forward_is_the_classifier_of_the_embedding(net, images_of):
    images = images_of(2)
    with torch.inference_mode():
        embedded = net.embed(images)
        assert isinstance(net.classifier, nn.Linear)
        assert embedded.shape == (2, net.classifier.in_features)
        torch.testing.assert_close(net(images), net.classifier(embedded))
        if "head" in net.maps:
            torch.testing.assert_close(net.features(images)["head"].mean(dim=(2, 3)), embedded)


@pytest.mark.parametrize("size", [(96, 96), (97, 131)])
def test_maps_are_as_promised(net, images_of, name, size):
    other = {} if name in FOR_ONE_SIZE else {"height": size[0], "width": size[1]}
    images = images_of(1, **other)
    with torch.inference_mode():
        made = net.features(images)
    assert list(made) == list(net.maps)
    for number, (place, (channels, stride)) in enumerate(net.maps.items(), start=1):
        assert made[place].shape[:2] == (1, channels)
        for side, found in zip(images.shape[2:], made[place].shape[2:], strict=True):
            most = math.ceil(side / stride)
            least = most - 4 * number if name in FOR_ONE_SIZE | ROUNDED_DOWN or name.startswith("vgg") else most
            assert least <= found <= most, place


@pytest.mark.parametrize("size", [(97, 131), (64, 65)])
def test_any_size_from_the_smallest_up(net, images_of, name, size):
    if name in FOR_ONE_SIZE:
        with pytest.raises(ValueError, match=rf"got {size[0]} x {size[1]}; build it with image_size"):
            net(images_of(1, height=size[0], width=size[1]))
        return
    smallest = getattr(net, "smallest", 1)
    height, width = (max(side, smallest) for side in size)
    with torch.inference_mode():
        logits = net(images_of(2, height=height, width=width))
        assert logits.shape == (2, 7)
        assert logits.isfinite().all()
        assert net(images_of(2, height=smallest, width=smallest)).isfinite().all()
        if smallest > 1:
            with pytest.raises(ValueError, match=f"{smallest} x {smallest} pixels, got {smallest - 1} x 80"):
                net(images_of(1, height=smallest - 1, width=80))


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_and_one_class(name, shape, channels, with_batch_norm_statistics, random_images):
    shape = shape | {"channels": channels}
    net = with_batch_norm_statistics(build(name, num_classes=1, in_channels=channels, **small(name)), **shape)
    assert net(random_images(2, **shape)).shape == (2, 1)


def test_it_can_be_cut_for_other_tasks(name, images_of):
    """Nothing behind the asked map is built, so that every parameter learns."""
    if name in FOR_ONE_SIZE:
        assert name not in BACKBONES
        return
    with torch.device("meta"):
        blocks = [place for place in build(name, num_classes=1).maps if place.startswith("block")]
    extractor = backbone(name, maps=(blocks[len(blocks) // 2], blocks[-1])).train()
    made = extractor(images_of(2))
    assert {asked: made[asked].shape[1] for asked in made} == extractor.channels
    sum((value * torch.randn_like(value)).sum() for value in made.values()).backward()
    assert [key for key, parameter in extractor.named_parameters() if parameter.grad is None] == []


def test_every_parameter_gets_a_gradient(net, images_of):
    nn.functional.cross_entropy(net.train()(images_of(4)), torch.tensor([0, 1, 2, 6])).backward()
    without = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_saved_and_loaded_it_answers_alike(name, net, images_of, tmp_path):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other = build(name, num_classes=7, **small(name)).eval()
    images = images_of(1)
    with torch.inference_mode():
        assert not torch.equal(other(images), net(images))
        other.load_state_dict(load_file(tmp_path / "net.safetensors"))
        assert torch.equal(other(images), net(images))


def test_exported_it_answers_alike_for_any_batch(name, net, images_of):
    if name in FROZEN:  # of one with each place of a norm: the others are as they are built
        freeze_batch_norm(net)
        net.eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        program = torch.export.export(net, (images_of(2),), dynamic_shapes=({0: batch},))
        for count in (1, 5):
            images = images_of(count)
            expected = net(images)
            torch.testing.assert_close(
                program.module()(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max())
            )


def test_bf16_on_a_cpu_is_close(name, published, shared_data):
    """With published weights: random ones enlarge every rounding error."""
    if name not in CATALOGUE[name].weights:
        pytest.skip(
            "no package index has its weights; tests/test_learning.py and tests/test_recipes.py compare what learned"
        )
    published(name)
    net = build(name, num_classes=1000).eval()
    load_into(net, load_weights(name), new_head=False)
    files = sorted((shared_data / "imagenet_val500" / "images").iterdir())[::50]
    assert len(files) == 10
    preprocess = SOURCES[name].preprocess
    pixels = np.stack([preprocess.pixels(np.asarray(Image.open(file).convert("RGB"))) for file in files])
    exact, rough = in_both(net, preprocess.normalize(pixels))
    assert (rough.argmax(dim=1) == exact.argmax(dim=1)).sum() >= 9
    assert (rough - exact).abs().mean(dim=0).max() < 0.02


def test_training_in_bf16_with_frozen_statistics_moves_every_weight(net, images_of):
    freeze_batch_norm(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(net.train()(images_of(1)), torch.tensor([6]))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_catalogue_says_how_to_feed_it(name, net, shape):
    entry = CATALOGUE[name]
    mean, std = SCALINGS[entry.scaling]
    size = entry.image_size
    channels = shape["channels"]
    color = "gray" if channels == 1 else "rgb"
    preprocess = Preprocess(
        height=size, width=size, short_side=size, color=color, mean=mean[:channels], std=std[:channels]
    )
    graph = DeployGraph(net, preprocess, last_step=TASKS["classify"].last_step).eval()
    with torch.inference_mode():
        probabilities = graph(torch.randint(0, 256, (2, size, size, channels), dtype=torch.uint8))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))
