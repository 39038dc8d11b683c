"""export: a file for another runtime, and the proof that it answers as PyTorch does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from handlens.errors import InputError, ParityError, require
from handlens.files import write_json
from handlens.flow.int8 import calibration_images, quantize
from handlens.flow.runs import build_from, find_run
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS
from handlens.training.model_info import metadata
from handlens.training.run import Run, locked

if TYPE_CHECKING:
    from handlens.flow.gate import Gate
    from handlens.runtimes.parity import Parity
    from handlens.runtimes.runtime import Runtime


@shows_progress
def export(
    run: Path | str | Run,
    *,
    to: str,
    out: Path | str | None = None,
    data: Path | str | None = None,
    with_resize: bool = False,
    suppress: bool = True,
    split: int = 1,
    strips: int = 1,
    int8: bool = False,
    max_drop: float = 1.0,
    calibrate: Path | str | None = None,
    images: int | Literal["all"] | None = None,
    model: Any = None,
    report: Reporter = QUIET,
) -> tuple[Path, Parity]:
    """Export a run and prove that the file answers as PyTorch does.

    Args:
        to: a name of RUNTIMES.
        out: the file; None is <run>/exports/<run> with the runtime's suffix.
        data: images for the parity check, labeled or not; None is the run's own test or validation images, or else its
            golden ones.
        with_resize: the graph takes images of any size, one at a time, and resizes inside.
        suppress: False leaves non-maximum suppression (NMS) to the app; for detectors.
        split, strips: at most so many parts of an expansion, strips of the first blocks, for less memory
            (models.split); the comparison is with the whole net.
        int8: weights and activations of 8 bits. The runtime's settings are tried on the validation images until one
            loses no more than `max_drop`.
        max_drop: points of the task's metric that int8 may lose.
        calibrate: a folder of images that int8 is calibrated with; None is the run's own training images.
        images: how many are compared at most, spread evenly; None is as many as take a minute of processor time.
        model: your own, a constructor or a module, where the run's cannot be imported by its name.

    Returns:
        the file and the report, which also lies beside it as <file>.parity.json.

    Raises:
        ParityError: the exported file answers differently. It is thrown away, a file of that name from before stays
            as it was, and the report is kept as <file>.parity-failed.json.
        InputError: the packages for this runtime are not installed, it does not take this model, there are no images,
            or `out` is no such file.
    """
    run = find_run(run, report=report)
    with _gate(
        run,
        data=data,
        images=images,
        with_resize=with_resize,
        suppress=suppress,
        split=split,
        strips=strips,
        model=model,
        report=report,
    ) as gate:
        return _exported(
            gate, RUNTIMES[known_target(to)], out=out, int8=int8, max_drop=max_drop, calibrate=calibrate, report=report
        )


def _gate(run: Run, *, model: Any = None, **options: Any) -> Gate:
    require("torch", extra="train", what="export")
    from handlens.flow.gate import Gate

    task = TASKS[run.task]
    refusal = task.refusal(with_resize=options["with_resize"], suppress=options["suppress"])
    if refusal is not None:
        raise InputError(f"{refusal}; the task of {run.folder.name} is {task.name}.")
    if options["with_resize"] and run.preprocess.resize == "pad":
        raise InputError("--with-resize supports crop and stretch; this model pads its images.")
    return Gate(run, build_from(run, model), **options)


def _exported(
    gate: Gate,
    runtime: Runtime,
    *,
    out: Path | str | None,
    int8: bool,
    max_drop: float,
    calibrate: Path | str | None,
    report: Reporter,
    into: bool = False,
) -> tuple[Path, Parity]:
    """As `export`; `into`: `out` is a folder."""
    from handlens.flow.gate import failure

    run, task, with_resize, to = gate.run, gate.task, gate.with_resize, runtime.name
    name = run.folder.resolve().name + ("-any-size" if with_resize else "") + ("" if gate.suppress else "-no-nms")
    name += (f"-split{gate.split}" if gate.split > 1 else "") + (f"-strips{gate.strips}" if gate.strips > 1 else "")
    name += "-int8" if int8 else ""
    folder = Path(out) if out and into else run.folder / "exports"
    path = Path(out) if out and not into else folder / f"{name}{runtime.suffix}"
    if path.suffix.lower() != runtime.suffix or path.is_dir():
        raise InputError(f"an export to {to} must have the suffix {runtime.suffix}, got {path}.")
    reason = runtime.refuses(run.model.architecture.name) or _refused(runtime, with_resize=with_resize, int8=int8)
    if reason is not None:
        raise InputError(reason)
    calibration = calibration_images(run, None if calibrate is None else Path(calibrate)) if int8 else None
    said = metadata(
        task=task.name,
        architecture=run.model.architecture,
        class_names=run.class_names,
        preprocess=run.preprocess,
        chosen=run.model.chosen,
        resizes=with_resize,
        suppress=gate.suppress,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    good, bad = (path.with_name(f"{path.name}.{kind}.json") for kind in ("parity", "parity-failed"))
    allowed = max_drop / 100 if int8 else None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as unproved:
        made = Path(unproved) / path.name
        report.say(f"Converting to {to}.")
        report.progress("converting", 0, None)
        try:
            runtime.convert(
                gate.graph,
                run.preprocess,
                made,
                outputs=task.outputs,
                metadata=said,
                any_size=with_resize,
                report=report,
            )
        except (InputError, MemoryError, OSError):
            raise
        except Exception as error:  # exporters raise whatever they like; a model of one's own may be anything
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(f"{run.folder.name} cannot be converted to {to}: {first}") from error
        tried: list[dict[str, Any]] = []
        if calibration is not None:
            said = said | {"precision": "int8"}
            tried = quantize(gate, runtime, made, images=calibration, metadata=said, max_drop=max_drop / 100)
        parity = replace(gate.compare(made, runtime, max_drop=allowed), tried=tuple(tried))
        rows = {"file": path.name, "to": to} | parity.to_dict()
        if not parity.passed:
            write_json(bad, rows)
        else:
            with locked(run.folder) if out is None else nullcontext():  # a run may be read-only
                bad.unlink(missing_ok=True)
                for file in runtime.files(made):
                    file.replace(path.parent / file.name)
                write_json(good, rows)
    if not parity.passed:
        sentence = failure(parity, to, max_drop=allowed)
        raise ParityError(f"{sentence}. The file was deleted; the parity report is in {bad}.", parity)
    return path, parity


def known_target(name: str) -> str:
    """
    Raises:
        InputError: no runtime has this name.
    """
    if name not in RUNTIMES:
        raise InputError(f"unknown export target {name!r}; available: {', '.join(RUNTIMES)}.")
    return name


def _refused(runtime: Runtime, *, with_resize: bool, int8: bool) -> str | None:
    """Why a runtime does not make such a file, as a sentence; None where it does."""
    if int8 and not runtime.int8:
        fitting = ", ".join(name for name, other in RUNTIMES.items() if other.int8)
        return f"--int8 is not available for {runtime.name}; use --to {fitting}."
    if int8 and with_resize:
        return "--int8 and --with-resize exclude each other: the resize inside a graph needs float32."
    if with_resize and not runtime.takes_any_size:
        fitting = ", ".join(name for name, other in RUNTIMES.items() if other.takes_any_size)
        return f"--with-resize is not available for {runtime.name}, whose images have one size; use --to {fitting}."
    return None


@dataclass(frozen=True)
class Outcome:
    """Of an export to one of several runtimes.

    Attributes:
        path: None where there is no file, and `error` says why.
        parity: None where it did not come to a comparison.
    """

    to: str
    path: Path | None
    parity: Parity | None
    error: InputError | ParityError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        report = {"passed": False} if self.parity is None else self.parity.to_dict()
        return {
            "to": self.to,
            "file": None if self.path is None else str(self.path),
            "error": None if self.error is None else str(self.error),
        } | report


def export_each(
    run: Path | str | Run,
    *,
    to: str,
    out: Path | str | None = None,
    data: Path | str | None = None,
    with_resize: bool = False,
    suppress: bool = True,
    split: int = 1,
    strips: int = 1,
    int8: bool = False,
    max_drop: float = 1.0,
    calibrate: Path | str | None = None,
    images: int | Literal["all"] | None = None,
    model: Any = None,
    report: Reporter = QUIET,
) -> Iterator[Outcome]:
    """Export to one runtime or to several; one that fails does not keep the others from being made.

    Args:
        to: names of RUNTIMES with commas between them, or "all".
        out: as of `export`, as are the others; of several, a folder.

    Raises:
        InputError: at once: an unknown name, no run, or no images.
    """
    names = list(RUNTIMES) if to == "all" else list(dict.fromkeys(name.strip() for name in to.split(",")))
    runtimes = [RUNTIMES[known_target(name)] for name in names]
    several = len(runtimes) > 1
    suffixes = [runtime.suffix for runtime in RUNTIMES.values()]
    if several and out is not None and (Path(out).suffix in suffixes or Path(out).is_file()):
        raise InputError(f"--out must be a folder for several exports, got {out}.")
    run = find_run(run, report=report)
    with _gate(
        run,
        data=data,
        images=images,
        with_resize=with_resize,
        suppress=suppress,
        split=split,
        strips=strips,
        model=model,
        report=report,
    ) as gate:
        for runtime in runtimes:
            try:
                path, parity = _exported(
                    gate,
                    runtime,
                    out=out,
                    into=several,
                    int8=int8,
                    max_drop=max_drop,
                    calibrate=calibrate,
                    report=report,
                )
            except (InputError, ParityError) as error:
                yield Outcome(runtime.name, None, getattr(error, "parity", None), error)
            else:
                yield Outcome(runtime.name, path, parity)
