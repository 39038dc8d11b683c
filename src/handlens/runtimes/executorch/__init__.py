"""ExecuTorch: a .pte file, for images one at a time, run by XNNPACK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from handlens.reporter import QUIET, Reporter
from handlens.runtimes.delegation import Delegation
from handlens.runtimes.executorch.device import PROGRAMS
from handlens.runtimes.int8 import EVERY, EXTREMES, Scheme, Setting
from handlens.runtimes.runtime import Runtime
from handlens.runtimes.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ExecuTorch(Runtime):
    name = "executorch"
    distribution = "executorch"
    suffix = ".pte"
    package = "executorch"
    precisions = ("fp32",)
    programs = PROGRAMS
    runner = Path(__file__).with_name("runner.py")
    title = "ExecuTorch"
    app = Path(__file__).with_name("app")
    takes_any_size = False
    reduces_graph = True
    int8 = (
        EXTREMES,
        Setting(
            "histogram",
            "ranges with the least error ignore single outliers",
            {"ranges": "histogram"},
            Scheme(bias_correction=EVERY),
        ),
    )

    def convert(self, source: Source, path: Path, *, report: Reporter = QUIET) -> Delegation:
        from handlens.runtimes.executorch.convert import export_executorch

        return export_executorch(source, path, report=report)

    def halve(self, source: Source, whole: Path, path: Path, *, report: Reporter = QUIET) -> Delegation:
        from handlens.runtimes.executorch.convert import export_executorch
        from handlens.runtimes.executorch.half import Half

        return export_executorch(replace(source, graph=Half(source.graph)), path, report=report)

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
        from handlens.runtimes.executorch.convert import export_executorch

        return export_executorch(source, path, images=images, keep_float=keep_float, **setting.options, report=report)
