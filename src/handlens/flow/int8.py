"""Fewer bits: fp16, and the search for an int8 that costs little."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handlens.data.labels.finding import counted
from handlens.errors import InputError
from handlens.flow.calibration import calibration_images
from handlens.flow.export_options import ExportOptions
from handlens.flow.source import one_sentence
from handlens.reporter import Reporter
from handlens.runtimes.int8 import EVERY, NET

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from handlens.flow.gate import Gate
    from handlens.runtimes.delegation import Delegation
    from handlens.runtimes.int8 import Scheme, Setting
    from handlens.runtimes.runtime import Runtime
    from handlens.runtimes.source import Source

KEPT = (1, 2, 4)  # of the layers that hurt most, tried in float
MEASURED = 16  # images that tell which layers hurt
LEARNED_FROM, FEWEST = 512 * 224 * 224, 64  # pixels that fine-tuning learns from, and images at least


def halve(runtime: Runtime, source: Source, file: Path, *, report: Reporter) -> tuple[Path, Delegation | None]:
    """The fp16 form of a float32 file, under its name in a folder beside it, and which operators are delegated."""
    report.say("Rounding weights to 16 bits.")
    folder = file.parent / "fp16"
    folder.mkdir()
    made = folder / file.name
    return made, runtime.halve(source, file, made, report=report)


def quantize(
    gate: Gate, runtime: Runtime, source: Source, file: Path, *, images: NDArray[np.uint8], options: ExportOptions
) -> tuple[list[dict[str, Any]], Delegation | None]:
    """Try the runtime's settings on the validation images until one loses no more than `max_drop`.

    Where none does, and nobody says how many layers stay in float, the best of them is tried with the one, two and four
    that hurt most; then the net is fine-tuned for the best so far. What is taken is the best of all.

    Args:
        file: a float32 file of this runtime, in whose place the int8 file is put; where `Runtime.reduces_graph`, there
            is none yet.
        images: (N, height, width, C), for calibration.

    Returns:
        the settings that were tried: setting, why, images, equal, score, reference_score, passed, size_mb, latency_ms,
        chosen, keep_float (names of layers); and which operators are delegated in the chosen one.

    Raises:
        InputError: the packages for it are not installed, no setting gives numbers, or the model cannot be equalized.
    """
    search = _Search(gate, runtime, source, file, images, options)
    reason: InputError | None = None
    for setting in runtime.int8:
        try:
            if search.attempt(setting).passed:
                break
        except InputError as error:  # another one may do
            gate.report.say(f"No int8 file with {setting.name}: {error}")
            reason = error
    if not search.attempts and reason is not None:
        raise reason
    best = search.best()
    if best.value == -np.inf:
        raise InputError(f"int8 for {runtime.name}: no setting gave numbers.")
    if not best.passed and options.keep_float is None:
        try:
            for number in KEPT:
                if number < search.layers(best) and search.attempt(best.setting, kept=number).passed:
                    break
        except InputError as error:  # what was measured counts nevertheless
            gate.report.say(f"No layer stays in float: {error}")
        best = search.best()
    if not best.passed and options.epochs:
        try:
            search.fine_tune(best)
        except InputError as error:  # what was measured counts nevertheless
            gate.report.say(f"Not fine-tuned: {error}")
        best = search.best()
    for old, new in zip(runtime.files(best.file), runtime.files(file), strict=True):
        old.replace(new)
    return [attempt.row | {"chosen": attempt is best} for attempt in search.attempts], best.delegation


@dataclass(frozen=True)
class _Attempt:
    setting: Setting
    source: Source
    keep_float: list[str]
    file: Path
    row: dict[str, Any]
    value: float  # what it is judged by
    delegation: Delegation | None

    @property
    def passed(self) -> bool:
        return bool(self.row["passed"])


class _Search:
    def __init__(
        self,
        gate: Gate,
        runtime: Runtime,
        source: Source,
        file: Path,
        images: NDArray[np.uint8],
        options: ExportOptions,
    ) -> None:
        self.gate, self.runtime, self.source, self.file = gate, runtime, source, file
        self.images, self.options, self.report = images, options, gate.report
        self.attempts: list[_Attempt] = []
        self._ranked: dict[Scheme, list[str]] = {}  # layers, the one that hurts most first

    def best(self) -> _Attempt:
        return max(self.attempts, key=lambda attempt: attempt.value)  # of equals the first

    def attempt(self, setting: Setting, *, kept: int | None = None) -> _Attempt:
        """
        Args:
            kept: layers that stay in float; None is what was asked for.
        """
        if kept is not None:
            setting = replace(
                setting,
                name=f"{setting.name}, {counted(kept, 'layer')} in float",
                why="no setting is within the limit; these hurt most, of the best setting",
            )
        self.report.say(f"Quantizing with {setting.name} ({setting.why}).")
        self.report.progress("quantizing", 0, None)
        if not self.options.correct_bias and setting.scheme.bias_correction == EVERY:
            setting = replace(setting, scheme=replace(setting.scheme, bias_correction=0))
        source = self._equalized
        number = (self.options.keep_float or 0) if kept is None else kept
        names = self._worst_layers(source, setting.scheme, number) if number else []
        return self._measured(setting, source, names)

    def fine_tune(self, best: _Attempt) -> None:
        """The best setting once more, with weights that are fine-tuned for it."""
        from handlens.quantization.fine_tuning import fine_tuned
        from handlens.quantization.sensitivity import normalized

        run, epochs, preprocess = self.gate.run, self.options.epochs, self.source.preprocess
        count = max(FEWEST, LEARNED_FROM // (preprocess.height * preprocess.width))
        images = calibration_images(run, self.options.calibrate, count=count)
        self.report.say(
            f"No setting is within --max-drop; fine-tuning the weights for {best.setting.name}: "
            f"{counted(epochs, 'epoch')} of {counted(len(images), 'image')} (--fine-tune 0: none)."
        )
        net = fine_tuned(
            _net(best.source),
            normalized(images, preprocess),
            best.setting.scheme,
            calibration=normalized(self.images, preprocess),
            epochs=epochs,
            keep_float=best.keep_float,
            report=self.report,
        )
        setting = replace(
            best.setting,
            name=f"{best.setting.name} (fine-tuned)",
            why="no setting is within the limit; this was the best",
        )
        self._measured(setting, _with_net(best.source, net), best.keep_float)

    def _measured(self, setting: Setting, source: Source, kept: list[str]) -> _Attempt:
        folder = Path(tempfile.mkdtemp(dir=self.file.parent, prefix="setting"))
        made, whole = folder / self.file.name, self.file
        corrected = self._bias_corrected(source, setting.scheme, kept)
        if corrected is not self.source:
            whole = folder / "float" / self.file.name
            whole.parent.mkdir()
        with one_sentence(self.gate.run, self.runtime):
            if whole is not self.file and not self.runtime.reduces_graph:
                self.runtime.convert(corrected, whole, report=self.report)
            delegation = self.runtime.quantize(
                corrected, whole, made, images=self.images, setting=setting, keep_float=kept, report=self.report
            )
        row = self.gate.compare_on_validation(made, self.runtime, max_drop=self.options.allowed_drop).rows[0]
        value = row.equal if row.reference_score is None else -np.inf if row.score is None else row.score
        told = (
            {"setting": setting.name, "why": setting.why, "images": row.images, "equal": row.equal}
            | {"score": row.score, "reference_score": row.reference_score, "passed": row.passed}
            | {"size_mb": row.size_mb, "latency_ms": row.latency_ms, "keep_float": kept}
        )
        self.attempts.append(_Attempt(setting, source, kept, made, told, value, delegation))
        return self.attempts[-1]

    @cached_property
    def _equalized(self) -> Source:
        """The source with its weights equalized, where that is wanted."""
        if not self.options.equalize:
            return self.source
        from handlens.quantization.rewritten import with_equal_channels
        from handlens.quantization.sensitivity import normalized

        images = normalized(self.images, self.source.preprocess)
        return _with_net(self.source, with_equal_channels(_net(self.source), images))

    def _bias_corrected(self, source: Source, scheme: Scheme, kept: list[str]) -> Source:
        """The source with its biases corrected, where that is wanted and the quantizer will not do it."""
        if scheme.bias_correction != EVERY:
            return source
        from handlens.quantization.rewritten import with_corrected_bias
        from handlens.quantization.sensitivity import normalized

        images = normalized(self.images, source.preprocess)
        try:
            return _with_net(source, with_corrected_bias(_net(source), images, scheme, keep_float=kept))
        except InputError as error:  # an own model that no simulation takes may be quantized as it is
            self.report.say(f"Biases stay as they are: {error}")
            return source

    def _worst_layers(self, source: Source, scheme: Scheme, number: int) -> list[str]:
        """Names of the layers that hurt most when they alone are quantized, as `quantize-report` finds them."""
        ranked = self._ranking(source, scheme)
        if number >= len(ranked):
            raise InputError(
                f"--keep-float {number} leaves nothing for int8: the model has {counted(len(ranked), 'layer')}."
            )
        names = ranked[:number]
        self.report.say(f"Left in float: {', '.join(names)}.")
        return names

    def layers(self, attempt: _Attempt) -> int:
        """How many an attempt's model has that int8 rounds."""
        return len(self._ranking(self._equalized, attempt.setting.scheme))

    def _ranking(self, source: Source, scheme: Scheme) -> list[str]:
        """All of these layers."""
        from handlens.quantization.sensitivity import layers_that_hurt

        if scheme not in self._ranked:
            net = _net(source)
            errors = layers_that_hurt(
                net,
                source.preprocess,
                self.images[:MEASURED],
                scheme,
                calibration=self.images,
                report=self.report,
            )
            known = dict(net.named_modules())
            self._ranked[scheme] = [error.name for error in errors if error.name in known]
        return self._ranked[scheme]


def _net(source: Source) -> nn.Module:
    return source.graph.get_submodule(NET)


def _with_net(source: Source, net: nn.Module) -> Source:
    graph = copy.deepcopy(source.graph)
    graph.set_submodule(NET, net)
    return replace(source, graph=graph)
