"""What a forecast says in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handlens.data.labels.finding import listed
from handlens.evaluation.forecast import FARTHEST
from handlens.tasks.task import Task

FAR = 10  # times the present number of images, from which a forecast is an extrapolation too far; our choice


def sentences(found: Mapping[str, Any], task: Task) -> list[str]:
    """
    Args:
        found: what `handlens.forecast` returns, without them.
    """
    present, table = found["present"], found["table"]
    fitted = [row for row in table if row["measured"] is not None]
    said = [
        f"With {found['images']:,} images: {task.shown(present['value'])} by the fitted curve "
        f"({_interval(task, present['interval'])})."
    ]
    if all(row["measured"] >= 1 for row in fitted):
        return [f"No error was measured on {found['images']:,} images: there is nothing to forecast."]
    if not found["falls"]:
        said.append(
            f"From {fitted[0]['images']:,} to {fitted[-1]['images']:,} images the error does not fall measurably: "
            "there are too few images to forecast from, or more of this kind do not help."
        )
        return said
    if present["value"] >= found["target"]:
        return [*said, f"The target, {task.shown(found['target'])}, is reached already."]
    return [*said, *_about_target(found, task)]


def _about_target(found: Mapping[str, Any], task: Task) -> list[str]:
    needed, law, total = found["needed"], found["law"], found["images"]
    goal = task.shown(found["target"])
    least, most = needed["more_interval"]
    if needed["more"] is None:
        why = (
            f"which levels off at {task.shown(law['limit'])} ({_interval(task, law['limit_interval'])})"
            if law["limit"] <= found["target"]
            else f"which needs more than {FARTHEST} times the present {total:,} images for it"
        )
        said = [f"{goal[:1].upper()}{goal[1:]} is out of reach of the fitted curve, {why}."]
        if least is not None:
            said.append(f"The interval does not exclude it: from {_about(least)} more images on.")
        said.append("More images of this kind alone will hardly do; look at the errors, the labels and the model.")
        return said
    ends = (
        f"{_about(least)} to {_about(most)}"
        if most is not None
        else f"from {_about(least)}, without an upper limit: it may be out of reach"
    )
    among = ""
    if found["mostly"]:
        share = sum(row["share"] for row in found["classes"] if row["class"] in found["mostly"])
        among = (
            f", mostly of these classes: {listed(found['mostly'])} ({100 * share:.0f} % of the error that still falls)"
        )
    said = [f"To reach {goal} you need about {_about(needed['more'])} more images (95 % interval {ends}){among}."]
    if needed["images"] > FAR * total:
        said.append(f"That is more than {FAR} times what there is: take it as an order of magnitude.")
    return said


def _interval(task: Task, ends: list[float]) -> str:
    low, high = (task.bare(end) for end in ends)
    return f"95 % interval {low} to {high}"


def _about(images: int) -> str:
    """Two digits: a forecast has no more."""
    digits = len(str(images)) - 2
    return f"{round(images, -digits):,}" if digits > 0 else str(images)
