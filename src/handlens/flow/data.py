"""sample, public sets, check, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import FindingsError, InputError, require
from handlens.reporter import QUIET, Reporter
from handlens.tasks import TASKS
from handlens.tasks.pieces import Found

if TYPE_CHECKING:
    from handlens.data.check import Audit


def sample(
    name: str,
    folder: Path | str,
    *,
    task: str = "classify",
    per_class: int = 40,
    test_per_class: int = 10,
    size: int = 224,
    seed: int = 0,
    report: Reporter = QUIET,
) -> Path:
    """Write a generated sample data set for a task; "bakery" is the one there is. Returns the folder."""
    from handlens.samples.bakery_set import write_bakery

    if name != "bakery":
        raise InputError(f"unknown sample {name!r}; available: bakery.")
    return write_bakery(
        Path(folder),
        task=task,
        per_class=per_class,
        test_per_class=test_per_class,
        size=size,
        seed=seed,
        progress=report.steps("drawing"),
    )


def get_data(name: str, folder: Path | str, *, source: Path | str | None = None, report: Reporter = QUIET) -> Path:
    """Fetch a public set, verify it and lay it out in a new folder; `source` is its files on disk in place of the
    network. Returns the folder."""
    from handlens.data.public import get_set

    return get_set(
        name, Path(folder), source=Path(source) if source else None, say=report.say, progress=report.progress
    )


def public_sets() -> list[dict[str, Any]]:
    """The sets that `get_data` knows: name, about, license, and where they come from."""
    from handlens.data.public import SETS

    return [
        {
            "name": name,
            "about": chosen.about,
            "license": chosen.license,
            "from": "its publisher" if all(file.urls for file in chosen.files) else "your file, given with --from",
        }
        for name, chosen in SETS.items()
    ]


def check(
    data: Path | str, *, format: str | None = None, config: Path | None = None, report: Reporter = QUIET
) -> Audit:
    """Decode every image of a data set and say what is wrong with it. Writes nothing."""
    from handlens.data import open_dataset
    from handlens.data.check import audit

    dataset = open_dataset(Path(data), format=format, config=config)
    return audit(dataset, progress=report.steps("checking"))


def convert(
    data: Path | str,
    folder: Path | str,
    *,
    to: str,
    format: str | None = None,
    config: Path | None = None,
    report: Reporter = QUIET,
) -> list[str]:
    """Write a data set with masks or boxes in another format; see `data.convert.convert`.

    Returns:
        Sentences that say what was lost.
    """
    from handlens.data import open_dataset
    from handlens.data.convert import convert as write

    report.progress(f"writing {to}", 0, None)
    dataset = open_dataset(Path(data), format=format, config=config, whole=True)
    report.say(f"{dataset.summary()}.")
    return write(dataset, Path(folder), to=to)  # type: ignore[arg-type]  # checked there


def stop_on_findings(audit: Audit, *, strict: bool) -> None:
    """
    Raises:
        FindingsError: the audit has an error, or with `strict` a warning.
    """
    stopping = [f for f in audit.findings if f.level == "error" or (strict and f.level == "warning")]
    if stopping:
        raise FindingsError(" ".join(finding.message for finding in stopping))


def suspects(audit: Audit, *, report: Reporter = QUIET) -> list[dict[str, Any]]:
    """Images of an audited data set whose label a model doubts, most suspect first; see `Task.suspects`."""
    require("torch", extra="train", what="the search for label errors")
    stop_on_findings(audit, strict=False)
    return TASKS[audit.dataset.task].suspects(audit, report)


def examine(audit: Audit, *, report: Reporter = QUIET) -> Found | None:
    """What a model says about an audited data set beside the audit; None where there is nothing."""
    return TASKS[audit.dataset.task].examine(audit, report)
