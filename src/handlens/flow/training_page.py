"""The page that a training leaves: what was trained on what, its curves, the findings of the data check, the recipe. An
evaluation puts its results in its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from handlens.evaluation import report as page
from handlens.evaluation.report import About, write_report
from handlens.flow.report_parts import provenance, train_command, words_of
from handlens.tasks import TASKS
from handlens.tasks.measuring import curves_of
from handlens.training.run import open_run

if TYPE_CHECKING:
    from handlens.data.labels.kind import Kind

PAGE = "report.html"


def write_training_page(folder: Path, kind: Kind) -> None:
    """
    Args:
        kind: of the labels.
    """
    run = open_run(folder)
    task, validation, started = TASKS[run.task], run.model.validation, run.started()
    assert validation is not None
    about = About(
        dataset={"root": started["root"], "split": "validation", "images": validation["count"]},
        findings=started.get("findings", []),
        provenance=provenance(run),
        commands=train_command(run),
        words=words_of(task, kind),
    )
    write_report(
        folder / PAGE,
        template=Path(str(page.__file__)).with_name("training.html.jinja"),
        title=folder.resolve().name,
        model=run.model.to_dict(),
        metrics={
            "value": task.scale.value(validation[task.metric]),
            "count": validation["count"],
            "how": validation["how"],
            "tested": len(started["splits"].get("test", [])),
        },
        images={"curves": curves_of(run)},
        examples={},
        about=about,
    )
