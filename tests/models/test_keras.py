"""Our nets against Keras's, or against nets written in Keras as the textbook has them: same weights, same answers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")  # before it is imported

import keras
from keras import layers

from handlens.models import build

pytestmark = pytest.mark.slow  # Keras's models, built and run


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)


def tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(keras.ops.convert_to_numpy(values)))


def units(layer: Any) -> Iterator[dict[str, torch.Tensor]]:
    """The weights of a Keras layer by PyTorch's names, one dict per layer that PyTorch would have."""
    bias = {} if getattr(layer, "bias", None) is None else {"bias": tensor(layer.bias)}
    if isinstance(layer, layers.SeparableConv2D):
        yield {"weight": tensor(layer.depthwise_kernel).permute(2, 3, 0, 1)}
        yield {"weight": tensor(layer.pointwise_kernel).permute(3, 2, 0, 1)} | bias
    elif isinstance(layer, layers.DepthwiseConv2D):
        yield {"weight": tensor(layer.kernel).permute(2, 3, 0, 1)} | bias
    elif isinstance(layer, layers.Conv2D | layers.Conv2DTranspose):  # (rows, columns, in, out); transposed: out, in
        yield {"weight": tensor(layer.kernel).permute(3, 2, 0, 1)} | bias
    elif isinstance(layer, layers.Dense):
        yield {"weight": tensor(layer.kernel).T} | bias
    elif isinstance(layer, layers.BatchNormalization):
        yield {
            "weight": tensor(layer.gamma),
            "bias": tensor(layer.beta),
            "running_mean": tensor(layer.moving_mean),
            "running_var": tensor(layer.moving_variance),
        }


def transfer(theirs: Sequence[Any], net: nn.Module, *, flattened: tuple[int, int, int] | None = None) -> None:
    """Copy every weight, theirs in the order of our modules.

    Args:
        flattened: (rows, columns, channels) of the map that the first dense layer sees: Keras flattens channels last.
    """
    found = [unit for layer in theirs for unit in units(layer)]
    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d
    ours = [module for module in net.modules() if isinstance(module, kinds)]
    assert len(ours) == len(found)
    for module, unit in zip(ours, found, strict=True):
        if isinstance(module, nn.Linear) and flattened is not None:
            rows, columns, channels = flattened
            weight = unit["weight"].reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
            unit, flattened = unit | {"weight": weight.flatten(1)}, None
        if isinstance(module, nn.Conv2d) and unit["weight"].dim() == 2:  # a classifier that Keras has as 1 x 1
            unit = unit | {"weight": unit["weight"][:, :, None, None]}
        if isinstance(module, nn.Linear) and unit["weight"].dim() == 4:
            unit = unit | {"weight": unit["weight"].flatten(1)}
        missing, unexpected = module.load_state_dict(unit, strict=False)
        assert unexpected == [] and set(missing) <= {"num_batches_tracked"}
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3  # Keras's
    return


def randomise(model: Any, *, scale: float = 1.0) -> None:
    """Statistics and biases that are not 0 and 1; `scale` of the norms keeps activations below a ReLU6's bend."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        shape = weight.shape
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(rng.uniform(0.5, 1.0, shape) * (scale if weight.path.endswith("gamma") else 1.0))
        elif weight.path.endswith(("beta", "bias", "moving_mean")):
            weight.assign(rng.normal(0, 0.1, shape))


def settle(model: Any, *, size: tuple[int, int], channels: int = 3) -> None:
    """Take the norms' statistics from images: what comes out of a deep net would otherwise be the same for all."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(random_images(8, size, channels), training=True)


