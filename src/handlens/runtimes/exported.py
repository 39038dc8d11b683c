"""What torch.export made of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from handlens.runtimes.int8 import stays_float


def modules_in_float(program: torch.export.ExportedProgram, keep_float: Sequence[str]) -> list[str]:
    """Names of the modules whose own operators int8 leaves in float; "" is the graph itself.

    Args:
        keep_float: as of `stays_float`.
    """
    modules = {stack[-1] for stack in _stacks(program)}
    return sorted({"", *(module for module in modules if stays_float(module, keep_float))})


def called_modules(program: torch.export.ExportedProgram) -> set[str]:
    """Names of the modules that were called: not of those that only hold others."""
    return {module for stack in _stacks(program) for module in stack}


def _stacks(program: torch.export.ExportedProgram) -> Iterator[list[str]]:
    """Of each operator, the modules around it, the deepest last."""
    for node in program.graph.nodes:
        if stack := node.meta.get("nn_module_stack"):
            yield [name for name, _ in stack.values()]
