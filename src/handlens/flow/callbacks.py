"""Whether the caller's Lightning callbacks can work in a run, and be saved and resumed with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from handlens.errors import InputError
from handlens.training.parts import name_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from handlens.training.recipe import Recipe


def with_callbacks(recipe: Recipe, callbacks: Sequence[Callback], *, resuming: bool) -> Recipe:
    """The recipe with their names.

    Raises:
        InputError: one is not a callback of Lightning, cannot work here, or has a state that a checkpoint cannot hold;
            or others than the run was started with.
    """
    if not callbacks and not recipe.callbacks:
        return recipe  # without Lightning, whose import takes longer than fitting a head
    import io

    import torch
    from lightning.pytorch import Callback
    from lightning.pytorch.callbacks import (
        DeviceStatsMonitor,
        GradientAccumulationScheduler,
        LearningRateMonitor,
        StochasticWeightAveraging,
    )

    seen = set()
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise InputError(f"callbacks must be of lightning.pytorch.Callback, got {type(callback).__name__}.")
        kind = type(callback).__name__
        if isinstance(callback, (DeviceStatsMonitor, LearningRateMonitor)):
            raise InputError(
                f"{kind} needs a logger of Lightning; learning rates stand in metrics.csv and TensorBoard."
            )
        if isinstance(callback, (GradientAccumulationScheduler, StochasticWeightAveraging)):
            raise InputError(f"{kind} changes steps or weights behind the recipe; use its batch_size, or ema.")
        if callback.state_dict() and callback.state_key in seen:
            raise InputError(
                f"two callbacks save their state as {callback.state_key}; give one other arguments, or its class "
                "another state_key."
            )
        seen.add(callback.state_key)
        file = io.BytesIO()
        try:
            torch.save(callback.state_dict(), file)
            torch.load(io.BytesIO(file.getvalue()), weights_only=True)
        except Exception as error:  # of pickle and of torch, of many kinds
            raise InputError(
                f"the state of {kind} cannot be resumed: state_dict must give numbers, text, tensors, and lists and "
                "dicts of them."
            ) from error
    names = [name_of(callback) for callback in callbacks]
    if names != recipe.callbacks and (resuming or recipe.callbacks):
        raise InputError(
            f"the run has the callbacks {', '.join(recipe.callbacks) or 'none'}, and {', '.join(names) or 'none'} were "
            "passed; pass the same again as callbacks=..."
        )
    return recipe.model_copy(update={"callbacks": names})