def random_images(count: int, size: tuple[int, int], channels: int) -> Any:
    """(count, height, width, channels): blobs, which do not average out."""
    coarse = np.random.default_rng(1).normal(0, 1, (count, -(-size[0] // 16), -(-size[1] // 16), channels))
    return np.kron(coarse, np.ones((1, 16, 16, 1)))[:, : size[0], : size[1]].astype(np.float32)


def assert_alike(model: Any, net: nn.Module, *, size: tuple[int, int], channels: int = 3) -> None:
    """Answers and counts; Keras's `count_params` counts statistics too."""
    images = random_images(2, size, channels)
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    with torch.inference_mode():
        logits = net.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    expected = np.moveaxis(expected, -1, 1)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    state = net.state_dict()
    assert model.count_params() == sum(v.numel() for k, v in state.items() if not k.endswith("num_batches_tracked"))


def test_mobilenet_v1() -> None:
    """Keras's has ReLU6; below 6 it is ReLU."""
    model = keras.applications.MobileNet(weights=None, classes=7, classifier_activation=None, input_shape=(96, 128, 3))
    randomise(model, scale=0.5)
    settle(model, size=(96, 128))
    net = build("mobilenet_v1", num_classes=7, padding="same")
    transfer(model.layers, net)
    assert_alike(model, net, size=(96, 128))


def test_the_small_mobilenet_v1() -> None:
    """ReLU before batch norm, pointwise before depthwise, nothing strided: the form in circulation."""
    model = keras.Sequential([keras.Input((28, 28, 1))])
    made = [layers.Conv2D(32, 3, padding="same", activation="relu")]
    for channels in (64, 128, 256, 512, 1024):
        made += [
            layers.Conv2D(channels, 1, activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
        ]
    for layer in made:
        model.add(layer)
        model.add(layers.BatchNormalization())
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    randomise(model)
    settle(model, size=(28, 28), channels=1)
    net = build("mobilenet_v1_mnist", num_classes=10)
    transfer(model.layers, net, flattened=(28, 28, 1024))
    assert_alike(model, net, size=(28, 28), channels=1)
    assert model.count_params() == 8_764_682


def test_xception() -> None:
    model = keras.applications.Xception(weights=None, classes=7, classifier_activation=None, input_shape=(101, 128, 3))
    randomise(model)
    settle(model, size=(101, 128))
    named = {layer.name: layer for layer in model.layers}
    # Ours have a block's projection behind its separable convolutions.
    projections = sorted(
        (name for name in named if re.fullmatch(r"conv2d(_\d+)?", name)), key=lambda name: int("0" + name[7:])
    )
    norms = sorted(
        (name for name in named if re.fullmatch(r"batch_normalization(_\d+)?", name)),
        key=lambda name: int("0" + name[20:]),
    )
    order: list[str] = []
    for number in range(1, 15):
        order += [name for name in named if name.startswith(f"block{number}_") and not name.endswith("pool")]
        if number in (2, 3, 4, 13):
            order += [projections.pop(0), norms.pop(0)]
    net = build("xception", num_classes=7)
    transfer([named[name] for name in [*order, "predictions"]], net)
    assert_alike(model, net, size=(101, 128))


def test_lenet() -> None:
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10),
        ]
    )
    randomise(model)
    net = build("lenet5", num_classes=10)
    transfer(model.layers, net, flattened=(5, 5, 16))
    assert_alike(model, net, size=(28, 28), channels=1)


def test_simple_convnet() -> None:
    """Chollet 2021, listing 8.7."""
    model = keras.Sequential([keras.Input((180, 180, 3))])
    for channels in (32, 64, 128, 256):
        model.add(layers.Conv2D(channels, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
    for layer in (layers.Conv2D(256, 3, activation="relu"), layers.Flatten(), layers.Dense(1)):
        model.add(layer)
    randomise(model)
    net = build("simple_convnet", num_classes=1)
    transfer(model.layers, net, flattened=(7, 7, 256))
    assert_alike(model, net, size=(180, 180))


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_residual_convnet(size: tuple[int, int]) -> None:
    """Chollet 2021, section 9.3.2."""
    inputs = x = keras.Input((*size, 3))
    used = []
    for channels, pooling in ((32, True), (64, True), (128, False)):
        first = layers.Conv2D(channels, 3, activation="relu", padding="same")
        second = layers.Conv2D(channels, 3, activation="relu", padding="same")
        projection = layers.Conv2D(channels, 1, strides=2 if pooling else 1)
        out = second(first(x))
        x = layers.add([layers.MaxPooling2D(2, padding="same")(out) if pooling else out, projection(x)])
        used += [first, second, projection]
    last = layers.Dense(1)
    model = keras.Model(inputs, last(layers.GlobalAveragePooling2D()(x)))
    randomise(model)
    net = build("residual_convnet", num_classes=1)
    transfer([*used, last], net)
    assert_alike(model, net, size=size)


@pytest.mark.parametrize("size", [(180, 180), (96, 65)])
def test_mini_xception(size: tuple[int, int]) -> None:
    """Chollet 2021, section 9.3.5."""
    inputs = keras.Input((*size, 3))
    stem = layers.Conv2D(32, 5, use_bias=False)
    x, used = stem(inputs), [stem]
    for channels in (32, 64, 128, 256, 512):
        parts = [
            layers.BatchNormalization(),
            layers.SeparableConv2D(channels, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.SeparableConv2D(channels, 3, padding="same", use_bias=False),
        ]
        projection = layers.Conv2D(channels, 1, strides=2, padding="same", use_bias=False)
        out = x
        for norm, conv in zip(parts[::2], parts[1::2], strict=True):
            out = conv(layers.ReLU()(norm(out)))
        x = layers.add([layers.MaxPooling2D(3, strides=2, padding="same")(out), projection(x)])
        used += [*parts, projection]
    last = layers.Dense(1)
    model = keras.Model(inputs, last(layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))))
    randomise(model)
    net = build("mini_xception", num_classes=1)
    transfer([*used, last], net)
    assert_alike(model, net, size=size)


def test_encoder_decoder() -> None:
    """Chollet 2021, section 9.2, at a size that is no multiple of 16; our logits, its softmax left out."""
    model = keras.Sequential([keras.Input((200, 136, 3))])
    for channels in (64, 128, 256):
        model.add(layers.Conv2D(channels, 3, strides=2, activation="relu", padding="same"))
        model.add(layers.Conv2D(channels, 3, activation="relu", padding="same"))
    for channels in (256, 128, 64):
        model.add(layers.Conv2DTranspose(channels, 3, activation="relu", padding="same"))
        model.add(layers.Conv2DTranspose(channels, 3, activation="relu", padding="same", strides=2))
    model.add(layers.Conv2D(3, 3, padding="same"))
    randomise(model)
    net = build("encoder_decoder", num_classes=3)
    transfer(model.layers, net)
    assert_alike(model, net, size=(200, 136))
