"""export: a file for another runtime, and the proof that it answers as PyTorch does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from handlens.errors import InputError, ParityError
from handlens.files import write_json
from handlens.flow.evaluate import test_pictures
from handlens.flow.report import QUIET, Reporter
from handlens.flow.runs import build_from, find_run
from handlens.train.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlens.export.parity import Parity

Target = Literal["onnx", "openvino"]
PRECISIONS = {"onnx": ("fp32",), "openvino": ("fp32", "auto")}


def export(
    run: Path | str | Run,
    *,
    to: Target,
    out: Path | str | None = None,
    data: Path | str | None = None,
    with_resize: bool = False,
    pictures: int = 1000,
    report: Reporter = QUIET,
) -> tuple[Path, Parity]:
    """Export a run and prove that the file answers as PyTorch does.

    Args:
        out: the file; None is <run>/exports/<run>.onnx or .xml.
        data: pictures for the proof; None is the run's own test or validation pictures, or else its golden ones.
        with_resize: the graph takes pictures of any size, one at a time, and resizes inside.
        pictures: how many of them at most.

    Returns:
        the file and the report, which also lies beside it as parity.json.

    Raises:
        ParityError: the exported file answers differently. It is thrown away, a file of that name from before stays
            as it was, and the report is kept.
        InputError: the packages for this runtime are not installed, or there are no pictures.
    """
    import torch

    from handlens.deploy.graph import DeployGraph, ResizingGraph
    from handlens.deploy.graph_names import PROBABILITIES
    from handlens.export.onnx import export_onnx
    from handlens.export.openvino import save_openvino, to_openvino
    from handlens.export.parity import measure_parity

    if to not in PRECISIONS:
        raise InputError(f"there is no export to {to!r}; there are {', '.join(PRECISIONS)}.")
    run = find_run(run, report=report)
    preprocess = run.preprocess
    images, labels = _proof_pictures(run, data, pictures)
    net = build_from(run)
    deployed = DeployGraph(net, preprocess)
    graph = ResizingGraph(deployed, preprocess) if with_resize else deployed
    name = run.folder.resolve().name + ("-any-size" if with_resize else "")
    path = Path(out) if out else run.folder / "exports" / f"{name}.{'onnx' if to == 'onnx' else 'xml'}"
    metadata = {"class_names": list(run.class_names), "preprocess": preprocess.to_dict()}

    def reference(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [deployed(torch.from_numpy(batch[i : i + 32])) for i in range(0, len(batch), 32)]
        return torch.cat(parts).numpy()

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as unproved:
        made = Path(unproved) / path.name
        report.say(f"Converting to {to}.")
        if to == "onnx":
            export_onnx(graph, preprocess, made, outputs=(PROBABILITIES,), metadata=metadata, any_size=with_resize)
        else:
            model = to_openvino(graph, preprocess, outputs=(PROBABILITIES,), any_size=with_resize)
            save_openvino(model, made, metadata=metadata)
        report.say(f"Comparing on {len(images)} pictures, in a process without PyTorch.")
        parity = measure_parity(
            made, runner=to, precisions=PRECISIONS[to], images=images, labels=labels, preprocess=preprocess,
            reference=reference, any_size=with_resize, progress=report.steps("comparing"),
        )  # fmt: skip
        write_json(path.parent / "parity.json", {"file": path.name, "to": to} | parity.to_dict())
        if parity.passed:
            for file in sorted(
                made.parent.iterdir(), key=lambda file: file.suffix != ".bin"
            ):  # the .bin before its .xml
                file.replace(path.parent / file.name)
    if not parity.passed:
        worst = max(parity.rows, key=lambda row: (row.passed is False, row.largest_difference))
        raise ParityError(
            f"{to} answers differently from PyTorch: {100 * (1 - worst.labels_equal):.2f} % of the labels, "
            f"probabilities by up to {worst.largest_difference:.2g} (allowed: {parity.tolerance:g}). "
            f"It was not kept; the numbers are in {path.parent / 'parity.json'}."
        )
    return path, parity


def _proof_pictures(
    run: Run, data: Path | str | None, limit: int
) -> tuple[list[tuple[str, NDArray[np.uint8]]], list[int | None]]:
    """Decoded pictures (id, (H, W, 3)) and labels, spread evenly over what there is."""
    import numpy as np

    from handlens.data import walk
    from handlens.data.decode import UnreadablePictureError, decode

    labels: list[int | None]
    if data is None and not ("data" in run.model and Path(run.model["data"]["root"]).exists()):
        folder = run.folder / "golden"
        paths = [(path.name, path) for path in walk([folder])] if folder.is_dir() else []
        labels = [None] * len(paths)
        if not paths:
            raise InputError(
                f"there are no pictures to prove the export of {run.folder.name} with; name some by --data."
            )
    else:
        records = test_pictures(run, data, format=None, config=None).records
        chosen = np.linspace(0, len(records) - 1, min(limit, len(records))).astype(int)
        paths = [(records[i].id, records[i].path) for i in chosen]
        labels = [records[i].target for i in chosen]
    images, kept = [], []
    for (name, path), label in zip(paths, labels, strict=True):
        try:
            images.append((name, decode(path)))
        except UnreadablePictureError:  # the audit and evaluate name them; the proof needs pictures, not these ones
            continue
        kept.append(label)
    if not images:
        raise InputError(f"none of the {len(paths)} pictures for the proof can be read; name others by --data.")
    return images, kept
