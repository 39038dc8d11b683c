"""Where the training of a detector begins."""

from __future__ import annotations

from handlens.data.record import Dataset
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.tasks.detect.fit import fit_detector
from handlens.tasks.pieces import Start
from handlens.tasks.starting import arguments_of, built, load_published
from handlens.training.model_info import Architecture
from handlens.training.recipe import Recipe


def start_detector(recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    fit = fit_detector(recipe, dataset)
    arguments = arguments_of(recipe, dataset) | fit.options
    net = built(recipe.model, arguments)
    preprocess = Preprocess(height=fit.height, width=fit.width, resize="stretch")
    preprocess, weights = load_published(net, recipe, preprocess, report)
    for name, share in fit.unreached.items():
        if share:
            report.say(f"{name}: {100 * share:.1f} % of the training boxes match no anchor.")
    return Start(net, preprocess, Architecture(recipe.model, arguments), weights)
