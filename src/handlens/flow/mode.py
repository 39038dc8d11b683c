"""What a recipe asks for, and whether this data set and this task can have it: the model, the mode, the batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError, nearest
from handlens.reporter import Reporter
from handlens.tasks import TASKS
from handlens.tasks.starting import published_for
from handlens.tasks.task import Task
from handlens.training.parts import name_of

if TYPE_CHECKING:
    from torch import nn

    from handlens.training.recipe import Mode, Recipe

# Optimizer steps, with fewer of which the full rate undoes more of a fitted head than it can learn again
# (benchmarks/finetune_start.py).
FULL_RATE_STEPS = 250
FEW = 500  # training images, below which nothing good comes of training from scratch; our choice
NOT_FOR_A_HEAD = {
    "epochs",
    "batch_size",
    "learning_rate",
    "layer_decay",
    "warmup",
    "dropout",
    "ema",
    "patience",
    "schedule",
    "decay",
    "plateau_epochs",
    "tensorboard",
}


def require_known(name: Any) -> None:
    """
    Args:
        name: or a model of the caller's own.

    Raises:
        InputError: the catalogue has no such net; the closest match is named.
    """
    from handlens.models import CATALOGUE

    if isinstance(name, str) and name not in CATALOGUE:
        raise InputError(f"unknown model {name!r}; {nearest(name, CATALOGUE)}.")


def require_mode(recipe: Recipe, task: Task) -> None:
    """
    Raises:
        InputError: a mode that the task does not have.
    """
    if recipe.mode == "head" and not task.has_head:
        raise InputError(f"mode head is not available for the task {task.name}; use finetune or scratch.")
    if recipe.mode == "head" and recipe.own_model:
        raise InputError("mode head needs a model of the catalogue; train your own with finetune or scratch.")
    if recipe.mode == "head" and recipe.needs_epochs:
        raise InputError(
            "a loss, a transform or callbacks of your own have no use in mode head; use finetune or scratch."
        )
    if recipe.transform and recipe.augmented_copies:
        raise InputError("augmented_copies are made by the recipe's own augmentation; leave out it or your transform.")


def choose_mode(recipe: Recipe, task: Task, images: int, report: Reporter) -> Recipe:
    """Settle "auto", say why, and take the mode's and the task's defaults.

    Raises:
        InputError: a mode that the task does not have.
    """
    from handlens.models.pretrained import have_weights

    require_mode(recipe, task)
    if recipe.mode != "auto":
        return _settled(recipe, recipe.mode, task, images)
    if recipe.own_model:
        ready = not isinstance(recipe.model, type) and hasattr(recipe.model, "state_dict")
        return _settled(recipe, "finetune" if ready or recipe.weights else "scratch", task, images)
    wanted = recipe.settled("finetune", task.defaults)
    fits = recipe.width in (None, 1.0) and not recipe.has_own_blocks
    fitting = published_for(wanted) if fits else ()
    found = (name for name in fitting if have_weights(name, progress=report.progress))
    source = recipe.weights or next(found, None)
    mode: Mode
    if source is None:
        mode, why = "scratch", f"no pretrained weights of {wanted.model} are available for this recipe"
        if fitting:
            why += f" (to see why: handlens weights get {fitting[0]})"
    elif not task.has_head:
        mode, why = "finetune", f"the model starts from pretrained weights, {source}"
    elif recipe.needs_epochs:
        mode, why = "finetune", "a loss, a transform or callbacks of your own need training by epochs"
    elif images < 1000:
        mode, why = "head", f"with only {images} images, a head on frozen features is fast and does not overfit"
    else:
        mode, why = "finetune", f"{images} images are enough for fine-tuning"
    report.say(f"Mode {mode}: {why}.")
    if mode == "scratch" and images < FEW:
        report.say(
            f"{images} images are few for training from scratch; pretrained weights would give much better results."
        )
    return _settled(recipe, mode, task, images)


def _settled(recipe: Recipe, mode: Mode, task: Task, images: int) -> Recipe:
    """With the defaults of the mode and the task; a learning rate that nobody asked for falls with the steps.

    The root, because the first steps of AdamW move each weight by the whole rate: after n steps weights have gone a
    distance between n and sqrt(n) times it.
    """
    settled = recipe.settled(mode, task.defaults)
    if mode != "finetune" or not task.has_head or recipe.own_model or "learning_rate" in recipe.model_fields_set:
        return settled
    steps = max(1, settled.epochs * math.ceil(images / settled.batch_size))
    rate = settled.learning_rate * math.sqrt(min(1.0, steps / FULL_RATE_STEPS))
    return settled.model_copy(update={"learning_rate": float(f"{rate:.2g}")})


def say_unused(recipe: Recipe, task: Task, report: Reporter) -> None:
    asked = recipe.model_fields_set | {f"augment.{name}" for name in recipe.augment.model_fields_set}
    of_others = frozenset().union(*(other.uses for other in TASKS.values())) - task.uses
    unused = sorted(asked & of_others)
    if unused:
        report.say(f"Not used for the task {task.name}: {', '.join(unused)}.")
    unused = sorted(recipe.model_fields_set & NOT_FOR_A_HEAD) if recipe.mode == "head" else []
    if unused:
        report.say(f"Not used in mode head: {', '.join(unused)}; use --mode finetune.")


def require_a_batch(net: nn.Module, recipe: Recipe, task: Task, images: int) -> None:
    """
    Raises:
        InputError: one image a batch, and a batch norm that learns from it; or from scratch no epoch at all.
    """
    from handlens.models.blocks import BatchNorm

    if recipe.mode == "head":
        return
    if recipe.epochs == 0 and (recipe.mode == "scratch" or not task.has_head or recipe.own_model):
        raise InputError("training without a head that is fitted first needs at least 1 epoch.")
    all_frozen = task.has_head and recipe.freeze_batch_norm  # of others a new head has norms without statistics yet
    learns = not all_frozen and any(isinstance(m, BatchNorm) for m in net.modules())
    if learns and min(recipe.batch_size, images) < 2:
        raise InputError(f"{name_of(recipe.model)} needs at least two images per batch, for its batch norm.")
