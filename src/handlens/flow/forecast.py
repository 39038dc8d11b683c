"""forecast: how many more images a head on frozen features needs to reach a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.labels.finding import counted
from handlens.errors import FindingsError, InputError, check_numbers, require
from handlens.files import write_bytes
from handlens.flow.data import stop_on_findings
from handlens.flow.forecast_words import sentences
from handlens.flow.mode import require_known, require_mode
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.tasks import TASKS
from handlens.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlens.data.check import Audit
    from handlens.data.record import Record
    from handlens.evaluation.forecast import Measured
    from handlens.tasks.pieces import Frozen
    from handlens.tasks.shares import Fitted
    from handlens.training.recipe import Recipe

FEWEST = 10  # images that a head is fitted on, and at least two per class; our choice
LEAST_SHARES = 4  # for three parameters
ROUNDS = 2  # of five-fold cross-validation: ten repeats per share
DRAWS = 400  # bootstrap samples
MOST_IMAGES = 10**9


@shows_progress
def forecast(
    data: Path | str,
    *,
    target: float | None = None,
    images: Sequence[int] = (),
    recipe: Recipe | Mapping[str, Any] | None = None,
    plot: Path | None = None,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """How many more images a head on frozen features needs, from its error on growing shares of those there are.

    Images of a given test split are left out. Heads are fitted as `train` fits them in mode head, and measured on
    images that they did not see; duplicates and groups are fitted or measured together. The law and its source:
    `handlens.evaluation.learning_curve`.

    Args:
        target: percent of the task's metric; None is half of the present error.
        images: further numbers of images to predict the metric for.
        recipe: a Recipe, or its fields by name; its mode is head.
        plot: where the curve is drawn, as PNG.

    Returns:
        {"task", "metric", "images", "present": {"value", "interval"}, "target", "needed": {"images", "more",
        "interval", "more_interval"}, "law": {"a", "b", "c", "limit", "limit_interval"}, "table": [{"images",
        "measured", "measured_interval", "predicted", "interval"}], "classes": [{"class", "images", "error", "falling",
        "share"}], "mostly", "falls", "repeats", "sentences"}. Metrics and errors are shares, intervals hold 95 %; None
        in place of a number of images means that none is enough, or more than a hundred times as many.

    Raises:
        FindingsError: the data is not fit, or has too few images.
        InputError: a task without a head, a target out of range, or anything else that the caller can mend.
    """
    require("torch", extra="train", what="forecast")
    if target is not None and not 0 < target < 100:
        raise InputError(f"--target must be between 0 and 100 percent, got {target:g}.")
    if target is not None and target < 1:
        raise InputError(f"--target is in percent: did you mean {100 * target:g}?")
    asked = check_numbers(images, "images", MOST_IMAGES) if images else []
    from handlens.data import open_dataset
    from handlens.data.check import audit as look_through
    from handlens.evaluation.forecast import Curve
    from handlens.tasks.heads import FOLDS

    dataset = open_dataset(data, format=format, config=config)
    report.say(f"{dataset.summary()}.")
    task = TASKS[dataset.task]
    if not task.has_head:
        others = ", ".join(name for name, other in TASKS.items() if other.has_head)
        raise InputError(
            f"forecast is available for tasks with a head on frozen features ({others}); the task of this data is "
            f"{task.name}."
        )
    settled = _settled(recipe, task)
    audit = look_through(dataset, progress=report.steps("checking"))
    stop_on_findings(audit, strict=False)
    measured = measure(audit, settled, report)
    curve = Curve(measured)
    found = {"task": dataset.task, "metric": task.metric, "repeats": ROUNDS * FOLDS}
    found |= curve.forecast(None if target is None else target / 100, asked)
    found |= curve.classes_that_gain(dataset.class_names)
    found["sentences"] = sentences(found, task)
    if plot is not None:
        from handlens.evaluation.learning_plot import learning_plot

        write_bytes(plot, learning_plot(curve, found, title=task.metric_title))
    return found


def _settled(recipe: Recipe | Mapping[str, Any] | None, task: Task) -> Recipe:
    """
    Raises:
        InputError: no recipe for a head on frozen features.
    """
    from handlens.training.recipe import Recipe
    from handlens.training.recipe_file import make_recipe

    asked = recipe.asked() if isinstance(recipe, Recipe) else dict(recipe or {})
    mode = asked.get("mode", "auto")
    if mode not in ("auto", "head"):
        raise InputError(f"forecast fits heads on frozen features; leave out mode {mode}.")
    made = make_recipe(asked | {"mode": "head"}).with_parts()
    require_known(made.model)
    require_mode(made, task)
    return made.settled("head", task.defaults)


def measure(audit: Audit, recipe: Recipe, report: Reporter, *, records: Sequence[Record] | None = None) -> Measured:
    """Errors of heads on growing shares of an audited data set, and of bootstrap samples.

    Args:
        recipe: settled for mode head.
        records: of the audit's usable ones; None is all that have a label and are not of a test split.

    Raises:
        FindingsError: there are too few.
    """
    import numpy as np

    from handlens.data.split import kept_together
    from handlens.tasks.heads import FOLDS, FrozenBackbone
    from handlens.tasks.shares import SHARES, SLICES, fit_shares
    from handlens.tasks.starting import begin

    usable = audit.usable()
    if records is None:
        records = [record for record in usable.records if record.labeled and record.split != "test"]
    fitted = usable.with_records([replace(record, split="train") for record in records])
    task, names = TASKS[usable.task], usable.class_names
    units = kept_together(fitted.records, audit.duplicates)
    least = max(FEWEST, 2 * len(names))
    pool = len(units) * (FOLDS - 1) / FOLDS
    shares = [share for share in SHARES if share / SLICES * pool >= least]
    if len(shares) < LEAST_SHARES:
        enough = math.ceil(least * SLICES / SHARES[-LEAST_SHARES] * FOLDS / (FOLDS - 1))
        copies = "" if len(units) == len(records) else f", {len(units)} without copies and within groups,"
        raise FindingsError(
            f"{counted(len(records), 'labeled image')}{copies} are too few for a forecast of "
            f"{counted(len(names), usable.kind.named)}: at least {enough} are needed."
        )
    start = begin(task, recipe, fitted, report)
    backbone = FrozenBackbone(start.net, start.preprocess, audit, recipe, report)
    features = [backbone.features(fitted.records, copy=number) for number in range(recipe.augmented_copies + 1)]
    report.say(
        f"Fitting heads on {len(shares)} shares of {len(records)} images, {ROUNDS * FOLDS} times each, and measuring "
        "them on the others."
    )
    frozen = task.frozen(fitted)  # of numbers: one scale for all heads, which R2 does not depend on
    outputs = fit_shares(
        frozen,
        np.stack(features),
        fitted.records,
        kind=fitted.kind,
        recipe=recipe,
        names=names,
        together=audit.duplicates,
        shares=shares,
        rounds=ROUNDS,
        progress=report.steps("fitting heads"),
    )
    place = {record.id: number for number, record in enumerate(fitted.records)}
    return _measured(frozen, outputs, fitted.records, [[place[one.id] for one in unit] for unit in units], report)


def _measured(
    frozen: Frozen, outputs: Fitted, records: Sequence[Record], units: Sequence[Sequence[int]], report: Reporter
) -> Measured:
    """Bootstrap samples are drawn from the rounds and, each for all shares, from the units of images."""
    import numpy as np
    import torch

    from handlens.evaluation.forecast import Measured

    raw = torch.from_numpy(outputs.raw)
    rounds, shares = raw.shape[:2]

    def errors(picked: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S,) of these images, the mean over the drawn rounds."""
        those = [records[number] for number in picked]
        chosen, often = np.unique(drawn, return_counts=True)
        found = np.array(
            [[1 - frozen.score(raw[round, share, picked], those)[0] for share in range(shares)] for round in chosen]
        )
        return np.asarray(often @ found / len(drawn))

    whole, random = np.arange(len(records)), np.random.default_rng(0)
    draws = []
    for number in range(DRAWS):
        picked = np.concatenate([units[unit] for unit in random.integers(0, len(units), len(units))])
        draws.append(errors(picked, random.integers(0, rounds, rounds)))
        report.progress("bootstrap", number + 1, DRAWS)
    by_class = [
        np.mean([frozen.errors_by_class(raw[round, share], records) for round in range(rounds)], axis=0)
        for share in range(shares)
    ]
    return Measured(
        outputs.images, errors(whole, np.arange(rounds)), np.array(draws), np.stack(by_class, axis=1), len(records)
    )
