"""The published sizes, the wiring, and the options of SSD."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssdlite import SSDLiteHead

from handlens.models import build
from handlens.models.cost import multiply_adds, parameters
from handlens.models.detect.anchors import map_grids
from handlens.models.pretrained import load_weights


def test_the_published_sizes():
    """Sandler et al. 2018, Tables 5 and 6: SSDLite 4.3 M parameters and 0.8 B multiply-adds; behind the backbone SSD
    14.8 M and 1.25 B, SSDLite 2.1 M and 0.35 B.

    The last does not fit the others: 0.8 B less the backbone's 0.61 B leaves 0.18 B, which is what we count.
    """
    lite, full = build("ssdlite", num_classes=80), build("ssd", num_classes=80)
    assert parameters(lite) == 4_337_013
    behind = {net: parameters(net) - parameters(net.backbone) for net in (lite, full)}
    assert (behind[lite], behind[full]) == (2_113_141, 14_776_629)
    cost = {net: multiply_adds(net, height=320, width=320) for net in (lite, full)}
    backbone = multiply_adds(lite.backbone, height=320, width=320)
    assert cost[lite] / 1e9 == pytest.approx(0.79, abs=0.005)
    assert (cost[lite] - backbone) / 1e9 == pytest.approx(0.178, abs=0.001)
    assert (cost[full] - backbone) / 1e9 == pytest.approx(1.26, abs=0.005)


def test_predictors_are_torchvisions_but_for_the_shared_names():
    """With one number of anchors everywhere, the head has as many parameters as torchvision's SSDLiteHead."""
    anchors = [[[0.1 * n, 0.1], [0.1, 0.1 * n]] for n in range(1, 7)]
    net = build("ssdlite", num_classes=20, anchors=anchors)
    channels = [576, 1280, 512, 256, 256, 128]
    theirs = SSDLiteHead(channels, [2] * 6, 21, nn.BatchNorm2d)
    assert parameters(net.boxes) + parameters(net.classes) == parameters(theirs)


def test_the_first_head_sits_on_the_expansion_and_the_second_on_the_last_layer():
    net = build("ssdlite", num_classes=3)
    assert net.backbone.names == {"block14.expand": "block14.expand", "head": "head"}
    assert net.backbone.channels == {"block14.expand": 576, "head": 1280}
    finer = build("ssdlite", num_classes=3, first_stride=8)
    assert list(finer.backbone.strides.values()) == [8, 16, 32]
    raw = finer.eval()(torch.zeros(1, 3, 512, 512))
    assert map_grids(512, 512, first_stride=8) == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    assert raw.anchors.shape == (64 * 64 * 3 + (1024 + 256 + 64 + 16 + 4 + 1) * 6, 4)


def test_fitted_anchors_make_only_the_layers_they_need_and_survive_json():
    anchors = [[[0.05, 0.05], [0.1, 0.05]], [], [[0.5, 0.5]]]
    net = build("ssdlite", num_classes=3, anchors=json.loads(json.dumps(anchors))).eval()
    assert len(net.extras) == 1
    assert list(net.boxes) == ["s16", "s64"]
    raw = net(torch.zeros(1, 3, 320, 320))
    assert raw.anchors.shape == (20 * 20 * 2 + 5 * 5, 4)
    assert raw.logits.shape == (1, 825, 4)
    only = build("ssdlite", num_classes=3, anchors=anchors[:1])
    assert list(only.backbone.names) == ["block14.expand"]


def test_maps_are_as_promised_at_odd_sizes():
    net = build("ssdlite", num_classes=2, anchors=[[[0.1, 0.1]]] * 6).eval()
    raw = net(torch.zeros(1, 3, 97, 331))
    assert len(raw.anchors) == sum(rows * columns for rows, columns in map_grids(97, 331))


def test_a_sigmoid_starts_at_rare(random_images):
    net = build("ssdlite", num_classes=5, scores="sigmoid").eval()
    raw = net(random_images(1))
    assert raw.logits.shape[2] == 5
    assert net.probabilities(raw.logits.detach()).median() == pytest.approx(0.01, abs=0.005)


def test_imagenet_weights_fit_the_backbone(weights, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", weights)
    state = {key: value for key, value in load_weights("mobilenet_v2").items() if not key.startswith("classifier.")}
    net = build("ssdlite", num_classes=3)
    net.backbone.load_state_dict(state, strict=False)
    wanted = net.backbone.state_dict()
    assert {key for key in wanted if not key.endswith("num_batches_tracked")} <= set(state)
    assert all(torch.equal(wanted[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_stride": 4}, "first_stride must be one of 16, 8, got 4"),
        ({"scores": "tanh"}, "'tanh'"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"anchors": []}, r"1 to 6 maps.*got \[\]"),
        ({"anchors": [[[0.1, 0.1]], []]}, r"got \[1, 0\]"),
        ({"anchors": [[[0.1, 0.0]]]}, r"map 0: .*\[0.1, 0.0\]"),
        ({"anchors": [[0.1, 0.2]]}, "map 0: an anchor must be"),
        ({"anchors": [[[0.1, 0.1]]] * 7}, "1 to 6 maps"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        build("ssdlite", **({"num_classes": 2} | options))
