"""report: the page about a run, with what takes PyTorch and time: heat maps and what the model costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import require
from handlens.flow.evaluate import evaluate
from handlens.flow.runs import find_run
from handlens.reporter import QUIET, Reporter, shows_progress
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.runtimes.engine import Precision


@shows_progress
def report(
    run: Path | str | Run,
    data: Path | str | None = None,
    *,
    heat_maps: bool = True,
    engine: str | None = None,
    precision: Precision = "auto",
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Measure a run and write its page as `evaluate` does, with heat maps of the images that it shows, and with
    parameters, multiply-adds, sizes and latencies.

    Args:
        heat_maps: False leaves them out. They are for classifiers, and need the weights: an exported file has none.

    Returns:
        as `evaluate`; "report" is the page.

    Raises:
        InputError: as `evaluate`; or PyTorch is not installed.
    """
    opened = find_run(run, exported=True, report=report)
    heat_maps = heat_maps and TASKS[opened.task].shows_heat and not opened.folder.is_file()
    if heat_maps:
        require("torch", extra="train", what="heat maps (or --no-heat-maps)")
    return evaluate(
        opened,
        data,
        engine=engine,
        precision=precision,
        heat_maps=heat_maps,
        costs=True,
        format=format,
        config=config,
        report=report,
    )
