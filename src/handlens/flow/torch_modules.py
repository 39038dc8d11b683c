"""pretrained, load_model: a model as a torch module, for whoever goes on in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlens.errors import InputError, nearest, require
from handlens.flow.runs import build_from, find_run
from handlens.reporter import QUIET, Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from handlens.preprocess import Preprocess
    from handlens.training.run import Run


def pretrained(
    name: str, *, num_classes: int | None = None, report: Reporter = QUIET, **options: Any
) -> tuple[nn.Module, Preprocess]:
    """A model of the catalogue with published weights, as a torch module in eval mode, and its Preprocess.

    Args:
        name: "mobilenet_v2", or with a version: "resnet50:imagenet1k_v2"; `handlens weights list` names them.
        num_classes: None keeps the published classes; a number gives the model a new head with fresh weights.
        options: of the model, as `build` takes them.

    Raises:
        InputError: no such weights, they cannot be had, or they do not fit the options.
    """
    require("torch", extra="train", what="handlens.pretrained")
    from handlens.models import CATALOGUE, build
    from handlens.models.loading import load_into
    from handlens.models.pretrained import load_weights
    from handlens.weights import SOURCES

    wanted = name if name in SOURCES else (CATALOGUE[name].weights or ("",))[0] if name in CATALOGUE else ""
    if wanted not in SOURCES:
        raise InputError(f"there are no published weights for {name!r}; {nearest(name, SOURCES)}.")
    source = SOURCES[wanted]
    classes = len(source.class_names) if num_classes is None else num_classes
    net = build(wanted.partition(":")[0], num_classes=classes, **options)
    sentence = load_into(net, load_weights(wanted, progress=report.progress), new_head=num_classes is not None)
    if sentence:
        report.say(sentence)
    return net.eval(), source.preprocess


def load_model(run: Path | str | Run, *, model: Any = None, report: Reporter = QUIET) -> tuple[nn.Module, Preprocess]:
    """The model of a run folder as a torch module with its weights, in eval mode, and its Preprocess.

    Args:
        run: or the name of a pretrained model. `load` gives a predictor, which needs no torch.
        model: your own, a constructor or a module, where the run's cannot be imported by its name.

    Raises:
        InputError: no such run, or a part of one's own in it that cannot be imported.
    """
    require("torch", extra="train", what="handlens.load_model")
    opened = find_run(run, report=report)
    return build_from(opened, model), opened.preprocess
