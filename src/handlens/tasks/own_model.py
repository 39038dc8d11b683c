"""Models, losses and transforms of the caller's own: how they begin, and whether they fit, before there is a run."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from handlens.data.record import Dataset
from handlens.errors import InputError
from handlens.preprocess import SCALINGS, Preprocess
from handlens.reporter import Reporter
from handlens.tasks.pieces import Start
from handlens.tasks.task import Task
from handlens.training.model_info import Architecture
from handlens.training.parts import name_of, require_num_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from handlens.training.recipe import Recipe

ENGINE_AGREES = 0.99  # share of the outputs that must be equal: a pixel between two classes may fall to either
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
    if not ready:
        require_num_classes(recipe.model)
    arguments = None if ready else {"num_classes": classes} | recipe.options
    try:
        net = recipe.model if arguments is None else recipe.model(**arguments)
    except Exception as error:  # whatever the caller's code raises
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
    if not (recipe.own_model or recipe.has_own_blocks or recipe.loss or recipe.transform):
        return
    from torch import nn

    from handlens.data.examples import collate
    from handlens.models.blocks import freeze_batch_norm

    if isinstance(recipe.loss, nn.Module) and any(part.requires_grad for part in recipe.loss.parameters()):
        raise InputError(f"{name_of(recipe.loss)} has parameters to learn; only those of the model are trained.")
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
        raise InputError(f"{recipe.part_names()} failed on two training images: {error!r}.") from error
    if recipe.own_model or recipe.has_own_blocks:
        as_predicted = learning.examples(records, False)
        _try_engine(task, recipe.part_names(), net, preprocess, [as_predicted[0, n][0] for n in range(len(records))])


def _try_engine(task: Task, name: str, net: nn.Module, preprocess: Preprocess, images: Sequence[Tensor]) -> None:
    """The engine file that `predict` will run gives what the model gives.

    Args:
        images: (C, height, width) uint8; their negatives are tried too, for code that depends on what it sees.

    Raises:
        InputError: the model cannot be converted, or depends on the images in a way that a graph cannot follow.
    """
    import numpy as np
    import torch

    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.openvino.convert import to_openvino
    from handlens.runtimes.openvino.engine import OpenVINOEngine

    graph = DeployGraph(copy.deepcopy(net).float().cpu().eval(), preprocess, last_step=task.last_step)
    try:
        engine = OpenVINOEngine(to_openvino(graph, preprocess, outputs=task.outputs), precision="fp32")
    except Exception as error:  # of torch's tracer and of OpenVINO, of many kinds
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{name} cannot be converted to OpenVINO, which predict runs: {reason}") from error
    seen = torch.stack(list(images)).permute(0, 2, 3, 1).contiguous().numpy()
    for batch in (seen, 255 - seen):
        given, expected = engine.run(batch), graph.arrays(batch, task.outputs)
        for output in task.outputs[:1]:  # of boxes their places: others follow their order, in which equals may swap
            close = np.isclose(given[output], expected[output], rtol=1e-2, atol=1e-3)
            if close.mean() < ENGINE_AGREES:
                raise InputError(
                    f"{name} gives other results as an OpenVINO graph, which predict runs: its code must not branch on "
                    "the values of the images."
                )
