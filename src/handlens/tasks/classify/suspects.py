"""Images whose label a model doubts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    rows = head.out_of_fold
    labels = np.array([record.label for record in records], dtype=np.int64)
    best = rows.argmax(axis=1)
    return [
        {
            "file": records[place].id,
            "label": names[labels[place]],
            "suggested": names[best[place]],
            "probability": float(rows[place, best[place]]),
            "label_probability": float(rows[place, labels[place]]),
        }
        for place in np.argsort(label_quality(rows, labels), kind="stable")
        if best[place] != labels[place]
    ]


def label_quality(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """(N,) the probability of each label. Of the ways to rank, it found the most label errors that were planted
    (benchmarks/planted_labels.py).

    Args:
        probabilities: (N, K), of models that have not seen the image's own label; labels: (N,) class indices.

    Source: self-confidence of Kuan and Mueller 2022, "Model-agnostic label quality scoring to detect real-world label
    errors", section 3.
    """
    return np.asarray(probabilities[np.arange(len(labels)), labels])
