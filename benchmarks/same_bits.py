"""Bit-identical numbers before and after a code change: weights, metrics, tables, JSON, exported graphs.

python benchmarks/same_bits.py record FOLDER [SOURCE]   trains the tasks with the sources in SOURCE (default: this tree)
python benchmarks/same_bits.py compare BEFORE AFTER     two recorded folders; stores the result, exit code 1 on a change

For each task: a small generated data set, a short training in fp32 at a fixed seed and one thread, `evaluate --json`,
`predict --csv` and `--json`, and the exported ONNX graph run on fixed pixels. Messages and keys may change: renamed
words (RENAMED) count as equal; numbers may not change.
"""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, store

CASES: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> (task, options of train)
    "classify, head": ("classify", ("--mode", "head", "--image-size", "96")),
    "classify, finetune": ("classify", ("--mode", "finetune", "--epochs", "1", "--image-size", "96")),
    "classify, scratch": (
        "classify",
        ("--mode", "scratch", "--model", "mobilenet_v1", "--width", "0.25", "--epochs", "2", "--image-size", "64"),
    ),
    "tag, head": ("tag", ("--mode", "head", "--image-size", "96")),
    "tag, finetune": ("tag", ("--mode", "finetune", "--epochs", "1", "--image-size", "96")),
    "segment, finetune": ("segment", ("--mode", "finetune", "--epochs", "1", "--image-size", "96")),
    "detect, finetune": ("detect", ("--mode", "finetune", "--epochs", "1", "--image-size", "128")),
}
RENAMED = {"picture": "image", "colour": "color", "grey": "gray", "trunk": "backbone"}
NOT_NUMBERS = {"report", "runtime", "data", "notes"}  # paths, versions and sentences


def record(folder: Path, source: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(source / "src"),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "XDG_CACHE_HOME": str((folder / "cache").resolve()),
    }

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "handlens", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1):
            sys.exit(f"handlens {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    for number, (name, (task, options)) in enumerate(CASES.items()):
        data, run = f"bakery-{task}", f"run-{number}"
        if not (folder / data).is_dir():
            size = ("--per-class", "6", "--test-per-class", "2", "--size", "112")
            command("sample", "bakery", data, "--task", task, *size, "--quiet")
        if not (folder / run).is_dir():
            command(
                "train", data, "--out", run, "--seed", "1", "--precision", "fp32", "--workers", "0", *options, "--quiet"
            )
        found: dict[str, Any] = {"weights": _weights(folder / run / "model.safetensors")}
        found["checked"] = _plain(json.loads(command("check", data, "--json"))["fingerprint"])
        found["validation"] = _plain(json.loads((folder / run / "model.json").read_text())["validation"])
        found["metrics.csv"] = _epochs(folder / run / "metrics.csv")
        found["evaluation"] = _plain(json.loads(command("evaluate", run, "--precision", "fp32", "--json")))
        images = next(
            path for path in (f"{data}/test", f"{data}/images/test", f"{data}/images") if (folder / path).is_dir()
        )
        table, lines = folder / "answers.csv", ("--precision", "fp32", "--quiet")
        command("predict", run, images, "--csv", table.name, *lines)
        found["predictions.csv"] = hashlib.sha256(table.read_bytes()).hexdigest()
        table.unlink()
        answers = command("predict", run, images, "--json", "--top", "3", *lines)
        found["predictions.json"] = [_plain(json.loads(line)) for line in answers.splitlines()]
        command("export", run, "--to", "onnx", "--out", f"{run}.onnx", "--quiet")
        found["exported answers"] = _answers(folder / f"{run}.onnx")
        parity = json.loads((folder / f"{run}.onnx.parity.json").read_text())
        found["parity"] = _plain({"rows": parity["rows"], "resizers": parity["resizers"]})
        (folder / f"{number}.json").write_text(json.dumps(found, indent=1))
        print(f"{name}: recorded")


def compare(before: Path, after: Path) -> None:
    rows, changed = [], False
    for number, name in enumerate(CASES):
        one, other = (json.loads((folder / f"{number}.json").read_text()) for folder in (before, after))
        row: dict[str, Any] = {"case": name}
        for key in one:
            row[key] = "same" if one[key] == other[key] else "CHANGED"
            changed |= one[key] != other[key]
        rows.append(row)
    store("same_bits", rows, notes=["one thread, fp32, seed 1; each column is equal bit for bit or not"])
    sys.exit(int(changed))


def _weights(path: Path) -> str:
    """SHA-256 over names, shapes and bytes of the tensors, in the order of the names."""
    from safetensors.numpy import load_file

    digest = hashlib.sha256()
    for name, value in sorted(load_file(path).items()):
        digest.update(f"{name} {value.shape} {value.dtype}".encode() + value.tobytes())
    return digest.hexdigest()


def _epochs(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the seconds; empty where nothing was trained by epochs."""
    if not path.is_file():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def _answers(model: Path) -> dict[str, str]:
    """SHA-256 of every output of an exported graph for fixed pixels."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    _, height, width, channels = session.get_inputs()[0].shape
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, channels), dtype=np.uint8)
    names = [output.name for output in session.get_outputs()]
    arrays = session.run(names, {session.get_inputs()[0].name: pixels})
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in zip(names, arrays, strict=True)}


def _plain(value: Any) -> Any:
    """Numbers, and words as they are now."""
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items() if key not in NOT_NUMBERS}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return re.sub("|".join(RENAMED), lambda found: RENAMED[found.group()], value)
    return value


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["record", folder, *source]:
            record(Path(folder), Path(source[0]).resolve() if source else ROOT)
        case ["compare", before, after]:
            compare(Path(before), Path(after))
        case _:
            sys.exit(__doc__)
