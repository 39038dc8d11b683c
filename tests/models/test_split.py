"""Parts and strips compute what the whole net computes, and need the memory that TFLite Micro has measured."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from handlens.errors import InputError
from handlens.models import build
from handlens.models.cost import Cost, measure
from handlens.models.padding import without_padded_copies
from handlens.models.split import RowStrips, SplitResidual, choose_parts, in_strips, lean, split_expansions, splittable

TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2))
SHAPE = {"height": 45, "width": 38}


@pytest.fixture(scope="module", params=["symmetric", "same"])
def net(request, with_batch_norm_statistics) -> nn.Module:
    torch.manual_seed(0)
    made = build("mobilenet_v2", num_classes=5, width=0.5, table=TABLE, padding=request.param)
    return with_batch_norm_statistics(made, **SHAPE)


@pytest.fixture(scope="module")
def images(random_images) -> torch.Tensor:
    torch.manual_seed(1)
    return random_images(3, **SHAPE)


def assert_same(smaller: nn.Module, net: nn.Module, images: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = net(images)
        assert (expected[0] - expected[1]).abs().max() > 1e-2  # else nothing below could fail
        torch.testing.assert_close(smaller(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 5, 48])
def test_the_sum_of_the_parts_is_the_whole(net, images, parts):
    state = {key: value.clone() for key, value in net.state_dict().items()}
    made = split_expansions(net, parts)
    split = [module for module in made.modules() if isinstance(module, SplitResidual)]
    assert len(split) == 4 and {len(block.parts) for block in split} == {parts}
    assert_same(made, net, images)
    made.train()  # and stays for inference
    assert not any(block.training for block in split)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("strips", [1, 2, 3, 64])
def test_strips_make_the_same_map(net, images, strips):
    made, blocks = in_strips(net, strips, **SHAPE)
    (found,) = (module for module in made.modules() if isinstance(module, RowStrips))
    assert 1 <= blocks <= 3 and len(found.plan) == min(strips, 12 if blocks > 1 else 23)
    assert_same(made, net, images)
    with pytest.raises(ValueError, match="for images of 45 rows, got 44"):
        made(images[:, :, :44])


def test_strips_and_parts_go_together(net, images):
    made = lean(net, **SHAPE, split=4, strips=2)
    assert made.strips == 2 and "the stem and" in str(made)
    assert_same(made.net, net, images)


# Bytes that TFLite Micro's recording allocator reports for the maps of width 0.35 at 96 pixels in int8.
MICRO = [
    ("same", lambda net: net, 138_240),
    ("symmetric", lambda net: net, 230_592),
    ("same", partial(split_expansions, parts=2), 92_160),
    ("same", partial(split_expansions, parts=4), 73_728),
    ("same", partial(split_expansions, parts={"blocks.1": 4, "blocks.2": 2}), 73_728),
    ("same", lambda net: lean(net, height=96, width=96, split=4).net, 73_728),
    ("same", lambda net: lean(net, height=96, width=96, strips=4).net, 90_480),
    ("symmetric", lambda net: lean(net, height=96, width=96, split=2).net, 92_160),
    ("symmetric", lambda net: lean(net, height=96, width=96, split=4).net, 73_728),
]


def cost_at_96(net: nn.Module) -> Cost:
    return measure(net, height=96, width=96)


@pytest.fixture(scope="module")
def micro_net():
    def make(padding: str) -> nn.Module:
        with torch.device("meta"):
            return build("mobilenet_v2", num_classes=10, width=0.35, padding=padding)

    return make


@pytest.mark.parametrize(("padding", "change", "measured"), MICRO)
def test_memory_is_what_tflite_micro_has_measured(micro_net, padding, change, measured):
    assert cost_at_96(change(micro_net(padding))).arena_numbers == measured


def test_padding_is_told_apart(micro_net):
    cost = cost_at_96(micro_net("symmetric"))
    assert (cost.peak_numbers, cost.peak_numbers_padded, cost.padding_numbers) == (138_240, 230_592, 92_352)
    copies = {layer.name: layer.padded for layer in cost.layers if layer.padded}
    assert copies == {
        "stem.conv": 3 * 98**2,
        "blocks.1.depthwise.conv": 48 * 50**2,
        "blocks.3.depthwise.conv": 48 * 26**2,
        "blocks.6.depthwise.conv": 96 * 14**2,
        "blocks.13.depthwise.conv": 192 * 8**2,
    }
    assert not any(layer.padded for layer in cost_at_96(micro_net("same")).layers)


@pytest.mark.parametrize("size", [(40, 40), (41, 40), (40, 43), (45, 45)])
def test_a_wider_kernel_computes_the_same_without_padded_copies(size, with_batch_norm_statistics, random_images):
    height, width = size
    torch.manual_seed(0)
    net = build("mobilenet_v2", num_classes=5, width=0.5, table=TABLE)
    net = with_batch_norm_statistics(net, height=height, width=width)
    made = without_padded_copies(net, height=height, width=width)
    assert_same(made, net, random_images(2, height=height, width=width))
    assert measure(net, height=height, width=width).padding_numbers > 0 or size == (45, 45)
    assert not any(layer.padded for layer in measure(made, height=height, width=width).layers)


def test_what_is_not_padded_symmetrically_keeps_its_kernel(random_images):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, stride=2, padding=(1, 0)),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 5, stride=2, padding=2, groups=2),
    ).eval()
    made = without_padded_copies(net, height=66, width=66)
    assert [conv.kernel_size for conv in made] == [(3, 3)] * 4 + [(6, 6)]
    images = random_images(2, height=66, width=66)
    with torch.inference_mode():
        torch.testing.assert_close(made(images), net(images))


class Twice(nn.Module):
    """One convolution at an odd and at an even size, and one of a class of one's own."""

    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * super().forward(x)

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.own = self.Own(3, 4, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shared(x[..., :-1, :-1]).sum() + self.shared(x).sum() + self.own(x).sum()


def test_what_cannot_be_widened_safely_is_left_as_it_is(random_images):
    net = Twice().eval()
    made = without_padded_copies(net, height=42, width=42)
    assert made.shared.kernel_size == made.own.kernel_size == (3, 3)
    images = random_images(2, height=42, width=42)
    with torch.inference_mode():
        torch.testing.assert_close(made(images), net(images))


def test_pooling_is_padded_too():
    pool = nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(3, stride=2, padding=1))
    copies = {layer.name: layer.padded for layer in measure(pool, height=8, width=8).layers}
    assert copies == {"0": 0, "1": 8 * 10 * 10}


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_only_what_decides_the_peak_is_split_and_no_more_than_needed(micro_net, padding):
    net = micro_net(padding)
    parts = choose_parts(net, 8, height=96, width=96)
    lowest = cost_at_96(split_expansions(net, parts)).arena_numbers
    assert 0 < len(parts) <= 2 < len(splittable(net))
    for name, number in parts.items():
        fewer = parts | {name: number - 1}
        assert cost_at_96(split_expansions(net, fewer)).arena_numbers > lowest
    assert lowest <= cost_at_96(split_expansions(net, 4)).arena_numbers
    assert choose_parts(net, 1, height=96, width=96) == {}


