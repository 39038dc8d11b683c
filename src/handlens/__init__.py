"""handlens: from a folder of images to a small vision model that you can trust on a phone.

    import handlens

    run = handlens.train("photos")            # a run folder
    handlens.evaluate(run)["metrics"]["top1"]
    handlens.load(run)("photo.jpg").label     # without importing torch
    handlens.export(run, to="onnx")           # fails if its predictions differ

Heavy modules load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlens.version import VERSION

if TYPE_CHECKING:
    from handlens.data import open_dataset
    from handlens.flow.bench import bench
    from handlens.flow.calibrate import calibrate
    from handlens.flow.compare import compare
    from handlens.flow.data import check, convert, sample
    from handlens.flow.evaluate import evaluate
    from handlens.flow.explain import activations, explain, filters
    from handlens.flow.export import export
    from handlens.flow.forecast import forecast
    from handlens.flow.nets import summary
    from handlens.flow.predict import load, predict
    from handlens.flow.report import report
    from handlens.flow.show import show
    from handlens.flow.similar import similar, similar_groups
    from handlens.flow.torch_modules import load_model, pretrained
    from handlens.flow.train import train
    from handlens.models import backbone, build
    from handlens.preprocess import Preprocess
    from handlens.reporter import QUIET, Reporter
    from handlens.results import Boxes, Classes, ClassSet, KnownClasses, Mask, Numbers, Tags
    from handlens.training.recipe import Recipe

__version__ = VERSION

_WHERE = {
    "bench": "handlens.flow.bench",
    "calibrate": "handlens.flow.calibrate",
    "check": "handlens.flow.data",
    "compare": "handlens.flow.compare",
    "convert": "handlens.flow.data",
    "activations": "handlens.flow.explain",
    "evaluate": "handlens.flow.evaluate",
    "explain": "handlens.flow.explain",
    "filters": "handlens.flow.explain",
    "export": "handlens.flow.export",
    "forecast": "handlens.flow.forecast",
    "load": "handlens.flow.predict",
    "load_model": "handlens.flow.torch_modules",
    "predict": "handlens.flow.predict",
    "pretrained": "handlens.flow.torch_modules",
    "report": "handlens.flow.report",
    "sample": "handlens.flow.data",
    "show": "handlens.flow.show",
    "similar": "handlens.flow.similar",
    "similar_groups": "handlens.flow.similar",
    "summary": "handlens.flow.nets",
    "train": "handlens.flow.train",
    "open_dataset": "handlens.data",
    "build": "handlens.models",
    "backbone": "handlens.models",
    "Preprocess": "handlens.preprocess",
    "Boxes": "handlens.results",
    "ClassSet": "handlens.results",
    "Classes": "handlens.results",
    "KnownClasses": "handlens.results",
    "Mask": "handlens.results",
    "Numbers": "handlens.results",
    "Tags": "handlens.results",
    "Recipe": "handlens.training.recipe",
    "QUIET": "handlens.reporter",
    "Reporter": "handlens.reporter",
}

__all__ = [
    "QUIET",
    "Boxes",
    "ClassSet",
    "Classes",
    "KnownClasses",
    "Mask",
    "Numbers",
    "Preprocess",
    "Recipe",
    "Reporter",
    "Tags",
    "__version__",
    "activations",
    "backbone",
    "bench",
    "build",
    "calibrate",
    "check",
    "compare",
    "convert",
    "evaluate",
    "explain",
    "export",
    "filters",
    "forecast",
    "load",
    "load_model",
    "open_dataset",
    "predict",
    "pretrained",
    "report",
    "sample",
    "show",
    "similar",
    "similar_groups",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'handlens' has no attribute {name!r}")
    import importlib

    if _WHERE[name] == "handlens.models":
        from handlens.errors import require

        require("torch", extra="train", what=f"handlens.{name}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
