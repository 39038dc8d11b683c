"""One function per command: the only place where the parts meet. `handlens.train(...)` is `flow.train(...)`.

Nothing heavy is imported until it is needed: `predict` starts without torch.
"""

from handlens.flow.data import boxes_without_anchor, check, convert, doubted_labels, get_data, public_sets, sample
from handlens.flow.evaluate import evaluate
from handlens.flow.export import export
from handlens.flow.nets import cost_table, models, one_picture_ms, summary
from handlens.flow.predict import load, predict
from handlens.flow.report import QUIET, Reporter
from handlens.flow.runs import find_run
from handlens.flow.show import show
from handlens.flow.train import train

__all__ = [
    "QUIET",
    "Reporter",
    "boxes_without_anchor",
    "check",
    "convert",
    "cost_table",
    "doubted_labels",
    "evaluate",
    "export",
    "find_run",
    "get_data",
    "load",
    "models",
    "one_picture_ms",
    "predict",
    "public_sets",
    "sample",
    "show",
    "summary",
    "train",
]
