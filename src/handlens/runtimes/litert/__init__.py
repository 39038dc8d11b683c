"""LiteRT: a .tflite file, for images one at a time."""

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


class LiteRT(Runtime):
    name = "litert"
    suffix = ".tflite"
    package = "ai_edge_litert"
    precisions = ("fp32",)
    runner = Path(__file__).with_name("runner.py")
    takes_any_size = False
    int8 = (
        Setting("extremes", "activations range from their least to their greatest value", {"ranges": "extremes"}),
        Setting("averaged", "ranges averaged over images ignore single outliers", {"ranges": "averaged"}),
    )

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
        from handlens.runtimes.litert.convert import export_litert

        assert not any_size
        export_litert(graph, preprocess, path, outputs=outputs, metadata=metadata, report=report)

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
        from handlens.runtimes.litert.convert import quantize_litert

        quantize_litert(source, path, images=images, options=setting.options, metadata=metadata, report=report)
