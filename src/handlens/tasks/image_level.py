"""What tasks with one label per image share: the start of a classifier's training, its examples and its tiles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from handlens.data.record import Record
from handlens.errors import InputError
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.tasks.pieces import Start, Tile
from handlens.tasks.starting import built, scaling_of, starting_weights
from handlens.training.model_info import Architecture

if TYPE_CHECKING:
    from handlens.data.examples import Examples
    from handlens.training.recipe import Augment, Recipe


def start_image_model(recipe: Recipe, num_classes: int, report: Reporter) -> Start:
    from handlens.models import CATALOGUE, flattens
    from handlens.models.loading import load_into
    from handlens.models.pretrained import load_weights
    from handlens.weights import SOURCES

    entry = CATALOGUE[recipe.model]
    arguments: dict[str, Any] = {"num_classes": num_classes} | recipe.options
    if recipe.width is not None:
        arguments["width"] = recipe.width
    known = inspect.signature(entry.constructor).parameters
    if flattens(recipe.model) and "image_size" not in arguments:
        arguments["image_size"] = list(recipe.size()) if recipe.image_size else entry.image_size
    dropout = {} if recipe.dropout is None else {"dropout": recipe.dropout}
    net = built(recipe.model, arguments | dropout)
    gray = arguments.get("in_channels", known["in_channels"].default) == 1
    mean, std = scaling_of(entry.scaling, gray=gray)
    preprocess = Preprocess(
        height=entry.image_size,
        width=entry.image_size,
        short_side=entry.image_size,
        color="gray" if gray else "rgb",
        mean=mean,
        std=std,
    )
    weights = None
    if recipe.mode != "scratch":
        weights = starting_weights(recipe, report)
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
            f"{recipe.model} needs at least {smallest} x {smallest} pixels, got image_size "
            f"{preprocess.height} x {preprocess.width}."
        )
    return Start(net, preprocess, Architecture(recipe.model, arguments), weights)


def image_transform(preprocess: Preprocess, augment: Augment) -> Callable[..., Any]:
    """The random transform that a recipe asks for."""
    from handlens.data.augment import image_augment

    return image_augment(
        preprocess,
        flip=augment.flip,
        crop_area=augment.crop_area,
        color=augment.color,
        vertical_flip=augment.vertical_flip,
        trivial=augment.trivial,
        rotate=augment.rotate,
    )


def image_examples(
    recipe: Recipe, preprocess: Preprocess, label: Callable[[Record], Any]
) -> Callable[[Sequence[Record], bool], Examples]:
    """As `Learning.examples`: augmented where they are trained on, else as they are predicted."""
    from handlens.data.augment import smallest_training_decode
    from handlens.data.examples import ImageExamples
    from handlens.data.own_transform import OwnTransform

    own = OwnTransform(recipe.transform, preprocess).image if recipe.transform else None
    transform = own or image_transform(preprocess, recipe.augment)
    at_least = smallest_training_decode(preprocess, crop_area=recipe.augment.crop_area)

    def examples(records: Sequence[Record], train: bool) -> Examples:
        return ImageExamples(
            records,
            preprocess=preprocess,
            transform=transform if train else None,
            seed=recipe.seed,
            label=label,
            at_least=at_least if train else None,
        )

    return examples


def image_tile(record: Record, caption: str) -> Tile:
    """The image as it is, with its label below."""
    from handlens.data.decode import decode
    from handlens.drawing import fitted
    from handlens.tasks.tiles import TILE

    return Tile(fitted(decode(record.path, at_least=(TILE, TILE)), TILE), caption)
