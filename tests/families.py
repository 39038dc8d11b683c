"""Which models of a family the quick tests leave to the slow ones, and how to build large ones small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

# Those of a family whose others are tested at once: the same blocks, more of them, or with other constants.
RELATED = {"vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "resnet34", "resnet101", "resnet152"}
RELATED |= {"deeplab_v3_mobilenet_v2_voc", "deeplab_v3_mobilenet_v2_05_voc", "ssdlite_mobilenet_v2_coco"}


def family_first(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test; the related ones are marked slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in RELATED else name for name in names]


def small(name: str) -> dict[str, Any]:
    """Options that leave out a model's hundred million dense weights, where nothing depends on their number."""
    return {"hidden": 64} if name.startswith(("vgg", "alexnet")) else {}
