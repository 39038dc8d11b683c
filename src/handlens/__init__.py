"""handlens: from a folder of pictures to a small vision model that you can trust on a phone.

    import handlens

    run = handlens.train("photos")            # a run folder
    handlens.evaluate(run)["metrics"]["top1"]
    handlens.load(run)("photo.jpg").label     # without importing torch
    handlens.export(run, to="onnx")           # fails loudly if it answers differently

Heavy modules load on first use.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handlens.data import open_dataset
    from handlens.flow import check, convert, evaluate, export, load, predict, sample, show, summary, train
    from handlens.models import backbone, build
    from handlens.preprocess import Preprocess
    from handlens.results import Boxes, Classes, Mask, Tags
    from handlens.train.recipe import Recipe

__version__ = "0.1.0"

_WHERE = {
    "check": "handlens.flow",
    "convert": "handlens.flow",
    "evaluate": "handlens.flow",
    "export": "handlens.flow",
    "load": "handlens.flow",
    "predict": "handlens.flow",
    "sample": "handlens.flow",
    "show": "handlens.flow",
    "summary": "handlens.flow",
    "train": "handlens.flow",
    "open_dataset": "handlens.data",
    "build": "handlens.models",
    "backbone": "handlens.models",
    "Preprocess": "handlens.preprocess",
    "Boxes": "handlens.results",
    "Classes": "handlens.results",
    "Mask": "handlens.results",
    "Tags": "handlens.results",
    "Recipe": "handlens.train.recipe",
}

__all__ = [
    "Boxes",
    "Classes",
    "Mask",
    "Preprocess",
    "Recipe",
    "Tags",
    "__version__",
    "backbone",
    "build",
    "check",
    "convert",
    "evaluate",
    "export",
    "load",
    "open_dataset",
    "predict",
    "sample",
    "show",
    "summary",
    "train",
]


class _Package(ModuleType):
    """`handlens.train` is the function, also after the folder handlens/train was imported by somebody."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'handlens' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
