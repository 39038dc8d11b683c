"""A user's own weights: key layouts, wrapped checkpoints, hostile and broken files, strict loading."""

from __future__ import annotations

import argparse
import os
import pickle
import random
from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from handlens.errors import InputError
from handlens.models import CATALOGUE, backbone, build
from handlens.models.loading import load_backbone, load_into, read_state, to_our_names
from handlens.models.pretrained import load_weights


class FlatBlock(nn.Module):
    """The layout of the other MobileNetV2 in circulation: one Sequential per block, activations counted."""

    def __init__(self, in_channels, out_channels, stride, expansion):
        super().__init__()
        hidden = in_channels * expansion
        self.skip = stride == 1 and in_channels == out_channels
        wide = [nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        self.conv = nn.Sequential(
            *(wide if expansion != 1 else []),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x):
        return x + self.conv(x) if self.skip else self.conv(x)


class FlatNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, channels = [nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())], 32
        for t, c, n, s in [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]:
            for number in range(n):
                layers.append(FlatBlock(channels, c, s if number == 0 else 1, t))
                channels = c
        self.features = nn.Sequential(*layers)
        self.conv = nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6())
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x):
        return self.classifier(self.conv(self.features(x)).mean((2, 3)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.mobilenet_v2(num_classes=9),
        lambda: FlatNet(9),
        lambda: timm.create_model("mobilenetv2_100", num_classes=9),
    ],
    ids=["nested", "flat", "timm"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_layout_in_circulation_gives_its_own_logits(
    make, suffix, with_batch_norm_statistics, random_images, tmp_path
):
    theirs = with_batch_norm_statistics(make())
    file = tmp_path / f"own{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), file)
    else:
        save_file(theirs.state_dict(), file)
    ours = build("mobilenet_v2", num_classes=9).eval()
    assert load_into(ours, load_weights(file), new_head=False) is None
    images = random_images(2)
    with torch.inference_mode():
        expected = theirs(images)
        assert (expected[0] - expected[1]).abs().max() > 1e-2
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)


def test_our_own_names_stay_as_they_are():
    state = build("mobilenet_v2", num_classes=2, width=0.35).state_dict()
    assert to_our_names(state) == dict(state)


def known_to(state) -> set[str]:
    """The nets that take a state dict for one in a published layout of theirs."""
    nets = {entry.net for entry in CATALOGUE.values()}
    return {net.__name__ for net in nets if hasattr(net, "to_our_names") and net.to_our_names(state) is not None}


@pytest.mark.parametrize(
    ("make", "nets"),
    [
        (torchvision.models.mobilenet_v2, {"MobileNetV2"}),
        (lambda: FlatNet(9), {"MobileNetV2"}),
        (lambda: timm.create_model("mobilenetv2_100"), {"MobileNetV2", "EfficientNetLite0"}),  # timm has one for both
        (torchvision.models.alexnet, {"AlexNet"}),
        (torchvision.models.vgg11_bn, {"VGG"}),
        (lambda: torchvision.models.googlenet(init_weights=False), {"GoogLeNet"}),
        (torchvision.models.resnet50, {"ResNet"}),
    ],
    ids=["mobilenet_v2", "flat", "timm", "alexnet", "vgg11_bn", "googlenet", "resnet50"],
)
def test_a_layout_is_known_to_the_nets_that_are_published_in_it(make, nets):
    with torch.device("meta"):
        assert known_to(make().state_dict()) == nets


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_our_own_names_are_no_other_projects_layout(name):
    with torch.device("meta"):
        assert known_to(build(name, num_classes=2).state_dict()) == set()


def tiny() -> nn.Module:
    return build("mobilenet_v2", num_classes=2, table=[(1, 16, 1, 1)], width=0.35, round_to=1)


def prefixed(state, prefix):
    return OrderedDict((prefix + key, value) for key, value in state.items())


WRAPPED = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {}, "lr": 0.1}},
    "model": lambda state: {"model": state, "args": {"lr": 1}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "parallel": lambda state: {"state_dict": prefixed(state, "module.")},
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "lightning": lambda state: {"state_dict": prefixed(state, "model."), "loops": {}},
    "nested": lambda state: {"model": {"state_dict": prefixed(state, "model.module.")}},
    "averaged": lambda state: {
        "model": {key: value + 1 for key, value in state.items()},
        "model_ema": {"n_averaged": torch.tensor(7)} | prefixed(state, "module."),
    },
    "without counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("kind", list(WRAPPED))
def test_wrapped_checkpoints_are_unwrapped(kind, tmp_path):
    net, other = tiny(), tiny()
    torch.save(WRAPPED[kind](net.state_dict()), tmp_path / "checkpoint.pt")
    load_into(other, load_weights(tmp_path / "checkpoint.pt"), new_head=False)
    for key, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


class Hostile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "inside a state dict"])
def test_a_hostile_pickle_is_refused_and_never_run(form, tmp_path):
    ran, file = tmp_path / "it-ran", tmp_path / "weights.pth"
    hostile = Hostile(ran)
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(hostile))
    elif form == "inside a state dict":
        torch.save(tiny().state_dict() | {"extra": hostile}, file)
    else:
        torch.save({"state_dict": hostile}, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(InputError, match=r"weights\.pth was rejected: .*could run code") as caught:
        load_weights(file)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    if form == "bare pickle":  # the trap itself works
        pickle.loads(file.read_bytes())
        assert ran.exists()


@pytest.mark.parametrize("content", [b"", b"hello there", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(40)])
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_what_is_no_weights_file_is_refused_in_one_sentence(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} (was rejected|is not a complete safetensors file)"):
        load_weights(tmp_path / name)


def test_a_pickled_module_and_a_list_are_refused(tmp_path):
    for value in (argparse.Namespace(lr=1), tiny()):
        torch.save(value, tmp_path / "w.pth")
        with pytest.raises(InputError, match="was rejected"):
            load_weights(tmp_path / "w.pth")
    for value in ([torch.zeros(1)], {}, {"a": 1}):
        torch.save(value, tmp_path / "w.pth")
        with pytest.raises(InputError, match="no state dict"):
            load_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("modern", [True, False])
def test_damaged_files_end_in_an_input_error_or_in_tensors(modern, tmp_path):
    chance, file = random.Random(0), tmp_path / "w.pth"
    torch.save({"a.weight": torch.zeros(20), "b": torch.ones(3)}, file, _use_new_zipfile_serialization=modern)
    whole, refused = file.read_bytes(), 0
    for trial in range(400):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 3, 10))):
            content[chance.randrange(min(len(content), 700))] = chance.randrange(256)
        file.write_bytes(content[: chance.randrange(len(content))] if trial % 5 == 0 else content)
        try:
            state = read_state(file)
        except InputError:
            refused += 1
        else:
            assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert refused > 100


