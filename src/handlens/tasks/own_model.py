"""Models, losses and transforms of the caller's own: how they begin, and whether they fit, before there is a run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from handlens.data.record import Dataset
from handlens.errors import InputError
from handlens.preprocess import SCALINGS, Preprocess
from handlens.reporter import Reporter
from handlens.tasks.task import Start, Task
from handlens.training.model_info import Architecture
from handlens.training.parts import name_of

if TYPE_CHECKING:
    from torch import nn

    from handlens.training.recipe import Recipe

SIDE = 224  # pixels, of the input where the recipe does not say


def start_own_model(task: Task, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    """Build it, unless it is a module already, and give it two images.

    Raises:
        InputError: it cannot be built with the number of classes and the recipe's options, or is none for the task.
    """
    import torch
    from torch import nn

    from handlens.models.loading import load_into
    from handlens.models.pretrained import load_weights

    name, classes = name_of(recipe.model), len(dataset.class_names)
    ready = isinstance(recipe.model, nn.Module)
    arguments = None if ready else {"num_classes": classes} | recipe.options
    try:
        net = recipe.model if arguments is None else recipe.model(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be built with {arguments}: {error}.") from error
    if not isinstance(net, nn.Module):
        raise InputError(f"{name} gives a {type(net).__name__}; a constructor of a model gives a torch.nn.Module.")
    if recipe.weights is not None:
        sentence = load_into(net, load_weights(recipe.weights, progress=report.progress), new_head=True)
        report.say(sentence or f"The model starts from {recipe.weights}.")
    height, width = (SIDE, SIDE) if recipe.image_size is None else recipe.size()
    mean, std = SCALINGS["imagenet"]
    preprocess = Preprocess(
        height=height, width=width, short_side=max(height, width), resize=task.resize, mean=mean, std=std
    )
    try:
        with torch.inference_mode():
            raw = net.eval()(torch.zeros(2, preprocess.channels, height, width))
    except Exception as error:  # whatever the caller's code raises
        raise InputError(f"{name} failed on two images of {height} x {width} pixels: {error}.") from error
    refusal = task.refuses_model(net, raw, classes=classes, height=height, width=width)
    if refusal is not None:
        raise InputError(f"{name} is no model for the task {task.name}: {refusal}.")
    return Start(net, preprocess, Architecture(name, arguments))


def try_parts(task: Task, recipe: Recipe, dataset: Dataset, net: nn.Module, preprocess: Preprocess) -> None:
    """One step's loss on two training images, with a copy of the model: what fails there would fail in the run.

    Raises:
        InputError: a loss or transform of the caller's own, or its model while it trains, does.
    """
    from handlens.data.examples import collate
    from handlens.models.blocks import freeze_batch_norm

    if not (recipe.own_model or recipe.loss or recipe.transform):
        return
    learning = task.learning(recipe, dataset, preprocess)
    records = dataset.part("train")[:2]
    try:
        examples = learning.examples(records, True)
        batch = collate([examples[0, number] for number in range(len(records))])
        trial = copy.deepcopy(net).train()
        if recipe.freeze_batch_norm:
            freeze_batch_norm(getattr(trial, "backbone", trial))
        learning.training(trial, 1).loss(batch).backward()
    except InputError:
        raise
    except Exception as error:  # whatever the caller's code raises
        raise InputError(f"{', '.join(recipe.parts())} failed on two training images: {error!r}.") from error