def test_a_detectors_maps_stay_whole(with_batch_norm_statistics, random_images):
    net = build("ssdlite", num_classes=3, width=0.35)
    assert "backbone.blocks.12" in splittable(net) and "backbone.blocks.13" not in splittable(net)  # block14.expand
    with_batch_norm_statistics(net, height=64, width=64)
    small = split_expansions(net, 2)
    images = random_images(1)
    with torch.inference_mode():
        for made, expected in zip(small(images), net(images), strict=True):
            torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)  # of up to 10


def test_what_cannot_be_split_is_refused(net):
    for bad in (0, -1, 65):
        with pytest.raises(InputError, match=f"--split must be from 1 to 64, got {bad}"):
            lean(net, **SHAPE, split=bad)
        with pytest.raises(InputError, match=f"--strips must be from 1 to 64, got {bad}"):
            lean(net, **SHAPE, strips=bad)
    with pytest.raises(InputError, match="ResNet has no inverted residual with an expansion and batch norm"):
        lean(build("resnet18", num_classes=2), **SHAPE, split=2)
    with pytest.raises(InputError, match="ResNet does not begin with a stem and inverted residuals"):
        lean(build("resnet18", num_classes=2), **SHAPE, strips=2)
    with pytest.raises(InputError, match="has no inverted residual"):
        grouped = build("mobilenet_v2", num_classes=2, norm=lambda channels: nn.GroupNorm(8, channels))
        split_expansions(grouped, 2)
    with pytest.raises(InputError, match=r"blocks.0 is no block that can be split; available: blocks.1, "):
        split_expansions(net, {"blocks.0": 2})
    with pytest.raises(ValueError, match="parts must be from 1 to 48, got 49"):
        SplitResidual(net.blocks[1], parts=49)


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_tflite_micro_needs_what_is_planned(tmp_path, padding):
    if find_spec("tflite_micro") is None:
        pytest.skip("TFLite Micro, the meter, is not here: pip install tflite-micro")
    from micro import Alone, allocations, convert

    torch.manual_seed(0)
    table = (*TABLE, (1, 32, 2, 2), (1, 32, 1, 2))  # so that the head, which cannot be split, works on a small map
    net = build("mobilenet_v2", num_classes=3, width=0.35, table=table, padding=padding).eval()
    heads = []
    for name, part in (("whole", net), ("split", lean(net, height=64, width=64, split=3).net)):
        convert(Alone(part), tmp_path / f"{name}.tflite", size=64)
        head, _ = allocations(tmp_path / f"{name}.tflite")
        heads.append(head)
        assert measure(part, height=64, width=64).arena_numbers == pytest.approx(head / 4, rel=0.02)  # fp32
    assert heads[1] < 0.7 * heads[0]
