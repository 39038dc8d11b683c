"""Where a comparison is written: the page, its numbers and its sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.files import write_bytes, write_json
from handlens.flow.changed_sides import Side
from handlens.flow.same_images import Compared
from handlens.names import for_file
from handlens.reading.parsed import read_json
from handlens.training.run import Run, locked

if TYPE_CHECKING:
    from handlens.tasks.task import Task

COMPARISON, PAGE = "comparison.json", "comparison.html"


def _base(run: Run) -> Path:
    """Where comparisons with a run as the first lie, a folder for each."""
    return Path(f"{run.folder}.comparisons") if run.folder.is_file() else run.folder / "comparisons"


def write_beside(
    compared: Sequence[Compared], result: dict[str, Any], sides: Sequence[tuple[Side, Side]], task: Task
) -> dict[str, Any]:
    """Page, numbers and sheets into a folder of the first run; the second of two comparisons of one name gets a number.

    Returns:
        the result with "page".
    """
    first = compared[0].run
    base = _base(first)
    with locked(base if first.folder.is_file() else first.folder):
        return _write(base, compared, result, sides, task)


def _write(
    base: Path,
    compared: Sequence[Compared],
    result: dict[str, Any],
    sides: Sequence[tuple[Side, Side]],
    task: Task,
) -> dict[str, Any]:
    name = for_file("-".join(entry.run.folder.resolve().name for entry in compared[1:]))
    folder, number = base / name, 1
    places = {"runs": [str(entry.run.folder.resolve()) for entry in compared[1:]], "data": result["data"]}
    while (folder / COMPARISON).is_file() and read_json(folder / COMPARISON).get("of") != places:
        number += 1
        folder = base / for_file(name, ending=f"-{number}")
    for place, both in enumerate(sides, start=1):
        for which, side in zip(("worse", "better"), both, strict=True):
            path = folder / f"{which}{'' if len(sides) == 1 else f'-{place}'}.jpg"
            if side.sheet is None:
                path.unlink(missing_ok=True)
            else:
                write_bytes(path, side.sheet)
    result = write_page(folder / PAGE, result, sides, task)
    write_json(folder / COMPARISON, {"of": places} | result | {"page": PAGE})
    return result


def write_page(path: Path, result: dict[str, Any], sides: Sequence[tuple[Side, Side]], task: Task) -> dict[str, Any]:
    from handlens.evaluation import report as pages

    pages.write_page(
        path,
        Path(str(pages.__file__)).with_name("comparison.html.jinja"),
        {"result": result, "sides": sides, "task": task, "notes": [*result["notes"], *_left_out(result)]},
    )
    return result | {"page": str(path)}


def _left_out(result: dict[str, Any]) -> list[str]:
    return [f"Left out: {entry['reason']}" for entry in result["unreadable"]]