def test_what_differs_is_listed_and_nothing_is_loaded():
    net = tiny()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weights = {key: torch.full_like(value, 7) for key, value in before.items()}
    weights["blocks.0.project.conv.weight"] = torch.zeros(3, 3)
    weights["stray"] = weights.pop("stem.conv.weight")
    with pytest.raises(InputError) as caught:
        load_into(net, weights, new_head=True)
    message = str(caught.value)
    assert "1 missing: stem.conv.weight" in message
    assert "1 unexpected: stray" in message
    assert "1 with a different shape: blocks.0.project.conv.weight (3, 3) instead of" in message
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_weights_of_another_net_or_width_are_refused():
    other = to_our_names(torchvision.models.resnet18().state_dict())
    with pytest.raises(InputError, match=r"missing: .*unexpected: "):
        load_into(tiny(), other, new_head=True)
    half = build("mobilenet_v2", num_classes=2, width=0.5).state_dict()
    with pytest.raises(InputError, match=r"stem\.conv\.weight \(16, 3, 3, 3\) instead of \(32, 3, 3, 3\)"):
        load_into(build("mobilenet_v2", num_classes=3), half, new_head=True)


def test_a_head_with_as_many_classes_is_kept():
    net, other = tiny(), tiny()
    nn.init.normal_(net.classifier.weight)
    assert load_into(other, net.state_dict(), new_head=True) is None
    assert torch.equal(other.classifier.weight, net.classifier.weight)


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (("s32",), "not used: classifier, head"),
        (("head",), "not used: classifier"),
        (("s4", "s16"), "not used: blocks, classifier, head"),
        (("block14.expand",), "not used: blocks, classifier, head"),
    ],
)
def test_a_backbone_takes_what_it_has_of_a_classifier_and_says_what_it_leaves(
    maps, said, with_batch_norm_statistics, random_images
):
    """Against the maps of the whole net, by torchvision's published layout."""
    theirs = with_batch_norm_statistics(torchvision.models.mobilenet_v2(num_classes=9))
    whole = build("mobilenet_v2", num_classes=9).eval()
    state = to_our_names(theirs.state_dict())
    load_into(whole, state, new_head=False)
    torch.manual_seed(1)
    extractor = backbone("mobilenet_v2", maps=maps).eval()
    assert load_backbone(extractor, state) == f"The backbone starts from pretrained weights; {said}."
    images = random_images(1)
    with torch.inference_mode():
        expected, made = whole.features(images), extractor(images)
    for asked, name in extractor.names.items():
        torch.testing.assert_close(made[asked], expected[name])


def test_a_backbone_refuses_weights_that_are_not_its_own():
    state = build("mobilenet_v2", num_classes=2, width=0.35).state_dict()
    extractor = backbone("mobilenet_v2", maps=("s16",), width=0.35)
    before = {key: value.clone() for key, value in extractor.state_dict().items()}
    with pytest.raises(InputError, match=r"1 unexpected: stray\.weight"):
        load_backbone(extractor, state | {"stray.weight": torch.zeros(1)})
    with pytest.raises(InputError, match=r"1 unexpected: blocks\.3\.stray"):
        load_backbone(extractor, state | {"blocks.3.stray": torch.zeros(1)})
    state.pop("blocks.3.project.conv.weight")
    with pytest.raises(InputError, match=r"1 missing: blocks\.3\.project\.conv\.weight"):
        load_backbone(extractor, state)
    with pytest.raises(InputError, match="with a different shape"):
        load_backbone(extractor, build("mobilenet_v2", num_classes=2).state_dict())
    assert all(torch.equal(value, before[key]) for key, value in extractor.state_dict().items())


def test_the_classifier_of_a_segmenter_is_replaced_for_other_classes():
    old = build("deeplab_v3", num_classes=21, width=0.35).state_dict()
    net = build("deeplab_v3", num_classes=11, width=0.35)
    fresh = net.classifier.weight.clone()
    assert (
        load_into(net, old, new_head=True) == "The pretrained classifier of 21 outputs was replaced by a new one of 11."
    )
    assert torch.equal(net.classifier.weight, fresh)
    assert torch.equal(net.aspp.project.conv.weight, old["aspp.project.conv.weight"])
