"""ONNX, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from torch import nn


class Onnx(Runtime):
    name = "onnx"
    suffix = ".onnx"
    package = "onnxruntime"
    precisions = ("fp32",)
    runner = Path(__file__).with_name("runner.py")

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
        from handlens.runtimes.onnx.convert import export_onnx

        export_onnx(graph, preprocess, path, outputs=outputs, metadata=metadata, any_size=any_size)
