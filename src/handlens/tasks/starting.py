"""What every task's start has in common: the model, its weights and the scaling that goes with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from handlens.data.record import Dataset, Record
from handlens.errors import InputError
from handlens.preprocess import SCALINGS, Preprocess
from handlens.reading.files import read_bytes
from handlens.reporter import Reporter
from handlens.tasks.pieces import Start
from handlens.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from handlens.training.recipe import Recipe


def begin(task: Task, recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    """`Task.start`, of a model that is one for the task.

    Raises:
        InputError: as there, and for a model of another task.
    """
    from handlens.models import CATALOGUE
    from handlens.tasks.own_model import start_own_model

    if not recipe.own_model and CATALOGUE[recipe.model].task != task.models:
        fitting = [name for name, entry in CATALOGUE.items() if entry.task == task.models]
        raise InputError(
            f"{recipe.model} is a model for the task {CATALOGUE[recipe.model].task}, but {dataset.root.name} is "
            f"labeled for {task.name}; use one of {', '.join(fitting)}."
        )
    start = start_own_model(task, recipe, dataset, report) if recipe.own_model else task.start(recipe, dataset, report)
    if recipe.normalization is None:
        return start
    return replace(start, preprocess=scaled(start.preprocess, recipe.normalization))


def built(name: str, arguments: dict[str, Any]) -> nn.Module:
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


def arguments_of(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    width = {} if recipe.width is None else {"width": recipe.width}
    return {"num_classes": len(dataset.class_names)} | width | recipe.options


def published_for(recipe: Recipe) -> tuple[str, ...]:
    """The published weights that a recipe's model can start from: its own first, then those of its backbone."""
    from handlens.models import CATALOGUE

    if recipe.own_model:
        return ()
    entry = CATALOGUE[recipe.model]
    backbone = recipe.options.get("backbone", entry.backbone)
    own = entry.weights[:1] if backbone == entry.backbone else ()
    return own + (CATALOGUE[backbone].weights[:1] if backbone in CATALOGUE else ())


def starting_weights(recipe: Recipe, report: Reporter) -> str:
    """What a model that is not trained from scratch starts from: a name of published weights, or a file.

    Raises:
        InputError: there are none for this model, or not for this width, or they cannot be had.
    """
    from handlens.models.pretrained import get_weights, have_weights

    if recipe.weights is not None:
        return recipe.weights
    published = published_for(recipe)
    if not published:
        raise InputError(f"there are no published weights for {recipe.model}; use --mode scratch, or --weights FILE.")
    if recipe.width not in (None, 1.0):
        raise InputError(
            f"published weights of {published[0]} are for width 1.0, not {recipe.width}; use --mode scratch, "
            "or --weights FILE."
        )
    found = next((name for name in published if have_weights(name, progress=report.progress)), None)
    if found is None:
        get_weights(published[0], progress=report.progress)  # says why
    return found or published[0]


def load_published(
    net: nn.Module, recipe: Recipe, preprocess: Preprocess, report: Reporter
) -> tuple[Preprocess, str | None]:
    """Load what training starts from into the model; from scratch nothing.

    Returns:
        the Preprocess with the normalization that goes with what was loaded, and the name or file of the weights, None
        from scratch.

    Raises:
        InputError: as `starting_weights`, or the weights do not fit the model.
    """
    from handlens.models import CATALOGUE
    from handlens.models.backbones import Backbone
    from handlens.models.loading import load_backbone, load_into
    from handlens.models.pretrained import load_weights
    from handlens.weights import SOURCES

    entry = CATALOGUE[recipe.model]
    if recipe.mode == "scratch":
        return scaled(preprocess, entry.scaling), None
    source = starting_weights(recipe, report)
    weights = load_weights(source, progress=report.progress)
    backbone = getattr(net, "backbone", None)
    if isinstance(backbone, Backbone) and not any(key.startswith("backbone.") for key in weights):
        classifier = recipe.options.get("backbone", entry.backbone)
        scaling = CATALOGUE[classifier].scaling if classifier in CATALOGUE else entry.scaling
        sentence: str | None = load_backbone(backbone, weights)
    else:
        scaling = entry.scaling
        sentence = load_into(net, weights, new_head=True)
    if sentence:
        report.say(sentence)
    if source in SOURCES:
        known = SOURCES[source].preprocess
        return replace(preprocess, mean=known.mean, std=known.std), source
    return scaled(preprocess, scaling), source


def scaled(preprocess: Preprocess, scaling: str) -> Preprocess:
    """
    Args:
        scaling: a name of SCALINGS.
    """
    mean, std = scaling_of(scaling, gray=preprocess.color == "gray")
    return replace(preprocess, mean=mean, std=std)


def scaling_of(scaling: str, *, gray: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) as Preprocess has them; of one channel the averages."""
    mean, std = SCALINGS[scaling]
    return ((sum(mean) / 3,), (sum(std) / 3,)) if gray else (mean, std)


def usual_size(records: Sequence[Record], *, longest: int, enlarge: bool = False) -> tuple[int, int]:
    """(height, width) of the middle image by area, no side above `longest`, in multiples of 8."""
    sizes = sorted((upright_size(record) for record in records), key=lambda size: size[0] * size[1])
    height, width = sizes[len(sizes) // 2]
    scale = longest / max(height, width)
    scale = scale if enlarge else min(1.0, scale)
    return max(32, round(height * scale / 8) * 8), max(32, round(width * scale / 8) * 8)


def upright_size(record: Record) -> tuple[int, int]:
    """(height, width) of the upright image, from its header."""
    from handlens.data.decode import probe

    info = probe(read_bytes(record.path, "image"), record.id)
    return info.height, info.width
