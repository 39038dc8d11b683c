"""Where the training of a segmenter begins."""

from __future__ import annotations

from handlens.data.record import Dataset
from handlens.preprocess import Preprocess
from handlens.reporter import Reporter
from handlens.tasks.pieces import Start
from handlens.tasks.starting import arguments_of, built, load_published, usual_size
from handlens.training.model_info import Architecture
from handlens.training.recipe import Recipe

LONGEST_SIDE = 512  # pixels, of the input where the recipe does not say


def start_segmenter(recipe: Recipe, dataset: Dataset, report: Reporter) -> Start:
    arguments = arguments_of(recipe, dataset)
    net = built(recipe.model, arguments)
    if recipe.image_size is not None:
        height, width = recipe.size()
    else:
        height, width = usual_size(dataset.part("train"), longest=LONGEST_SIDE)
        if getattr(net, "align_corners", False):  # such a net fits multiples of its stride plus one
            height, width = (max(2, round((side - 1) / 16)) * 16 + 1 for side in (height, width))
    preprocess = Preprocess(height=height, width=width, resize="pad")
    preprocess, weights = load_published(net, recipe, preprocess, report)
    return Start(net, preprocess, Architecture(recipe.model, arguments), weights)
