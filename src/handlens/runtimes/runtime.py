"""What a runtime is: how a graph becomes its file, and how that file is run without handlens. A new runtime is a new
folder beside this file and a line in `RUNTIMES`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter

if TYPE_CHECKING:
    from torch import nn


UNREADABLE = 2  # exit code of a runner


class Runtime(Protocol):
    """
    Attributes:
        name: on the command line.
        suffix: of its file.
        precisions: in which an export is proved: "fp32" decides, "auto", the runtime's default, informs.
        takes_any_size: a graph may resize inside. One that does not takes images one at a time.
        runner: a script that imports the runtime and NumPy only: MODEL FOLDER OUT.npz PRECISION. It prints the
            runtime's name, version and precision; or one sentence on standard error, and exits with UNREADABLE, where
            the model cannot be read.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    runner: ClassVar[Path]
    takes_any_size: ClassVar[bool] = True

    def convert(
        self,
        graph: nn.Module,
        preprocess: Preprocess,
        path: Path,
        *,
        outputs: Sequence[str],
        metadata: dict[str, Any],
        any_size: bool = False,
        report: Reporter = QUIET,
    ) -> None:
        """Write a graph as this runtime's file or files, with class names and preprocess in its metadata.

        Args:
            graph: a DeployGraph or ResizingGraph.
            outputs: their names, in the graph's order.
            any_size: the graph takes images of any size, one at a time.
            report: of a converter that has to be installed first, or takes minutes.

        Raises:
            InputError: the packages for this runtime are not installed, or it cannot take the graph.
        """
        ...

    def refuses(self, model: str) -> str | None:
        """Why a model of the catalogue does not convert, as a sentence; None where it does."""
        return None

    def files(self, path: Path) -> tuple[Path, ...]:
        """What was written for a path, in the order in which it is to be put in place."""
        return (path,)
