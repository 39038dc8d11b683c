"""What every classifier of the catalogue promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from handlens.deploy.graph import DeployGraph
from handlens.models import CATALOGUE, build
from handlens.models.blocks import freeze_batch_norm
from handlens.models.weights import SOURCES, load_into, load_weights
from handlens.preprocess import SCALINGS, Preprocess

CLASSIFIERS = [name for name, entry in CATALOGUE.items() if entry.task == "classify"]
pytestmark = pytest.mark.parametrize("name", CLASSIFIERS)


@pytest.fixture
def net(name, with_batch_norm_statistics):
    return with_batch_norm_statistics(build(name, num_classes=7))


def test_two_pictures_in_two_rows_of_logits_out(net, pictures):
    images = pictures(2)
    with torch.inference_mode():
        logits, alone = net(images), net(images[:1])
    assert logits.shape == (2, 7)
    assert (logits[0] - logits[1]).abs().max() > 1e-2  # else nothing below could fail
    # Pictures do not mix; other batch sizes may round otherwise.
    torch.testing.assert_close(logits[:1], alone, rtol=0, atol=1e-4 * float(logits.abs().max()))


def test_forward_is_the_classifier_of_the_embedding(net, pictures):
    images = pictures(2)
    with torch.inference_mode():
        embedded = net.embed(images)
        assert isinstance(net.classifier, nn.Linear)
        assert embedded.shape == (2, net.classifier.in_features)
        torch.testing.assert_close(net(images), net.classifier(embedded))
        torch.testing.assert_close(net.features(images)["head"].mean(dim=(2, 3)), embedded)


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
def test_maps_are_as_promised(net, pictures, size):
    with torch.inference_mode():
        made = net.features(pictures(1, height=size[0], width=size[1]))
    assert list(made) == list(net.maps)
    for name, (channels, stride) in net.maps.items():
        assert made[name].shape == (1, channels, *(math.ceil(side / stride) for side in size)), name


@pytest.mark.parametrize("size", [(97, 131), (33, 32), (224, 224)])
def test_any_size(net, pictures, size):
    with torch.inference_mode():
        logits = net(pictures(2, height=size[0], width=size[1]))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


def test_one_channel(name, with_batch_norm_statistics, pictures):
    net = with_batch_norm_statistics(build(name, num_classes=2, in_channels=1))
    assert net(pictures(2, channels=1)).shape == (2, 2)


def test_every_parameter_gets_a_gradient(net, pictures):
    nn.functional.cross_entropy(net.train()(pictures(4)), torch.tensor([0, 1, 2, 6])).backward()
    without = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_saved_and_loaded_it_answers_alike(name, net, pictures, tmp_path):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other = build(name, num_classes=7).eval()
    images = pictures(1)
    with torch.inference_mode():
        assert not torch.equal(other(images), net(images))
        other.load_state_dict(load_file(tmp_path / "net.safetensors"))
        assert torch.equal(other(images), net(images))


@pytest.mark.parametrize("folded", [False, True])
def test_exported_it_answers_alike_for_any_batch(net, pictures, folded):
    if folded:
        freeze_batch_norm(net)
        net.eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        program = torch.export.export(net, (pictures(2),), dynamic_shapes=({0: batch},))
        for count in (1, 5):
            images = pictures(count)
            expected = net(images)
            torch.testing.assert_close(
                program.module()(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max())
            )


def test_bf16_on_a_cpu_is_close(name, published, shared_data):
    """With published weights: random ones enlarge every rounding error."""
    published(name)
    net = build(name, num_classes=1000).eval().to(memory_format=torch.channels_last)
    load_into(net, load_weights(name), new_head=False)
    files = sorted((shared_data / "imagenet_val500" / "images").iterdir())[::25]
    assert len(files) == 20
    preprocess = SOURCES[name].preprocess
    pixels = np.stack([preprocess.pixels(np.asarray(Image.open(file).convert("RGB"))) for file in files])
    images = torch.from_numpy(preprocess.normalise(pixels)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        exact = net(images).softmax(dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(images)
    assert logits.dtype == torch.bfloat16
    rough = logits.float().softmax(dim=1)
    assert (rough.argmax(dim=1) == exact.argmax(dim=1)).sum() >= 18
    assert (rough - exact).abs().mean(dim=0).max() < 0.02


def test_training_in_bf16_with_frozen_statistics_moves_every_weight(net, pictures):
    freeze_batch_norm(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(net.train()(pictures(4)), torch.tensor([0, 1, 2, 6]))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_catalogue_says_how_to_feed_it(name, net):
    entry = CATALOGUE[name]
    mean, std = SCALINGS[entry.scaling]
    size = entry.image_size
    graph = DeployGraph(net, Preprocess(height=size, width=size, short_side=size, mean=mean, std=std)).eval()
    with torch.inference_mode():
        probabilities = graph(torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))
