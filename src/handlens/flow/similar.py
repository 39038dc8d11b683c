"""similar: the images of a folder that a model finds most alike to another, or alike among themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data import walk
from handlens.errors import InputError
from handlens.flow.runs import find_run
from handlens.flow.sheets import sheet_format
from handlens.flow.similar_outputs import save_groups, save_neighbors, write_table
from handlens.reporter import QUIET, Reporter
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.flow.embeddings import Embedded
    from handlens.runtimes.engine import Precision

TOP = 10
DIGITS = 6  # of a similarity; float32 has no more


def similar(
    run: Path | str | Run,
    query: Path | str,
    folder: Path | str,
    *,
    top: int = TOP,
    precision: Precision = "auto",
    csv: Path | None = None,
    sheet: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """The images of a folder whose embedding is nearest to that of an image.

    The embedding is what the model computes before its classifier, of segmenters and detectors the mean over the
    deepest map of the backbone. The search is exact. Features are kept in the cache by the images' contents: they are
    computed once, also for other folders and for training in mode head.

    Args:
        run: a run folder, or the name of a pretrained model.
        query: an image file. Where it lies in the folder it is not its own neighbor; a copy under another name is.
        folder: is searched with all folders below.
        top: at most so many neighbors.
        precision: what the features are computed in: "auto" is what the processor is fastest at, or "fp32".
        csv, sheet: files to write: a table, and the images as a contact sheet (PNG or JPEG).

    Returns:
        "run" (its folder), "query", "folder"; "neighbors": dicts of "file" and "similarity" (cosine, -1 to 1), most
        alike first; "images": how many of the folder could be read; "unreadable": dicts of "file" and "reason".

    Raises:
        InputError: no such run, query or folder; the query is no image that can be read; no images in the folder; the
            model has no embedding; or an output that cannot be written.
    """
    from handlens.neighbors import cosine_similarities

    if top < 1:
        raise InputError(f"--top must be at least 1, got {top}.")
    image = Path(query)
    if not image.is_file():
        raise InputError(f"{image} is {'not an image file' if image.exists() else 'missing'}; give QUERY, then FOLDER.")
    opened, found = _embedded(run, Path(folder), [image], precision=precision, sheet=sheet, report=report)
    if image in found.unreadable:
        raise InputError(found.unreadable[image])
    vectors, rows = found.vectors, found.rows
    asked = vectors.matrix[vectors.rows[rows[0]]]
    # The first file is the query itself, before those of the folder.
    alike = cosine_similarities(asked, vectors)[rows[1:]]
    itself = os.path.realpath(image)
    neighbors: list[dict[str, Any]] = []
    for place in (-alike).argsort(kind="stable"):  # equals stay in the order of their names
        file = found.files[1 + place]
        if found.digests[1 + place] == found.digests[0] and os.path.realpath(file) == itself:
            continue
        neighbors.append({"file": str(file), "similarity": _rounded(alike[place])})
        if len(neighbors) == top:
            break
    if csv is not None:
        write_table(csv, "rank", enumerate(neighbors, start=1))
    if sheet is not None:
        save_neighbors(image, neighbors, sheet)
    return _said(opened, folder, found, besides=1) | {"query": str(image), "neighbors": neighbors}


def similar_groups(
    run: Path | str | Run,
    folder: Path | str,
    *,
    threshold: float,
    precision: Precision = "auto",
    csv: Path | None = None,
    sheet: Path | None = None,
    report: Reporter = QUIET,
) -> dict[str, Any]:
    """Groups of images in a folder that are alike: the connected components of all pairs whose similarity is at least
    a threshold. Two images of a group may be less alike, where others link them.

    Args:
        threshold: cosine similarity, above 0 and at most 1. What counts as a duplicate depends on the model.
        run, folder, precision, csv, sheet: as of `similar`; the sheet has a row or several for each group.

    Returns:
        As `similar`, with "groups" in place of "query" and "neighbors": lists, in the order of their first files, of
        dicts of "file" and "similarity" to the most similar other image of the group.

    Raises:
        InputError: as `similar`, or a threshold out of range.
    """
    import numpy as np

    from handlens.neighbors import similar_groups as groups_of

    if not 0 < threshold <= 1:
        raise InputError(f"the threshold of --duplicates must be above 0 and at most 1, got {threshold:g}.")
    opened, found = _embedded(run, Path(folder), [], precision=precision, sheet=sheet, report=report)
    group, nearest = groups_of(found.vectors, threshold=threshold, progress=report.steps("comparing"))
    copies = np.bincount(found.rows, minlength=len(group))  # files of one content
    members: dict[int, list[dict[str, Any]]] = {}
    for file, row in zip(found.files, found.rows.tolist(), strict=True):
        similarity = 1.0 if copies[row] > 1 else _rounded(nearest[row])
        members.setdefault(int(group[row]), []).append({"file": str(file), "similarity": similarity})
    groups = [several for several in members.values() if len(several) > 1]
    if csv is not None:
        write_table(csv, "group", ((number, one) for number, several in enumerate(groups, 1) for one in several))
    if sheet is not None and groups:
        save_groups(groups, sheet)
    return _said(opened, folder, found) | {"threshold": threshold, "groups": groups}


def _embedded(
    run: Path | str | Run,
    folder: Path,
    first: Sequence[Path],
    *,
    precision: Precision,
    sheet: Path | None,
    report: Reporter,
) -> tuple[Run, Embedded]:
    """The features of some files and of the images of a folder, in this order.

    Raises:
        InputError: as `similar`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}; give a folder with images.")
    if sheet is not None:
        sheet_format(sheet)
        if sheet.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{sheet} lies in {folder}, where it would be read as an image; choose a path outside.")
    opened = find_run(run, report=report)
    files = list(walk([folder]))
    if not files:
        raise InputError(f"no images in {folder}.")

    from handlens.flow.embeddings import embed, embedder_of

    embedder = embedder_of(opened, precision=precision, report=report)
    return opened, embed(embedder, [*first, *files], report=report)


def _said(run: Run, folder: Path | str, found: Embedded, *, besides: int = 0) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "folder": str(folder),
        "images": len(found.files) - besides,
        "unreadable": [{"file": str(path), "reason": reason} for path, reason in found.unreadable.items()],
    }


def _rounded(similarity: Any) -> float:
    return round(float(similarity), DIGITS)
