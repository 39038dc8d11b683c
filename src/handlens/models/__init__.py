"""The nets: one file per paper, a literal catalogue, and `build`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from torch import nn

from handlens.models.backbones import BACKBONES, Backbone, backbone, resolve_map
from handlens.models.classify.convnets import SimpleConvNet
from handlens.models.classify.dense import Dense
from handlens.models.classify.lenet import LeNet
from handlens.models.classify.mobilenet_v1 import SmallMobileNetV1
from handlens.models.classify.resnet import STAGES
from handlens.models.classify.vgg import CONVOLUTIONS
from handlens.models.detect.anchors import suited_anchors
from handlens.models.detect.ssd import SSD
from handlens.models.options import construct
from handlens.models.segment.deeplab_v3 import DeepLabV3
from handlens.models.segment.encoder_decoder import EncoderDecoder
from handlens.models.segment.unet import UNet
from handlens.weights import versions

__all__ = ["CATALOGUE", "Backbone", "Entry", "backbone", "build", "flattens", "resolve_map"]


@dataclass(frozen=True)
class Entry:
    """One net of the catalogue.

    Attributes:
        task: a name of tasks.TASKS, those whose models differ.
        image_size: pixels it was published at.
        scaling: a name of preprocess.SCALINGS.
        weights: names in weights.SOURCES that fit it; training starts from the first.
        num_classes: it was published for; None is 1000 (ImageNet), 21 (VOC with its background) or 80 (COCO) by task.
        suited_to: of a detector whose options follow from its training boxes: gives them; called and answering as
            `detect.anchors.suited_anchors`.
        backbone: of `backbones.BACKBONES`, the one it has unless another is asked for, whose weights it can start from.
        about: one line for people.
    """

    constructor: Callable[..., nn.Module]
    about: str
    _: KW_ONLY
    task: str
    image_size: int = 224
    scaling: str = "imagenet"
    weights: tuple[str, ...] = ()
    num_classes: int | None = None
    backbone: str | None = None
    suited_to: Callable[..., tuple[dict[str, Any], dict[int, float]]] | None = None

    @property
    def net(self) -> Any:
        """The class, of a constructor that has some of its arguments already."""
        return self.constructor.func if isinstance(self.constructor, partial) else self.constructor


_classifier = partial(Entry, task="classify")
_segmenter = partial(Entry, task="segment")
_detector = partial(Entry, task="detect", suited_to=suited_anchors)


def _backbone(name: str, about: str, **more: Any) -> Entry:
    return _classifier(BACKBONES[name], about, weights=versions(name), **more)


CLASSIFIERS: dict[str, Entry] = {
    "mobilenet_v2": _backbone(
        "mobilenet_v2", "Sandler et al. 2018: inverted residuals and linear bottlenecks, any width and input size"
    ),
    "efficientnet_lite0": _backbone(
        "efficientnet_lite0",
        "Tan and Le 2019, variant for phones: no squeeze-and-excitation, ReLU6",
        scaling="lite",
    ),
    "dense": _classifier(
        Dense,
        "baseline without convolutions: one hidden layer on the pixels",
        image_size=28,
        scaling="unit",
        num_classes=10,
    ),
    "lenet5": _classifier(
        LeNet, "LeCun et al. 1998: two convolutions, for digits", image_size=28, scaling="unit", num_classes=10
    ),
    "lenet_color": _classifier(
        partial(LeNet, in_channels=3, image_size=224, channels=(16, 32), hidden=(512,), padding=0),
        "lenet5 for 224 x 224 color images, most parameters in one dense layer",
        scaling="unit",
        num_classes=2,
    ),
    "alexnet": _backbone("alexnet", "Krizhevsky et al. 2012: five convolutions and three dense layers; two_towers"),
    **{
        f"vgg{depth}{norm}": _backbone(
            f"vgg{depth}{norm}", f"Simonyan and Zisserman 2014: {depth} layers of 3 x 3{', batch norm' if norm else ''}"
        )
        for depth in CONVOLUTIONS
        for norm in ("", "_bn")
    },
    "googlenet": _backbone(
        "googlenet", "Szegedy et al. 2014: Inception modules, auxiliary heads in training", scaling="half"
    ),
    **{
        f"resnet{depth}": _backbone(f"resnet{depth}", f"He et al. 2015: {depth} layers in residual blocks")
        for depth in STAGES
    },
    "mobilenet_v1": _backbone("mobilenet_v1", "Howard et al. 2017: depthwise separable convolutions", scaling="half"),
    "mobilenet_v1_mnist": _classifier(
        SmallMobileNetV1,
        "small mobilenet_v1 variant for 28 x 28 digits: pointwise first, no stride, flattened",
        image_size=28,
        scaling="unit",
        num_classes=10,
    ),
    "simple_convnet": _classifier(
        SimpleConvNet,
        "Chollet 2021: five convolutions and pooling, for 180 x 180",
        image_size=180,
        scaling="unit",
        num_classes=1,
    ),
    "residual_convnet": _backbone(
        "residual_convnet",
        "Chollet 2021: three residual blocks, for small images",
        image_size=32,
        scaling="unit",
        num_classes=1,
    ),
    "mini_xception": _backbone(
        "mini_xception",
        "Chollet 2021: five blocks of separable convolutions",
        image_size=180,
        scaling="unit",
        num_classes=1,
    ),
    "xception": _backbone(
        "xception", "Chollet 2016: separable convolutions throughout", image_size=299, scaling="half"
    ),
}

CATALOGUE: dict[str, Entry] = {
    **CLASSIFIERS,
    "deeplab_v3": _segmenter(
        DeepLabV3,
        "Chen et al. 2017: dilated MobileNetV2, optional ASPP and decoder",
        image_size=513,
        scaling="imagenet",
        backbone="mobilenet_v2",
    ),
    "deeplab_v3_mobilenet_v2_voc": _segmenter(
        partial(DeepLabV3, output_stride=8, padding="same", align_corners=True),
        "deeplab_v3 as its authors published it, trained on VOC: people, animals, vehicles, furniture",
        image_size=513,
        scaling="half",
        weights=("deeplab_v3_mobilenet_v2_voc",),
        backbone="mobilenet_v2",
    ),
    "deeplab_v3_mobilenet_v2_05_voc": _segmenter(
        partial(DeepLabV3, width=0.5, round_to=4, output_stride=8, padding="same", align_corners=True),
        "the same at width 0.5, a third of the size",
        image_size=257,
        scaling="half",
        weights=("deeplab_v3_mobilenet_v2_05_voc",),
    ),
    "unet": _segmenter(
        UNet,
        "Ronneberger et al. 2015: encoder and decoder with skip connections; optional pretrained backbone",
        image_size=512,
        scaling="imagenet",
    ),
    "encoder_decoder": _segmenter(
        EncoderDecoder,
        "Chollet 2021: strided convolutions, then transposed convolutions",
        image_size=200,
        scaling="unit",
    ),
    "ssd": _detector(
        SSD,
        "Liu et al. 2016: single-shot detector on six feature maps, MobileNetV2 backbone",
        image_size=320,
        scaling="imagenet",
        backbone="mobilenet_v2",
    ),
    "ssdlite": _detector(
        partial(SSD, separable=True),
        "Sandler et al. 2018: SSD with depthwise separable convolutions, a head of 1/7 the size",
        image_size=320,
        scaling="imagenet",
        backbone="mobilenet_v2",
    ),
    "ssdlite_mobilenet_v2_coco": _detector(
        partial(SSD, separable=True, scores="sigmoid", padding="same"),
        "ssdlite as published, pretrained on COCO: 80 classes",
        image_size=300,
        scaling="half",
        weights=("ssdlite_mobilenet_v2_coco",),
        backbone="mobilenet_v2",
    ),
}


def build(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """Build a net of the catalogue with fresh weights.

    Raises:
        InputError: no such net, or no such option; the closest match is named.
        ValueError: an option out of range.
    """
    constructors = {name: entry.constructor for name, entry in CATALOGUE.items()}
    return construct(name, constructors, {"num_classes": num_classes, **options})


def flattens(name: str) -> bool:
    """Whether a net is built for one size of images, its option `image_size`; False where there is no such net."""
    return name in CATALOGUE and "image_size" in inspect.signature(CATALOGUE[name].constructor).parameters
