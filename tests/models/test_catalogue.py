"""The catalogue, `build`, and the class names of ImageNet."""

from __future__ import annotations

import inspect
import unicodedata

import pytest
from torchvision.models import get_model_weights
from torchvision.models._meta import _IMAGENET_CATEGORIES

from handlens.errors import InputError
from handlens.models import CATALOGUE, build
from handlens.preprocess import SCALINGS
from handlens.weights import SOURCES
from handlens.weights.class_names import IMAGENET_CLASSES


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_entries_hold_together(name):
    entry = CATALOGUE[name]
    assert entry.scaling in SCALINGS
    assert set(entry.weights) <= set(SOURCES)
    for weights in entry.weights:
        preprocess = SOURCES[weights].preprocess
        assert (preprocess.mean, preprocess.std) == SCALINGS[entry.scaling]
        assert preprocess.height == preprocess.width == entry.image_size
    kinds = {p.kind for p in inspect.signature(entry.constructor).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_every_source_belongs_to_a_net():
    assert {weights for entry in CATALOGUE.values() for weights in entry.weights} == set(SOURCES)


@pytest.mark.parametrize("name", [name for name in SOURCES if ":" in name])
def test_torchvisions_files_are_named_as_it_names_them(name):
    net, _, version = name.partition(":")
    theirs = get_model_weights(net)[version.upper()]
    ours = SOURCES[name]
    assert (ours.url, ours.preprocess.short_side) == (theirs.url, theirs.transforms.keywords.get("resize_size", 256))
    assert ours.file.endswith(f"-{ours.sha256}.pth") and len(ours.sha256) == 8


def test_the_first_version_is_the_one_that_training_starts_from():
    assert CATALOGUE["mobilenet_v2"].weights == ("mobilenet_v2", "mobilenet_v2:imagenet1k_v2")  # the one to be had
    assert CATALOGUE["resnet50"].weights == ("resnet50:imagenet1k_v2", "resnet50:imagenet1k_v1")
    assert CATALOGUE["lenet5"].weights == ()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilnet_v2", {}, "'mobilnet_v2'; the closest match is 'mobilenet_v2'"),
        ("mobilenet_v2", {"widht": 1.0}, "no option 'widht'; the closest match is 'width'"),
        ("resnet18", {"width": 0.5}, "no option 'width'; available: "),
        ("mobilenet_v2", {"zzz": 1}, "no option 'zzz'; available: width, in_channels"),
        ("efficientnet_lite0", {"width": 0.5}, "no option 'width'"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(name, options, message):
    with pytest.raises(InputError, match=message):
        build(name, num_classes=2, **options)


def test_imagenet_names_are_the_published_ones_and_unique():
    assert list(IMAGENET_CLASSES) == list(_IMAGENET_CATEGORIES)
    assert len(set(IMAGENET_CLASSES)) == 1000
    assert all(unicodedata.normalize("NFC", name) == name == name.strip() for name in IMAGENET_CLASSES)
    assert IMAGENET_CLASSES[134] == "crane bird"
    assert IMAGENET_CLASSES[517] == "crane"
    assert IMAGENET_CLASSES[985] == "daisy"
