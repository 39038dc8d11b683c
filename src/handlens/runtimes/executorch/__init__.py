"""ExecuTorch: a .pte file, for images one at a time, run by XNNPACK."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from torch import nn


class ExecuTorch(Runtime):
    name = "executorch"
    suffix = ".pte"
    package = "executorch"
    precisions = ("fp32",)
    runner = Path(__file__).with_name("runner.py")
    takes_any_size = False

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
        from handlens.runtimes.executorch.convert import export_executorch

        assert not any_size
        export_executorch(graph, preprocess, path, outputs=outputs, metadata=metadata, report=report)
