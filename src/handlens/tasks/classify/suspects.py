"""Images whose label a model doubts."""

from __future__ import annotations

from typing import Any

from handlens.data.check import Audit
from handlens.errors import FindingsError
from handlens.reporter import Reporter
from handlens.tasks.classify.head import FrozenClasses
from handlens.tasks.heads import FrozenBackbone, fit_frozen_head
from handlens.tasks.image_level import start_image_model
from handlens.training.recipe_file import make_recipe


def suspected_label_errors(audit: Audit, report: Reporter) -> list[dict[str, Any]]:
    """Most suspect first.

    A head is fitted on ImageNet features of all labeled images; each image is judged by the fold that did not see it. A
    label is suspect where another class gets the higher probability.

    Returns:
        dicts of file (id), label, suggested, probability (of the suggestion), label_probability.

    Raises:
        FindingsError: there are too few images.
    """
    records = [record for record in audit.usable().records if record.label is not None]
    names = audit.dataset.class_names
    recipe = make_recipe({"mode": "head"})
    start = start_image_model(recipe, len(names), report)
    backbone = FrozenBackbone(start.net, start.preprocess, audit, recipe, report)
    head = fit_frozen_head(FrozenClasses(), backbone, records, names)
    if head.out_of_fold is None:
        raise FindingsError("there are too few images to search for label errors: every class needs at least two.")
    found = []
    for record, row in zip(records, head.out_of_fold, strict=True):
        best = int(row.argmax())
        if record.label is not None and best != record.label:
            found.append(
                {
                    "file": record.id,
                    "label": names[record.label],
                    "suggested": names[best],
                    "probability": float(row[best]),
                    "label_probability": float(row[record.label]),
                }
            )
    return sorted(found, key=lambda entry: entry["label_probability"] - entry["probability"])
