"""Exported ONNX and OpenVINO against PyTorch on whole test sets: python benchmarks/export_parity.py [RUN ...]

Without a run, a head is trained on the flowers. At least: 100 % equal labels and probabilities within 1e-4
in f32; at OpenVINO's default precision 99 % equal labels and the metric within 0.5 points; masks: 99.9 % equal
pixels; boxes: matched one to one, IoU above 0.99, scores within 1e-3.
"""

import json
import sys
import tempfile
from pathlib import Path

from common import handlens, shared_images, store

KEPT = (
    "engine",
    "precision",
    "pixels",
    "images",
    "equal",
    "largest_difference",
    "score",
    "reference_score",
    "passed",
)

rows, notes = [], []
with tempfile.TemporaryDirectory() as scratch:
    runs = [Path(name) for name in sys.argv[1:]]
    if not runs:
        runs = [Path(scratch) / "run"]
        handlens("train", shared_images("flowers"), "--mode", "head", "--out", runs[0])
    for number, run in enumerate(runs):
        model = json.loads((run / "model.json").read_text(encoding="utf-8"))
        graphs = [("fixed", ())]
        if model["task"] != "segment" and model["preprocess"]["resize"] != "pad":
            graphs.append(("any", ("--with-resize",)))
        for to in ("onnx", "openvino"):
            for folder, options in graphs:
                suffix = "onnx" if to == "onnx" else "xml"
                out = Path(scratch) / str(number) / to / folder / f"model.{suffix}"
                handlens("export", run, "--to", to, "--out", out, *options, check=False)  # the gate may say no
                (report,) = out.parent.glob("*.parity*.json")
                result = json.loads(report.read_text(encoding="utf-8"))
                of = {"data": Path(model["data"]["root"]).name, "task": model["task"], "resize_inside": folder == "any"}
                rows += [of | {key: row[key] for key in KEPT if key in row} for row in result["rows"]]
                if to == "onnx" and model["task"] == "classify":
                    notes += [
                        f"{entry['pixels']}: {100 * entry['changed']:.1f} % of labels change, top1 {entry['score']:.3f}"
                        for entry in result["resizers"]
                    ]
store("export_parity" if len(sys.argv) == 1 else "export_parity_tasks", rows, notes=notes)
