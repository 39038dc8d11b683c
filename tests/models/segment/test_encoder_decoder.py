"""The encoder-decoder against its published size and against what TensorFlow's SAME means."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from handlens.models import build
from handlens.models.cost import parameters
from handlens.models.segment.encoder_decoder import StridedConv, StridedTransposedConv


def test_it_has_the_published_size():
    """As Keras prints it for 200 x 200 x 3 and 3 classes."""
    assert parameters(build("encoder_decoder", num_classes=3)) == 2_880_643


def test_maps_halve_three_times_and_double_again():
    net, shapes = build("encoder_decoder", num_classes=3), []
    for layer in (*net.encoder, *net.decoder):
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:3])))
    net(torch.zeros(1, 3, 200, 200))
    assert shapes == [
        (64, 100),
        (64, 100),
        (128, 50),
        (128, 50),
        (256, 25),
        (256, 25),
        (256, 25),
        (256, 50),
        (128, 50),
        (128, 100),
        (64, 100),
        (64, 200),
    ]


@pytest.mark.parametrize("size", [(2, 2), (6, 10), (24, 8)])
def test_the_strided_convolution_pads_below_and_at_the_right(size):
    """At even sizes TensorFlow's SAME has one pixel to pad, and puts it there."""
    layer = StridedConv(2, 3)
    x = torch.randn(1, 2, *size)
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.conv.weight, layer.conv.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape[2:] == (size[0] // 2, size[1] // 2)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 4)])
def test_the_transposed_convolution_is_the_gradient_of_the_strided_one(size):
    """Which is how TensorFlow defines conv2d_transpose; computed by autograd, not by a transposed convolution."""
    layer = StridedTransposedConv(3, 2)
    x = torch.randn(1, 3, *size)
    large = torch.zeros(1, 2, 2 * size[0], 2 * size[1], requires_grad=True)
    down = F.conv2d(F.pad(large, (0, 1, 0, 1)), layer.conv.weight, stride=2)
    (expected,) = torch.autograd.grad(down, large, x)
    torch.testing.assert_close(layer(x), expected + layer.conv.bias[:, None, None])


def test_it_does_not_shift_the_image():
    """A kernel with its center alone puts every pixel where it was taken from; the popular port puts it elsewhere."""
    down, up = StridedConv(1, 1), StridedTransposedConv(1, 1)
    with torch.no_grad():
        for layer in (down, up):
            layer.conv.weight.zero_()[:, :, 1, 1] = 1
            layer.conv.bias.zero_()
        x = torch.zeros(1, 1, 8, 8)
        x[0, 0, 3, 5] = 1
        assert torch.equal(up(down(x)), x)
        popular = F.conv_transpose2d(down(x), up.conv.weight, stride=2, padding=1, output_padding=1)
    assert popular[0, 0, 2, 4] == 1


def test_what_is_padded_is_cropped_back():
    net = build("encoder_decoder", num_classes=2).eval()
    images = torch.randn(1, 3, 21, 30)
    with torch.inference_mode():
        assert torch.equal(net(images), net(F.pad(images, (0, 2, 0, 3)))[:, :, :21, :30])


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="got 0 and 3"):
        build("encoder_decoder", num_classes=0)
