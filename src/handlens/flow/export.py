"""export: a file for another runtime, and the proof that it answers as PyTorch does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from handlens.errors import InputError, ParityError, nearest, require
from handlens.files import write_json
from handlens.flow.app_folder import app_folder, make_app_folder, place_app_folder, refuse_others
from handlens.flow.calibration import calibration_images
from handlens.flow.export_options import ExportOptions
from handlens.flow.int8 import halve, quantize
from handlens.flow.runs import build_from, find_run
from handlens.flow.source import metadata_of, one_sentence
from handlens.reading.parsed import read_json
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.runtimes import RUNTIMES
from handlens.runtimes.source import Source
from handlens.tasks import TASKS
from handlens.training.run import WEIGHTS, Run, digests, locked

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
    fp16: bool = False,
    int8: bool = False,
    max_drop: float | None = None,
    keep_float: int | None = None,
    equalize: bool = False,
    correct_bias: bool = True,
    fine_tune: int | None = None,
    calibrate: Path | str | None = None,
    app: bool = True,
    images: int | Literal["all"] | None = None,
    model: Any = None,
    report: Reporter = QUIET,
) -> tuple[Path, Parity]:
    """Export a run and prove that the file answers as PyTorch does.

    Args:
        to: a name of RUNTIMES.
        out and those that follow: as of `ExportOptions`.
        model: your own, a constructor or a module, where the run's cannot be imported by its name.

    Returns:
        the file and the report, which also lies beside it as <file>.parity.json; and <file>-app, for whoever builds an
        app.

    Raises:
        ParityError: the exported file answers differently. It is thrown away, a file of that name from before stays
            as it was, and the report is kept as <file>.parity-failed.json.
        InputError: the packages for this runtime are not installed, it does not take this model, there are no images,
            or `out` is no such file.
    """
    options = ExportOptions(
        out=out,
        data=data,
        with_resize=with_resize,
        suppress=suppress,
        split=split,
        strips=strips,
        fp16=fp16,
        int8=int8,
        max_drop=max_drop,
        keep_float=keep_float,
        equalize=equalize,
        correct_bias=correct_bias,
        fine_tune=fine_tune,
        calibrate=calibrate,
        app=app,
        images=images,
    )
    run = find_run(run, report=report)
    with _gate(run, options, model=model, report=report) as gate:
        return _exported(gate, RUNTIMES[known_target(to)], options, report=report)


def _gate(run: Run, options: ExportOptions, *, model: Any, report: Reporter) -> Gate:
    require("torch", extra="train", what="export")
    from handlens.flow.gate import Gate

    task = TASKS[run.task]
    refusal = task.refusal(with_resize=options.with_resize, suppress=options.suppress)
    if refusal is not None:
        raise InputError(f"{refusal}; the task of {run.folder.name} is {task.name}.")
    if options.with_resize and run.preprocess.resize == "pad":
        raise InputError("--with-resize supports crop and stretch; this model pads its images.")
    if options.app:
        run.golden()  # a changed image is refused before anything is converted
    return Gate(run, build_from(run, model), options, report=report)


def _exported(
    gate: Gate, runtime: Runtime, options: ExportOptions, *, report: Reporter, into: bool = False
) -> tuple[Path, Parity]:
    """As `export`; `into`: `out` is a folder."""
    from handlens.flow.gate import failure

    run, task, to, out = gate.run, gate.task, runtime.name, options.out
    folder = Path(out) if out and into else run.folder / "exports"
    path = Path(out) if out and not into else folder / f"{options.name(run.folder.resolve().name)}{runtime.suffix}"
    if path.suffix.lower() != runtime.suffix or path.is_dir():
        raise InputError(f"an export to {to} must have the suffix {runtime.suffix}, got {path}.")
    reason = runtime.refuses(run.model.architecture.name) or _refused(runtime, options)
    if reason is not None:
        raise InputError(reason)
    good, bad = (path.with_name(f"{path.name}.{kind}.json") for kind in ("parity", "parity-failed"))
    files = runtime.files(path) if out else ()  # the run's own folder for exports is ours
    _require_written_by_an_export(files, report=good)
    refuse_others(app_folder(path))
    calibration = calibration_images(run, options.calibrate) if options.int8 else None
    said = metadata_of(run, resizes=options.with_resize, suppress=gate.suppress)
    source = Source(gate.graph, run.preprocess, task.outputs, said, any_size=options.with_resize)
    path.parent.mkdir(parents=True, exist_ok=True)
    allowed = None if options.precision == "fp32" else options.allowed_drop
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as unproved:
        made = Path(unproved) / path.name
        report.say(f"Converting to {to}.")
        report.progress("converting", 0, None)
        tried: list[dict[str, Any]] = []
        with one_sentence(run, runtime):
            delegation = None
            if allowed is None or not runtime.reduces_graph:
                delegation = runtime.convert(source, made, report=report)
            if allowed is not None:
                source = replace(source, metadata=said | {"precision": options.precision})
            if options.fp16:
                made, delegation = halve(runtime, source, made, report=report)
        if calibration is not None and allowed is not None:
            tried, delegation = quantize(gate, runtime, source, made, images=calibration, options=options)
        parity = replace(
            gate.compare(made, runtime, max_drop=allowed, int8=options.int8), tried=tuple(tried), delegation=delegation
        )
        # What `training.proved` asks of a file that predict is to run.
        origin = {"weights": run.model.files.get(WEIGHTS), "whole": gate.suppress and not options.with_resize}
        rows = {"file": path.name, "to": to} | origin | parity.to_dict()
        if not parity.passed:
            write_json(bad, rows)
        else:
            for_apps = (
                make_app_folder(gate, runtime, made, metadata=said, precision=options.precision)
                if options.app
                else None
            )
            of_run = path.resolve().is_relative_to(run.folder.resolve())
            # Before they are moved: of another process's files of the same names the report then says nothing.
            proved = digests(made.parent, [file.name for file in runtime.files(made)])
            with locked(run.folder) if of_run else nullcontext():  # a run may be read-only
                bad.unlink(missing_ok=True)
                # Once more, for minutes have passed; and before anything is replaced.
                _require_written_by_an_export(files, report=good)
                refuse_others(app_folder(path))
                for file in runtime.files(made):
                    file.replace(path.parent / file.name)
                if for_apps is None and app_folder(path).exists():
                    report.say(f"{app_folder(path)} was that of the earlier file, and is removed.")
                place_app_folder(for_apps, app_folder(path), scratch=Path(unproved))
                write_json(good, rows | {"files": proved})
    if not parity.passed:
        sentence = failure(parity, to)
        stays = f" {path} of an earlier export stays." if path.exists() else ""
        raise ParityError(f"{sentence}. The file was deleted; the parity report is in {bad}.{stays}", parity)
    if options.app:
        report.say(f"For the app's developer: {app_folder(path)}")
    return path, parity


def _require_written_by_an_export(files: Sequence[Path], *, report: Path) -> None:
    """
    Args:
        files: that would be replaced, in one folder. report: the parity report beside them.

    Raises:
        InputError: one is there that the report does not name.
    """
    try:
        said = read_json(report)
    except InputError:  # there is none, or it is somebody else's
        said = {}
    ours = said.get("files") if isinstance(said, dict) else None
    others = [file.name for file in files if os.path.lexists(file) and file.name not in (ours or {})]
    if others:
        raise InputError(
            f"{report.parent.resolve()} holds {' and '.join(others)}, which no export wrote and this one would "
            "replace: move it elsewhere, or give another --out."
        )


def known_target(name: str) -> str:
    """
    Raises:
        InputError: no runtime has this name.
    """
    if name not in RUNTIMES:
        raise InputError(f"unknown export target {name!r}; {nearest(name.lower(), RUNTIMES)}.")
    return name


def _refused(runtime: Runtime, options: ExportOptions) -> str | None:
    """Why a runtime does not make such a file, as a sentence; None where it does."""
    wanted = {
        "int8": (options.int8, lambda other: bool(other.int8)),
        "with-resize": (options.with_resize, lambda other: other.takes_any_size),
    }
    for option, (asked, takes) in wanted.items():
        if asked and not takes(runtime):
            fitting = ", ".join(name for name, other in RUNTIMES.items() if takes(other))
            return f"--{option} is not available for {runtime.name}; use --to {fitting}."
    return None


@dataclass(frozen=True)
class Outcome:
    """Of an export to one of several runtimes.

    Attributes:
        path: None where there is no file, and `error` says why.
        parity: None where it did not come to a comparison.
        app: the folder for whoever builds an app; None where it was not wanted.
    """

    to: str
    path: Path | None
    parity: Parity | None
    error: InputError | ParityError | None = None
    app: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        report = {"passed": False} if self.parity is None else self.parity.to_dict()
        return {
            "to": self.to,
            "file": None if self.path is None else str(self.path),
            "app": None if self.app is None else str(self.app),
            "error": None if self.error is None else str(self.error),
        } | report


def export_each(
    run: Path | str | Run, *, to: str, options: ExportOptions, model: Any = None, report: Reporter = QUIET
) -> Iterator[Outcome]:
    """Export to one runtime or to several; one that fails does not keep the others from being made.

    Args:
        to: names of RUNTIMES with commas between them, or "all".
        model: as of `export`.

    Raises:
        InputError: at once: an unknown name, no run, or no images.
    """
    names = list(RUNTIMES) if to == "all" else list(dict.fromkeys(name.strip() for name in to.split(",")))
    runtimes = [RUNTIMES[known_target(name)] for name in names]
    several = len(runtimes) > 1
    suffixes = [runtime.suffix for runtime in RUNTIMES.values()]
    out = None if options.out is None else Path(options.out)
    if several and out is not None and (out.suffix in suffixes or out.is_file()):
        raise InputError(f"--out must be a folder for several exports, got {out}.")
    run = find_run(run, report=report)
    with _gate(run, options, model=model, report=report) as gate:
        for runtime in runtimes:
            try:
                path, parity = _exported(gate, runtime, options, report=report, into=several)
            except (InputError, ParityError) as error:
                yield Outcome(runtime.name, None, getattr(error, "parity", None), error)
            except (OSError, MemoryError) as error:  # the next may need less
                if not several:
                    raise
                reason = getattr(error, "strerror", None) or str(error) or "out of memory"
                yield Outcome(runtime.name, None, None, InputError(f"no export to {runtime.name}: {reason}."))
            else:
                yield Outcome(runtime.name, path, parity, app=app_folder(path) if options.app else None)
