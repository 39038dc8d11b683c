"""export: a file for another runtime, and the proof that it answers as PyTorch does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from handlens.errors import InputError, ParityError, require
from handlens.files import write_json
from handlens.flow.proof import ProofImages
from handlens.flow.runs import build_from, find_run
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS
from handlens.training.model_info import metadata
from handlens.training.run import Run, locked

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from handlens.runtimes.engine import Arrays
    from handlens.runtimes.parity import Parity
    from handlens.runtimes.runtime import Runtime


BUDGET = 50.0  # seconds of processor time for the comparison, where nobody says how many images
FEWEST = 8  # images that it takes nevertheless


@shows_progress
def export(
    run: Path | str | Run,
    *,
    to: str,
    out: Path | str | None = None,
    data: Path | str | None = None,
    with_resize: bool = False,
    suppress: bool = True,
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
        images: how many of them at most, spread evenly; None is as many as take a minute of processor time.
        model: your own, a constructor or a module, where the run's cannot be imported by its name.

    Returns:
        the file and the report, which also lies beside it as <file>.parity.json.

    Raises:
        ParityError: the exported file answers differently. It is thrown away, a file of that name from before stays
            as it was, and the report is kept as <file>.parity-failed.json.
        InputError: the packages for this runtime are not installed, it does not take this model, there are no images,
            or `out` is no such file.
    """
    require("torch", extra="train", what="export")
    from handlens.runtimes.graph import DeployGraph, ResizingGraph
    from handlens.runtimes.parity import measure_parity

    if to not in RUNTIMES:
        raise InputError(f"unknown export target {to!r}; available: {', '.join(RUNTIMES)}.")
    runtime = RUNTIMES[to]
    run = find_run(run, report=report)
    task, preprocess = TASKS[run.task], run.preprocess
    name = run.folder.resolve().name + ("-any-size" if with_resize else "") + ("" if suppress else "-no-nms")
    path = Path(out) if out else run.folder / "exports" / f"{name}{runtime.suffix}"
    if path.suffix.lower() != runtime.suffix or path.is_dir():
        raise InputError(f"an export to {to} must have the suffix {runtime.suffix}, got {path}.")
    sources = ProofImages(run, data)
    net = build_from(run, model)
    refusal = task.refusal(with_resize=with_resize, suppress=suppress)
    if refusal is not None:
        raise InputError(f"{refusal}; the task of {run.folder.name} is {task.name}.")
    reason = runtime.refuses(run.model.architecture.name)
    if reason is not None:
        raise InputError(reason)
    if with_resize and not runtime.takes_any_size:
        fitting = ", ".join(name for name, other in RUNTIMES.items() if other.takes_any_size)
        raise InputError(f"--with-resize is not available for {to}, whose images have one size; use --to {fitting}.")
    if with_resize and preprocess.resize == "pad":
        raise InputError("--with-resize supports crop and stretch; this model pads its images.")
    deployed = DeployGraph(net, preprocess, last_step=task.last_step, suppress=suppress)
    graph = ResizingGraph(deployed, preprocess) if with_resize else deployed
    said = metadata(
        task=task.name,
        architecture=run.model.architecture,
        class_names=run.class_names,
        preprocess=preprocess,
        chosen=run.model.chosen,
        resizes=with_resize,
    )

    def reference(batch: NDArray[np.uint8]) -> Arrays:
        return deployed.arrays(batch, task.outputs)

    path.parent.mkdir(parents=True, exist_ok=True)
    good, bad = (path.with_name(f"{path.name}.{kind}.json") for kind in ("parity", "parity-failed"))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as unproved:
        made = Path(unproved) / path.name
        report.say(f"Converting to {to}.")
        report.progress("converting", 0, None)
        runtime.convert(
            graph,
            preprocess,
            made,
            outputs=task.outputs,
            metadata=said,
            any_size=with_resize,
            report=report,
        )
        everything = len(sources)
        sources.keep(
            _affordable(reference, runtime, run) if images is None else everything if images == "all" else images
        )
        rest = "" if len(sources) == everything else f" of {everything} (--all compares all)"
        report.say(f"Comparing predictions on {len(sources)} images{rest}, in a process without PyTorch.")
        parity = measure_parity(
            made,
            task=task.name,
            compare=task.compare,
            changed=task.changed,
            runtime=runtime,
            images=sources.decoded(report),
            available=everything,
            preprocess=preprocess,
            reference=reference,
            any_size=with_resize,
            thresholds=task.thresholds(run.model.chosen),
            score=sources.score if suppress else lambda arrays: None,
            report=report,
        )
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
        worst = max(parity.rows, key=lambda row: (row.passed is False, row.largest_difference or 1 - row.equal))
        far = f", {task.differs} by up to {worst.largest_difference:.2g}" if worst.largest_difference else ""
        raise ParityError(
            f"the export to {to} does not match PyTorch: {100 * (1 - worst.equal):.2f} % of the {task.compared} "
            f"differ{far}. The file was deleted; the parity report is in {bad}.",
            parity,
        )
    return path, parity


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


def export_each(run: Path | str | Run, *, to: str, out: Path | None = None, **options: Any) -> Iterator[Outcome]:
    """Export to one runtime or to several; one that fails does not keep the others from being made.

    Args:
        to: names of RUNTIMES with commas between them, or "all".
        out: as of `export`; of several, a folder.
        options: further arguments of `export`.

    Raises:
        InputError: at once: an unknown name, or no run.
    """
    names = list(RUNTIMES) if to == "all" else list(dict.fromkeys(name.strip() for name in to.split(",")))
    for name in names:
        if name not in RUNTIMES:
            raise InputError(f"unknown export target {name!r}; available: {', '.join(RUNTIMES)}, all.")
    if out is not None and len(names) > 1 and out.suffix:
        raise InputError(f"--out must be a folder for several exports, got {out}.")
    found = find_run(run, report=options.get("report", QUIET))
    for name in names:
        place = out / f"{found.folder.resolve().name}{RUNTIMES[name].suffix}" if out and len(names) > 1 else out
        try:
            path, parity = export(found, to=name, out=place, **options)
        except (InputError, ParityError) as error:
            yield Outcome(name, None, getattr(error, "parity", None), error)
        else:
            yield Outcome(name, path, parity)


def _affordable(reference: Callable[[NDArray[np.uint8]], Arrays], runtime: Runtime, run: Run) -> int:
    """How many images can be compared within BUDGET, where the runtime takes no longer than PyTorch does."""
    import numpy as np

    from handlens.runtimes.parity import RESIZERS

    size = (run.preprocess.height, run.preprocess.width, run.preprocess.channels)
    reference(np.zeros((1, *size), dtype=np.uint8))  # the first one is slower
    begin = time.process_time()
    reference(np.zeros((4, *size), dtype=np.uint8))
    seconds = (time.process_time() - begin) / 4
    return max(FEWEST, int(BUDGET / ((1 + len(runtime.precisions) + len(RESIZERS)) * seconds)))
