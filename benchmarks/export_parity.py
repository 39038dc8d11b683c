"""Exported ONNX and OpenVINO against PyTorch on the whole flowers test set: python benchmarks/export_parity.py [RUN]

At least: labels 100 % and probabilities within 1e-4 in f32; at OpenVINO's default precision labels 99 % and the metric
within 0.5 points.
"""

import json
import sys
import tempfile
from pathlib import Path

from common import handlens, pictures, store

flowers = pictures("flowers")
rows, notes = [], []
with tempfile.TemporaryDirectory() as scratch:
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "run"
    if not run.exists():
        handlens("train", flowers, "--mode", "head", "--out", run)
    for to in ("onnx", "openvino"):
        for resize in ((), ("--with-resize",)):
            out = Path(scratch) / to / ("any" if resize else "fixed") / f"model.{'onnx' if to == 'onnx' else 'xml'}"
            seconds, output = handlens("export", run, "--to", to, "--out", out, "--json", *resize)
            result = json.loads(output)
            rows += [
                {
                    key: row[key]
                    for key in (
                        "engine",
                        "precision",
                        "pixels",
                        "pictures",
                        "equal",
                        "largest_difference",
                        "top1",
                        "reference_top1",
                    )
                }
                for row in result["rows"]
            ]
            notes += [
                f"{entry['pixels']}: {100 * entry['changed']:.1f} % of labels change, top1 {entry['top1']:.3f}"
                for entry in result["resizers"]
                if to == "onnx"
            ]
store("export_parity", rows, notes=notes)
