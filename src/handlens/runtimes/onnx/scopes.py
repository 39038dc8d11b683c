"""Which module of the graph a node came from."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from handlens.runtimes.int8 import NET, stays_float

SCOPES = "pkg.torch.onnx.name_scopes"  # of the modules around a node, which torch.onnx leaves with it


def nodes_in_float(graph: Any, keep_float: Sequence[str] = ()) -> list[str]:
    """Names of the nodes of an ONNX graph whose arithmetic stays in float32, by the rule of `stays_float`."""
    weights = {entry.name for entry in graph.initializer}
    return [node.name for node in graph.node if stays_float(_module(node, weights), keep_float)]


def _module(node: Any, weights: set[str]) -> str:
    """The deepest module of DeployGraph that a node belongs to; of what an optimizer made anew, the model."""
    for name in node.input:
        if name in weights and name.endswith(".weight"):
            return str(name.removesuffix(".weight"))  # with a norm folded into it, it bears the norm's scope
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), None)
    return NET if scopes is None else str(ast.literal_eval(scopes)[-2])
