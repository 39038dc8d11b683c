"""The nets: one file per paper, a literal catalogue, and `build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from handlens.data.record import Task
from handlens.models.backbones import Backbone, backbone, resolve_map
from handlens.models.classify.efficientnet_lite import EfficientNetLite0
from handlens.models.classify.mobilenet_v2 import MobileNetV2
from handlens.models.detect.ssd import SSD
from handlens.models.options import construct
from handlens.models.segment.deeplab_v3 import DeepLabV3
from handlens.models.segment.encoder_decoder import EncoderDecoder
from handlens.models.segment.unet import UNet

__all__ = ["CATALOGUE", "Backbone", "Entry", "backbone", "build", "resolve_map"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One net of the catalogue.

    Attributes:
        task: "classify", "segment" or "detect".
        image_size: pixels it was published at.
        scaling: a name of preprocess.SCALINGS.
        weights: names in weights.SOURCES that fit it.
        converts_to: the runtimes that take it.
        backbone: of `backbones.BACKBONES`, the one it has unless another is asked for, whose weights it can start from.
        about: one line for people.
    """

    constructor: Callable[..., nn.Module]
    task: Task
    image_size: int
    scaling: str
    weights: tuple[str, ...]
    converts_to: tuple[str, ...]
    about: str
    backbone: str | None = None


CATALOGUE: dict[str, Entry] = {
    "mobilenet_v2": Entry(
        constructor=MobileNetV2,
        task="classify",
        image_size=224,
        scaling="imagenet",
        weights=("mobilenet_v2",),
        converts_to=("onnx", "openvino"),
        about="Sandler et al. 2018: inverted residuals and linear bottlenecks, any width and size",
    ),
    "efficientnet_lite0": Entry(
        constructor=EfficientNetLite0,
        task="classify",
        image_size=224,
        scaling="lite",
        weights=("efficientnet_lite0",),
        converts_to=("onnx", "openvino"),
        about="Tan and Le 2019, the form for phones: no squeeze-and-excitation, ReLU6",
    ),
    "deeplab_v3": Entry(
        constructor=DeepLabV3,
        task="segment",
        image_size=513,
        scaling="imagenet",
        weights=(),
        converts_to=("onnx", "openvino"),
        about="Chen et al. 2017: a class per pixel from dilated MobileNetV2, with ASPP or without",
        backbone="mobilenet_v2",
    ),
    "deeplab_v3_mobilenet_v2_voc": Entry(
        constructor=partial(DeepLabV3, width=0.5, round_to=4, output_stride=8, padding="same", align_corners=True),
        task="segment",
        image_size=257,
        scaling="half",
        weights=("deeplab_v3_mobilenet_v2_voc",),
        converts_to=("onnx", "openvino"),
        about="deeplab_v3 at half the width, with what it learned on VOC: people, animals, vehicles, furniture",
    ),
    "unet": Entry(
        constructor=UNet,
        task="segment",
        image_size=512,
        scaling="imagenet",
        weights=(),
        converts_to=("onnx", "openvino"),
        about="Ronneberger et al. 2015: down and up with connections across; also on a pretrained backbone",
    ),
    "encoder_decoder": Entry(
        constructor=EncoderDecoder,
        task="segment",
        image_size=200,
        scaling="unit",
        weights=(),
        converts_to=("onnx", "openvino"),
        about="Chollet 2021: strided convolutions down, transposed ones up",
    ),
    "ssd": Entry(
        constructor=SSD,
        task="detect",
        image_size=320,
        scaling="imagenet",
        weights=(),
        converts_to=("onnx", "openvino"),
        about="Liu et al. 2016: boxes from six feature maps in one pass, on MobileNetV2",
        backbone="mobilenet_v2",
    ),
    "ssdlite": Entry(
        constructor=partial(SSD, separable=True),
        task="detect",
        image_size=320,
        scaling="imagenet",
        weights=(),
        converts_to=("onnx", "openvino"),
        about="Sandler et al. 2018: SSD of depthwise separable convolutions, a seventh of its head",
        backbone="mobilenet_v2",
    ),
    "ssdlite_mobilenet_v2_coco": Entry(
        constructor=partial(SSD, separable=True, scores="sigmoid", padding="same"),
        task="detect",
        image_size=300,
        scaling="half",
        weights=("ssdlite_mobilenet_v2_coco",),
        converts_to=("onnx", "openvino"),
        about="ssdlite as its authors published it, with what it learned on COCO: 80 classes",
    ),
}


def build(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """Build a net of the catalogue with fresh weights.

    Raises:
        InputError: no such net, or no such option; the nearest is named.
        ValueError: an option out of range.
    """
    constructors = {name: entry.constructor for name, entry in CATALOGUE.items()}
    return construct(name, constructors, {"num_classes": num_classes, **options})
