"""What each task starts from and how it is trained: the only place that knows all three."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from handlens.data.record import Dataset, Record
from handlens.errors import InputError
from handlens.flow.anchor_fit import fit_anchors_to
from handlens.flow.input_size import usual_size
from handlens.preprocess import SCALINGS, Preprocess
from handlens.reporter import Reporter

if TYPE_CHECKING:
    from torch import nn

    from handlens.data.examples import Examples
    from handlens.training.fit import Task
    from handlens.training.recipe import Augment, Recipe

NOT_OF_CLASSES = {"anchors", "box_loss", "pixel_loss", "dice", "augment.zoom_out", "augment.mosaic"}
NOT_OF_TASK = {  # what a recipe may ask for and a task has no use for
    "classify": NOT_OF_CLASSES,
    "tag": NOT_OF_CLASSES,
    "segment": {
        "anchors",
        "box_loss",
        "class_weights",
        "dropout",
        "views",
        "augment.mixup",
        "augment.cutmix",
        "augment.trivial",
        "augment.rotate",
        "augment.mosaic",
    },
    "detect": {
        "class_weights",
        "dice",
        "dropout",
        "label_smoothing",
        "pixel_loss",
        "views",
        "augment.mixup",
        "augment.cutmix",
        "augment.trivial",
        "augment.rotate",
    },
}
METRICS = {"classify": "top1", "tag": "map", "segment": "miou", "detect": "map50"}  # what picks the best epoch
NETS_OF = {"tag": "classify"}  # the task that the catalogue names its nets by, where it is another
LONGEST_SIDE = 512  # pixels, of a segmenter's input where the recipe does not say


@dataclass(frozen=True)
class Start:
    """Where training begins.

    Attributes:
        architecture: {"name", "arguments"} that `build` makes the same net again from.
    """

    net: nn.Module
    preprocess: Preprocess
    architecture: dict[str, Any]


def start_task(recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    """The net a recipe starts from: built, with weights unless trained from scratch, and its Preprocess.

    Raises:
        InputError: no such net, one of another task, or weights that do not fit or cannot be had.
    """
    from handlens.models import CATALOGUE

    nets = NETS_OF.get(dataset.task, dataset.task)
    if CATALOGUE[recipe.model].task != nets:
        fitting = [name for name, entry in CATALOGUE.items() if entry.task == nets]
        raise InputError(
            f"{recipe.model} is a net to {CATALOGUE[recipe.model].task}, and {dataset.root.name} is data to "
            f"{dataset.task}; take one of {', '.join(fitting)}."
        )

    def classifier(recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
        return start_classifier(recipe, len(dataset.class_names), report)

    start: dict[str, Callable[[Recipe, Dataset, Reporter], Start]] = {
        "classify": classifier,
        "tag": classifier,
        "segment": _start_segmenter,
        "detect": _start_detector,
    }
    return start[dataset.task](recipe, dataset, report)


def start_classifier(recipe: Recipe, num_classes: int, report: Reporter) -> Start:
    from handlens.models import CATALOGUE, flattens
    from handlens.models.weights import SOURCES, load_into, load_weights

    entry = CATALOGUE[recipe.model]
    arguments: dict[str, Any] = {"num_classes": num_classes} | recipe.options
    if recipe.width is not None:
        arguments["width"] = recipe.width
    known = inspect.signature(entry.constructor).parameters
    if flattens(recipe.model) and "image_size" not in arguments:
        arguments["image_size"] = list(recipe.size()) if recipe.image_size else entry.image_size
    dropout = {} if recipe.dropout is None else {"dropout": recipe.dropout}
    net = _built(recipe.model, arguments | dropout)
    mean, std = SCALINGS[entry.scaling]
    preprocess = Preprocess(
        height=entry.image_size, width=entry.image_size, short_side=entry.image_size, mean=mean, std=std
    )
    if arguments.get("in_channels", known["in_channels"].default) == 1:
        gray_mean, gray_std = (sum(values) / len(values) for values in (mean, std))
        preprocess = replace(preprocess, color="gray", mean=(gray_mean,), std=(gray_std,))
    if recipe.mode != "scratch":
        weights = starting_weights(recipe)
        sentence = load_into(net, load_weights(weights, progress=report.progress), new_head=True)
        if sentence:
            report.say(sentence)
        if weights in SOURCES:
            source = SOURCES[weights].preprocess
            preprocess = replace(source, short_side=source.height)  # the whole image counts: no 12 % cut away
    if recipe.image_size is not None:
        height, width = recipe.size()
        preprocess = replace(preprocess, height=height, width=width, short_side=max(height, width))
    smallest = getattr(net, "smallest", 1)
    if min(preprocess.height, preprocess.width) < smallest:
        raise InputError(
            f"{recipe.model} takes images of {smallest} pixels a side and more, got image_size "
            f"{preprocess.height} x {preprocess.width}."
        )
    return Start(net, preprocess, {"name": recipe.model, "arguments": arguments})


def _start_segmenter(recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    arguments = _arguments(recipe, dataset)
    net = _built(recipe.model, arguments)
    if recipe.image_size is not None:
        height, width = recipe.size()
    else:
        height, width = usual_size(dataset.part("train"), longest=LONGEST_SIDE)
        if getattr(net, "align_corners", False):  # such a net fits multiples of its stride plus one
            height, width = (max(2, round((side - 1) / 16)) * 16 + 1 for side in (height, width))
    preprocess = _scaled_as(recipe, Preprocess(height=height, width=width, resize="pad"))
    _load_backbone(net, recipe, report)
    return Start(net, preprocess, {"name": recipe.model, "arguments": arguments})


def _start_detector(recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    fit = fit_anchors_to(recipe, dataset)
    report.say(f"The net sees images of {fit.width} x {fit.height} pixels.")
    preprocess = _scaled_as(recipe, Preprocess(height=fit.height, width=fit.width, resize="stretch"))
    arguments = _arguments(recipe, dataset) | {"first_stride": fit.first_stride, "anchors": fit.anchors}
    net = _built(recipe.model, arguments)
    _load_backbone(net, recipe, report)
    for name, share in fit.unreached.items():
        report.say(f"{name}: {100 * share:.1f} % of the boxes have no anchor.")
    return Start(net, preprocess, {"name": recipe.model, "arguments": arguments})


def _built(name: str, arguments: dict[str, Any]) -> nn.Module:
    """
    Raises:
        InputError: an option that the net does not have, or out of range.
    """
    from handlens.models import build

    try:
        return build(name, **arguments)
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: {error}.") from None


def _arguments(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    width = {} if recipe.width is None else {"width": recipe.width}
    return {"num_classes": len(dataset.class_names)} | width | recipe.options


def training_task(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Task:
    """What `fit` needs to know of the task."""
    make = {"classify": _classifier_task, "tag": _classifier_task, "segment": _segmenter_task, "detect": _detector_task}
    return make[dataset.task](recipe, dataset, preprocess)


def weights_of(recipe: Recipe) -> str | None:
    """The published weights that a recipe's net, or its backbone, starts from; None where there are none for it."""
    from handlens.models import CATALOGUE

    backbone = recipe.options.get("backbone", CATALOGUE[recipe.model].backbone)
    for net in (recipe.model, backbone):
        if net in CATALOGUE and CATALOGUE[net].weights:
            return CATALOGUE[net].weights[0]
    return None


