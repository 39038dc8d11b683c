"""What torch.export made of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from handlens.runtimes.int8 import stays_float


def modules_in_float(program: torch.export.ExportedProgram, keep_float: Sequence[str]) -> list[str]:
    """Names of the modules whose own operators int8 leaves in float; "" is the graph itself.

    Args:
        keep_float: as of `stays_float`.
    """
    stacks = (node.meta.get("nn_module_stack") for node in program.graph.nodes)
    modules = {list(stack.values())[-1][0] for stack in stacks if stack}
    return sorted({"", *(module for module in modules if stays_float(module, keep_float))})
