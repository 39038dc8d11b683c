"""Which operators of a .tflite file XNNPACK runs, as LiteRT has divided them on this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from handlens.runtimes.delegation import Delegation
from handlens.runtimes.litert.runner import Model


def delegation(path: Path) -> Delegation:
    """
    Raises:
        ValueError: the file cannot be read.
    """
    nodes = Model(str(path)).operators()
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    maker = {int(tensor): node for node in operators for tensor in node["outputs"]}
    taken: set[int] = set()
    for node in nodes:
        if node["op_name"] == "DELEGATE":
            taken |= _between(node, maker)
    left = Counter(node["op_name"] for node in operators if node["index"] not in taken)
    return Delegation("XNNPACK", len(operators), len(operators) - left.total(), dict(left))


def _between(delegate: dict[str, Any], maker: dict[int, dict[str, Any]]) -> set[int]:
    """The operators that a delegate stands for: all from which its outputs are made of its inputs."""
    given = {int(tensor) for tensor in delegate["inputs"]}
    waiting = [int(tensor) for tensor in delegate["outputs"]]
    found: set[int] = set()
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node["index"] not in found:
            found.add(node["index"])
            waiting += [int(tensor) for tensor in node["inputs"] if int(tensor) not in given]
    return found