def starting_weights(recipe: Recipe) -> str:
    """What a net that is not trained from scratch starts from: a name of published weights, or a file.

    Raises:
        InputError: there are none for this net, or not for this width.
    """
    published = weights_of(recipe)
    if recipe.weights is not None:
        return recipe.weights
    if published is None:
        raise InputError(f"there are no published weights for {recipe.model}; use --mode scratch, or --weights FILE.")
    if recipe.width not in (None, 1.0):
        raise InputError(
            f"published weights of {published} are for width 1.0, not {recipe.width}; use --mode scratch, "
            "or --weights FILE."
        )
    return published


def classifier_transform(preprocess: Preprocess, augment: Augment) -> Callable[..., Any]:
    """The random transform of a classifier's images that a recipe asks for."""
    from handlens.data.augment import classification_augment

    return classification_augment(
        preprocess,
        flip=augment.flip,
        crop_area=augment.crop_area,
        color=augment.color,
        vertical_flip=augment.vertical_flip,
        trivial=augment.trivial,
        rotate=augment.rotate,
    )


def _classifier_task(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Task:
    """Of images with one class each, and of those that may have several labels."""
    import numpy as np

    from handlens.data.augment import smallest_training_decode
    from handlens.data.examples import Images, TaggedImages
    from handlens.data.record import tag_targets
    from handlens.training.classify import ClassifierTraining
    from handlens.training.fit import Task
    from handlens.training.head import balanced_tag_weights, balanced_weights
    from handlens.training.tag import TaggerTraining

    classes = len(dataset.class_names)
    several = dataset.task == "tag"
    weights = None
    if recipe.class_weights == "balanced" and several:
        weights = balanced_tag_weights(tag_targets(dataset.part("train"), classes))
    elif recipe.class_weights == "balanced":
        targets = np.array([record.target for record in dataset.part("train")], dtype=np.int64)
        weights = balanced_weights(targets, classes)
    augment = recipe.augment
    images = partial(TaggedImages, num_classes=classes) if several else Images
    training = TaggerTraining if several else ClassifierTraining

    def examples(records: Sequence[Record], train: bool) -> Examples:
        transform = classifier_transform(preprocess, augment)
        at_least = smallest_training_decode(preprocess, crop_area=augment.crop_area)
        return images(
            records,
            preprocess=preprocess,
            transform=transform if train else None,
            seed=recipe.seed,
            at_least=at_least if train else preprocess.smallest_decode(),
        )

    return Task(
        examples,
        lambda net, steps: training(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, num_classes=classes, class_weights=weights
        ),
    )


def _segmenter_task(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Task:
    from handlens.data.augment import segmentation_augment
    from handlens.data.examples import MaskedImages
    from handlens.training.fit import Task
    from handlens.training.segment import SegmenterTraining

    augment = recipe.augment
    assert dataset.coding is not None
    coding = dataset.coding

    def examples(records: Sequence[Record], train: bool) -> Examples:
        transform = segmentation_augment(
            preprocess,
            flip=augment.flip,
            crop_area=augment.crop_area,
            color=augment.color,
            zoom_out=augment.zoom_out,
            vertical_flip=augment.vertical_flip,
        )
        return MaskedImages(
            records, preprocess=preprocess, transform=transform if train else None, coding=coding, seed=recipe.seed
        )

    return Task(
        examples,
        lambda net, steps: SegmenterTraining(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, num_classes=len(dataset.class_names)
        ),
    )


def _detector_task(recipe: Recipe, dataset: Dataset, preprocess: Preprocess) -> Task:
    from handlens.data.augment import detection_augment
    from handlens.data.examples import BoxedImages
    from handlens.training.detect import DetectorTraining
    from handlens.training.fit import Task

    augment = recipe.augment

    def examples(records: Sequence[Record], train: bool) -> Examples:
        transform = detection_augment(
            preprocess,
            flip=augment.flip,
            crop_area=augment.crop_area,
            color=augment.color,
            zoom_out=augment.zoom_out,
            vertical_flip=augment.vertical_flip,
        )
        return BoxedImages(
            records,
            preprocess=preprocess,
            transform=transform if train else None,
            mosaic=augment.mosaic,
            seed=recipe.seed,
        )

    return Task(
        examples,
        lambda net, steps: DetectorTraining(
            net, recipe=recipe, preprocess=preprocess, total_steps=steps, class_names=dataset.class_names
        ),
    )


def _load_backbone(net: nn.Module, recipe: Recipe, report: Reporter) -> None:
    from handlens.models import CATALOGUE
    from handlens.models.backbones import Backbone
    from handlens.models.weights import load_backbone, load_into, load_weights

    if recipe.mode == "scratch":
        return
    source = starting_weights(recipe)
    weights = load_weights(source, progress=report.progress)
    backbone = getattr(net, "backbone", None)
    whole = source in CATALOGUE[recipe.model].weights  # published with its head
    sentence: str | None
    if isinstance(backbone, Backbone) and not whole and not any(key.startswith("backbone.") for key in weights):
        sentence = load_backbone(backbone, weights)  # a classifier's
    else:
        sentence = load_into(net, weights, new_head=True)
    if sentence:
        report.say(sentence)


def _scaled_as(recipe: Recipe, preprocess: Preprocess) -> Preprocess:
    """With the normalization that the weights were trained with; from scratch the net's own."""
    from handlens.models import CATALOGUE
    from handlens.models.weights import SOURCES

    source = None if recipe.mode == "scratch" else recipe.weights or weights_of(recipe)
    if source in SOURCES:
        return replace(preprocess, mean=SOURCES[source].preprocess.mean, std=SOURCES[source].preprocess.std)
    published = None if recipe.mode == "scratch" else weights_of(recipe)
    mean, std = SCALINGS[CATALOGUE[(published or recipe.model).partition(":")[0]].scaling]
    return replace(preprocess, mean=mean, std=std)
