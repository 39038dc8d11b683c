"""ONNX, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.preprocess import Preprocess
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.int8 import Setting
from handlens.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


class Onnx(Runtime):
    name = "onnx"
    suffix = ".onnx"
    package = "onnxruntime"
    precisions = ("fp32",)
    int8 = (
        Setting(
            "7-bit weights",
            "8-bit weights overflow on processors with AVX2 and no VNNI, and the file must answer alike on all",
            {"reduce_range": True},
        ),
        Setting("unsigned weights", "unsigned by unsigned does not overflow either", {"unsigned_weights": True}),
    )
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

    def quantize(
        self,
        source: Path,
        path: Path,
        *,
        images: NDArray[np.uint8],
        setting: Setting,
        metadata: dict[str, Any],
        report: Reporter = QUIET,
    ) -> None:
        from handlens.runtimes.onnx.quantize import quantize_onnx

        quantize_onnx(source, path, images=images, metadata=metadata, **setting.options)
