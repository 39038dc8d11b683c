"""OpenVINO IR: an .xml and its .bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.reporter import QUIET, Reporter
from handlens.runtimes.engine import Engine, Precision
from handlens.runtimes.int8 import Kernels, Scheme, Setting
from handlens.runtimes.openvino.device import PROGRAMS
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# nncf's rules: weights of 7 bits but for depthwise convolutions, averages of each image's extremes, and ranges where
# operators take them.
SCHEME = Scheme(
    weight_limit=63.5,
    depthwise_limit=127,
    ranges="averaged",
    places="inputs",
    depthwise_channels=True,
    bias_correction=2,  # FAST_BIAS_CORRECTION_THRESHOLD
)


class OpenVINO(Runtime):
    name = "openvino"
    distribution = "openvino"
    suffix = ".xml"
    precisions = ("fp32", "auto")
    int8 = (
        Setting(
            "mixed",
            "activations that may be negative get a range around zero of their own",
            {"preset": "mixed"},
            SCHEME,
        ),
        Setting(
            "performance",
            "all ranges are symmetric, as some processors compute faster",
            {"preset": "performance"},
            replace(SCHEME, symmetric=True),
        ),
        Setting(
            "accurate bias",
            "biases are corrected layer by layer",
            {"preset": "mixed", "fast_bias": False},
            replace(SCHEME, bias_correction=1000),  # BIAS_CORRECTION_THRESHOLD
        ),
    )
    other_kernels = tuple(
        Kernels(f"instructions up to {name}", environment={"ONEDNN_MAX_CPU_ISA": limit})
        for name, limit in (("SSE4.1", "SSE41"), ("AVX2", "AVX2"))  # sums of 16 bits may overflow in both
    )
    programs = PROGRAMS
    runner = Path(__file__).with_name("runner.py")
    title = "OpenVINO"
    app = Path(__file__).with_name("app")

    def convert(self, source: Source, path: Path, *, report: Reporter = QUIET) -> None:
        from handlens.runtimes.openvino import convert

        model = convert.to_openvino(
            source.graph, source.preprocess, outputs=source.outputs, any_size=source.any_size, scoped=True
        )
        convert.save_openvino(model, path, metadata=source.metadata)

    def halve(self, source: Source, whole: Path, path: Path, *, report: Reporter = QUIET) -> None:
        from handlens.runtimes.openvino.halve import halve_openvino

        halve_openvino(whole, path, metadata=source.metadata)

    def engine(self, path: Path, *, precision: Precision = "auto", latency: bool = False) -> Engine:
        from handlens.runtimes.openvino.engine import OpenVINOEngine

        return OpenVINOEngine(path, precision=precision, latency=latency)

    def files(self, path: Path) -> tuple[Path, ...]:
        return path.with_suffix(".bin"), path

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
        from handlens.runtimes.openvino.quantize import quantize_openvino

        quantize_openvino(
            whole, path, images=images, keep_float=keep_float, metadata=source.metadata, **setting.options
        )
