"""ONNX, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.reporter import QUIET, Reporter
from handlens.runtimes.int8 import EVERY, Kernels, Scheme, Setting
from handlens.runtimes.onnx.device import PROGRAMS
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Onnx(Runtime):
    name = "onnx"
    distribution = "onnxruntime"
    suffix = ".onnx"
    package = "onnxruntime"
    precisions = ("fp32",)
    int8 = (
        Setting(
            "7-bit weights",
            "8-bit weights overflow on processors with AVX2 and no VNNI, and the file must answer alike on all",
            {"reduce_range": True},
            Scheme(weight_limit=64, bias_correction=EVERY, transposed=False),
        ),
        Setting(
            "unsigned weights",
            "unsigned by unsigned does not overflow either",
            {"unsigned_weights": True},
            Scheme(weight_limit=127.5, bias_correction=EVERY, transposed=False),
        ),
    )
    # Without VNNI, sums of two products of 8-bit numbers may overflow; so they do not.
    other_kernels = (Kernels("kernels that cannot overflow", "precise"),)
    programs = PROGRAMS
    runner = Path(__file__).with_name("runner.py")
    title = "ONNX Runtime"
    app = Path(__file__).with_name("app")

    def convert(self, source: Source, path: Path, *, report: Reporter = QUIET) -> None:
        from handlens.runtimes.onnx.convert import export_onnx

        export_onnx(source, path)

    def halve(self, source: Source, whole: Path, path: Path, *, report: Reporter = QUIET) -> None:
        from handlens.runtimes.onnx.halve import halve_onnx

        halve_onnx(whole, path, metadata=source.metadata)

    def quantize(
        self,
        source: Source,
        whole: Path,
        path: Path,
        *,
        images: NDArray[np.uint8],
        setting: Setting,
        keep_float: Sequence[str] = (),
        report: Reporter = QUIET,
    ) -> None:
        from handlens.runtimes.onnx.quantize import quantize_onnx

        quantize_onnx(whole, path, images=images, keep_float=keep_float, metadata=source.metadata, **setting.options)
