"""What one training learns: a head on frozen features, epochs, or both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.labels.finding import counted
from handlens.reporter import Reporter
from handlens.tasks.answers import sample_predictions
from handlens.tasks.heads import FrozenBackbone, cross_validated, fit_frozen_head, install_head, validate_head
from handlens.tasks.pieces import Start
from handlens.tasks.task import Task
from handlens.training.run import BEST, append_metrics

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from handlens.data.check import Audit
    from handlens.data.record import Dataset, Record
    from handlens.training.fit import Learning
    from handlens.training.recipe import Recipe

SAVED = "saved"  # what a KeyboardInterrupt carries that came after the last step was saved
START = "checkpoints/start.safetensors"


@dataclass(frozen=True)
class Job:
    """What one training is about, from the data set to the run folder."""

    folder: Path
    task: Task
    recipe: Recipe
    audit: Audit
    dataset: Dataset
    start: Start
    callbacks: Sequence[Callback]
    report: Reporter

    @property
    def begins_with_head(self) -> bool:
        """Whether epochs follow a head that was fitted on frozen features."""
        return self.task.has_head and self.recipe.mode == "finetune" and not self.recipe.own_model

    def frozen_backbone(self) -> FrozenBackbone:
        """Of the model as it is now. It holds a converted copy: not to be kept while epochs run."""
        return FrozenBackbone(self.start.net, self.start.preprocess, self.audit, self.recipe, self.report)

    @property
    def names(self) -> tuple[str, ...]:
        return self.dataset.class_names


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        validation: as model.json has it: the task's metric, "loss", "count" and "how" it was measured.
        chosen: as `Task.choose` returns it.
        backbone: where nothing before the classifier was trained.
    """

    validation: dict[str, Any]
    chosen: dict[str, Any]
    backbone: FrozenBackbone | None = None


def learn(job: Job) -> Outcome:
    """Train the job's model in place.

    Raises:
        InputError: the loss was never a number.
        KeyboardInterrupt: asked to stop; it carries SAVED where nothing is lost.
    """
    return _train_head(job) if job.recipe.mode == "head" else _train_by_epochs(job)


def _train_head(job: Job) -> Outcome:
    """A linear head on frozen features.

    Cross-validation picks the weight decay, so that validation images can be learned from; but where there is no test
    split, they are all that an evaluation has.
    """
    dataset = job.dataset
    frozen = job.task.frozen(dataset)
    records = list(dataset.part("train"))
    if dataset.part("test"):
        records += dataset.part("validation")
        job.report.say(
            "The head is fitted on the validation images too: cross-validation measures it, evaluate takes test."
        )
    backbone = job.frozen_backbone()
    head = fit_frozen_head(frozen, backbone, records, job.names)
    install_head(job.start.net, head)
    validation = cross_validated(frozen, head, records, job.names)
    return Outcome(validation, frozen.choose(head, records, job.names), backbone)


def _train_by_epochs(job: Job) -> Outcome:
    """Fine-tuning, of classifiers after a head was fitted, or training from scratch."""
    from handlens.training.saving import load_tensors, save_net

    net, folder, recipe, task = job.start.net, job.folder, job.recipe, job.task
    training, validation = job.dataset.part("train"), job.dataset.part("validation")
    first = folder / START
    score = float("-inf"), float("-inf")
    if job.begins_with_head:
        score = _head_first(job, first)
    elif first.is_file():  # a module of the caller's own may have other weights than when the run was started
        net.load_state_dict(load_tensors(first))
    else:
        save_net(net, first)
    learning = task.learning(recipe, job.dataset, job.start.preprocess)
    metric, loss = _fit(job, learning, training, validation, score)
    trained = folder / BEST
    net.load_state_dict(load_tensors(trained if trained.is_file() else first))
    if job.begins_with_head:
        better = trained.is_file()
        _compare_with_head(task, score[0], metric if better else None, len(validation), job.report)
    return Outcome(
        {
            task.metric: metric,
            "loss": -loss if math.isfinite(loss) else None,
            "count": len(validation),
            "how": "validation split",
        },
        chosen={},
    )


def _compare_with_head(task: Task, head: float, best: float | None, images: int, report: Reporter) -> None:
    """Say where the epochs brought nothing over the head they began with, or nothing that is sure.

    Args:
        head, best: the metric on validation; None where no epoch was chosen.
    """
    if best is None:
        report.say(f"No epoch improved on the head alone ({task.shown(head)} on validation): the head is kept.")
        return
    interval = task.interval(head, images)
    if interval is not None and head < best <= interval[1]:
        report.say(
            f"The head alone has {task.shown(head)}, the best epoch {task.shown(best)}: with "
            f"{counted(images, 'validation image')} this difference may be due to chance."
        )


def _head_first(job: Job, first: Path) -> tuple[float, float]:
    """(metric, -loss) on validation of the head that fine-tuning starts from, kept in `first`."""
    from handlens.training.saving import load_tensors, save_net

    net, report, backbone = job.start.net, job.report, job.frozen_backbone()
    frozen = job.task.frozen(job.dataset)
    if first.is_file():
        net.load_state_dict(load_tensors(first))
    else:
        install_head(net, fit_frozen_head(frozen, backbone, job.dataset.part("train"), job.names))
        save_net(net, first)
    metric, loss = validate_head(frozen, backbone, job.dataset.part("validation"))
    row = {"epoch": 0, "validation_loss": -loss, f"validation_{job.task.metric}": metric}
    if job.recipe.loss:  # the head is fitted by its own, which is no number to compare with
        loss = float("-inf")
        del row["validation_loss"]
    append_metrics(job.folder, row)
    report.say(f"Epoch 0 (head only): {job.task.shown(metric)} on validation.")
    return metric, loss


def _fit(
    job: Job,
    learning: Learning,
    training: Sequence[Record],
    validation: Sequence[Record],
    score: tuple[float, float],
) -> tuple[float, float]:
    from handlens.models.blocks import freeze_batch_norm
    from handlens.training.fit import fit
    from handlens.training.writer import InterruptedTraining

    # What came with statistics keeps them; a new head has none yet.
    hooks = freeze_batch_norm(getattr(job.start.net, "backbone", job.start.net)) if job.recipe.freeze_batch_norm else []
    try:
        return fit(
            job.start.net,
            folder=job.folder,
            recipe=job.recipe,
            learning=learning,
            training=training,
            validation=validation,
            start_score=score,
            callbacks=job.callbacks,
            samples=partial(sample_predictions, job.task, job.start.preprocess, job.dataset),
            shown=job.task.shown,
            say=job.report.say,
            progress=job.report.progress,
        )
    except InterruptedTraining:
        raise KeyboardInterrupt(SAVED) from None
    finally:
        for hook in hooks:
            hook.remove()
