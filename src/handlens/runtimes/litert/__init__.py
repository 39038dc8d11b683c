"""LiteRT: a .tflite file, for images one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.errors import require
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.delegation import Delegation
from handlens.runtimes.int8 import EVERY, EXTREMES, Kernels, Scheme, Setting
from handlens.runtimes.litert.device import PROGRAMS
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LiteRT(Runtime):
    name = "litert"
    distribution = "ai-edge-litert"
    suffix = ".tflite"
    package = "ai_edge_litert"
    precisions = ("fp32",)
    programs = PROGRAMS
    runner = Path(__file__).with_name("runner.py")
    title = "LiteRT"
    app = Path(__file__).with_name("app")
    takes_any_size = False
    int8 = (
        EXTREMES,
        Setting(
            "averaged",
            "ranges averaged over images ignore single outliers",
            {"ranges": "averaged"},
            Scheme(ranges="moving", bias_correction=EVERY),
        ),
    )

    other_kernels = (
        Kernels("reference kernels", "reference"),  # as on microcontrollers
        Kernels("kernels other than those of XNNPACK", "builtin"),
    )

    def convert(self, source: Source, path: Path, *, report: Reporter = QUIET) -> Delegation:
        require(self.package, extra=self.name, what="export to LiteRT")  # it reads and writes the format
        from handlens.runtimes.litert.convert import export_litert

        return export_litert(source, path, report=report)

    def halve(self, source: Source, whole: Path, path: Path, *, report: Reporter = QUIET) -> Delegation:
        from handlens.runtimes.litert.convert import halve_litert

        return halve_litert(source, whole, path, report=report)

    def missing(self) -> str | None:
        from handlens.runtimes.converter import is_installed
        from handlens.runtimes.litert.convert import CONVERTER, REQUIREMENTS

        absent = super().missing()
        if absent is None and not is_installed(self.name, package=CONVERTER, requirements=REQUIREMENTS):
            return "its converter (1 GB), which `handlens export --to litert` installs"
        return absent

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
    ) -> Delegation:
        from handlens.runtimes.litert.convert import quantize_litert

        return quantize_litert(
            source, whole, path, images=images, options=setting.options, keep_float=keep_float, report=report
        )
