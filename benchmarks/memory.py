"""Memory of MobileNetV2 in parts and strips: as `cost` plans it, as TFLite Micro's recording allocator and ExecuTorch's
plan measure it, beside the time per image; and what fits in 512, 320 and 256 kB.

    python benchmarks/memory.py            # about 15 minutes

Needs tflite-micro here, the converter to LiteRT (HANDLENS_LITERT_PYTHON), and for ExecuTorch's column a python that has
it (HANDLENS_EXECUTORCH_PYTHON); that column is empty without. Weights are fresh: memory and time do not depend on them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleaved, store
from micro import Alone, allocations, channels_last, convert, quantize, smooth_images, with_statistics
from torch import nn

from handlens.models import build
from handlens.models.cost import Cost, measure
from handlens.models.published import PUBLISHED
from handlens.models.split import Lean, lean, split_expansions
from handlens.preprocess import Preprocess
from handlens.runtimes.graph import Scale

BUDGETS = (256, 320, 512)  # kB of SRAM
# MCUNet's model zoo, int8, memory in TinyEngine, which other engines do not reach (github.com/mit-han-lab/mcunet).
MCUNET = (
    {"net": "mbv2-320kB", "millions": 23.5, "ram_kB": 308, "flash_kB": 862, "top1_int8": 49.0},
    {"net": "mcunet-256kB", "millions": 67.3, "ram_kB": 242, "flash_kB": 878, "top1_int8": 60.3},
    {"net": "mcunet-320kB", "millions": 81.8, "ram_kB": 293, "flash_kB": 897, "top1_int8": 61.8},
    {"net": "mcunet-512kB", "millions": 125.9, "ram_kB": 456, "flash_kB": 1876, "top1_int8": 68.0},
)
# Table 3 of Sandler et al. 2018: the most of a map, 16 bit, at width 1.0 and 224; V1 and ShuffleNet beside it.
PAPER_KB = {"MobileNetV2": 400, "MobileNetV1": 1600, "ShuffleNet 2x": 600}


def main() -> None:
    if find_spec("tflite_micro") is None:
        sys.exit("skipped: TFLite Micro, the meter, is not here: pip install tflite-micro")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        rows, fits = parts_and_strips(Path(folder)), what_fits(Path(folder))
    store("memory", rows, notes=[*paper(), f"MCUNet's model zoo: {MCUNET}"])
    store("memory-fits", fits, notes=["head: maps; total: with bookkeeping; top1: published, fp32."])


def parts_and_strips(folder: Path) -> list[dict[str, Any]]:
    """Width 0.35 at 96 pixels, 10 classes, the net alone, int8."""
    rows, files = [], {}
    images = smooth_images(8, size=96)
    for padding in ("same", "symmetric"):
        net = with_statistics(build("mobilenet_v2", num_classes=10, width=0.35, padding=padding), images)
        for name, smaller in designs(net, all_of_them=padding == "same"):
            path = folder / f"{padding}-{name}.tflite"
            row, _ = measured(smaller, path, channels_last(images), size=96)
            with torch.inference_mode():
                difference = float((smaller(images) - net(images)).abs().max())
            rows.append({"padding": padding, "design": name} | row | {"largest_difference": difference})
            files[len(rows) - 1] = path
            print(rows[-1], flush=True)
        for kind in ("int8", "uint8"):  # normalization inside
            split = lean(net, height=96, width=96, split=4)
            scale = Scale(Preprocess(height=96, width=96))
            pixels = (channels_last(images) * 40 + 128).clip(0, 255).round()
            pixels[0, 0, :2] = [[0] * 3, [255] * 3]
            path = folder / f"{padding}-{kind}.tflite"
            row, _ = measured(split.net, path, pixels, size=96, scale=scale, uint8=kind == "uint8")
            rows.append({"padding": padding, "design": f"{split}, {kind} image in"} | row)
            rows[-1]["largest_difference"] = None
            files[len(rows) - 1] = path
    for number, milliseconds in timed(files).items():
        rows[number]["ms"] = round(milliseconds, 3)
    return rows


def designs(net: nn.Module, *, all_of_them: bool) -> Iterator[tuple[str, nn.Module]]:
    yield "whole", net
    for t in range(2, 9) if all_of_them else (4,):
        yield f"t = {t} everywhere", split_expansions(net, t)
    before: Lean | None = None
    for t in (2, 4, 8):
        made = lean(net, height=96, width=96, split=t)
        if before is None or made.parts != before.parts:
            yield f"--split {t}: {made}", made.net
        before = made
    for n in (2, 4, 8) if all_of_them else (4,):
        made = lean(net, height=96, width=96, strips=n)
        yield f"--strips {n}: the stem and {made.strip_blocks} blocks", made.net


def measured(
    net: nn.Module, path: Path, images: Any, *, size: int, scale: nn.Module | None = None, uint8: bool = False
) -> tuple[dict[str, Any], Cost]:
    """Convert, quantize and ask TFLite Micro, beside the prediction."""
    cost = measure(net, height=size, width=size)
    graph, plain = Alone(net, scale=scale), path.with_suffix(".fp32.tflite")
    convert(graph, plain, size=size)
    quantize(plain, path, images, uint8=uint8)
    head, tail = allocations(path)
    return {
        "peak": cost.peak_numbers,
        "arena": cost.arena_numbers,
        "head": head,
        "error_%": round(100 * (cost.arena_numbers / head - 1), 2),
        "total_predicted": cost.ram_bytes,
        "total": head + tail,
        "total_error_%": round(100 * (cost.ram_bytes / (head + tail) - 1), 2),
        "executorch_fp32/4": None if scale is not None else executorch(graph, path.with_suffix(".pt2"), size=size),
        "file_kB_predicted": round(cost.file_bytes / 1e3, 1),
        "file_kB": round(path.stat().st_size / 1e3, 1),
        "multiply_adds": cost.multiply_adds,
        "ms": None,
    }, cost


def executorch(graph: nn.Module, program: Path, *, size: int) -> float | None:
    python = os.environ.get("HANDLENS_EXECUTORCH_PYTHON")
    if not python:
        return None
    with torch.inference_mode():
        torch.export.save(torch.export.export(graph, (torch.zeros(1, size, size, 3),), strict=False), program)
    script = Path(__file__).with_name("executorch_plan.py")
    done = subprocess.run([python, "-I", str(script), str(program)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])[0]) / 4


def timed(files: dict[int, Path]) -> dict[int, float]:
    """Milliseconds per image of int8 files in LiteRT, one thread, all in turn."""
    from ai_edge_litert.interpreter import Interpreter

    def runner(path: Path) -> Any:
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        (found,) = interpreter.get_input_details()
        interpreter.set_tensor(found["index"], np.zeros(found["shape"], dtype=found["dtype"]))

        def once() -> float:
            begin = time.process_time()
            for _ in range(5):
                interpreter.invoke()
            return (time.process_time() - begin) / 5 * 1e3

        return once

    found = interleaved({str(number): runner(path) for number, path in files.items()}, rounds=30)
    return {int(number): value for number, value in found.items()}


def what_fits(folder: Path) -> list[dict[str, Any]]:
    """The most accurate published MobileNetV2 for each budget, whole and split, by prediction, and as it measures."""
    candidates = []
    for width, sizes in PUBLISHED["mobilenet_v2"].items():
        with torch.device("meta"):
            net = build("mobilenet_v2", num_classes=1000, width=width, padding="same")
        for size, published in sizes.items():
            for split in (1, 8):
                made = lean(net, height=size, width=size, split=split)
                cost = measure(made.net, height=size, width=size)
                candidates.append((published.top1, -cost.ram_bytes, width, size, split))
    rows = []
    for budget in BUDGETS:
        for split in (1, 8):
            fitting = [found for found in candidates if -found[1] <= budget * 1000 and found[4] == split]
            if not fitting:
                rows.append({"budget_kB": budget, "split": split, "net": "nothing published fits"})
                continue
            top1, _, width, size, _ = max(fitting)
            images = smooth_images(8, size=size)
            net = with_statistics(build("mobilenet_v2", num_classes=1000, width=width, padding="same"), images)
            made = lean(net, height=size, width=size, split=split)
            row, _ = measured(made.net, folder / "fits.tflite", channels_last(images), size=size)
            rows.append(
                {"budget_kB": budget, "split": split, "net": f"{width} at {size}: {made}", "top1": top1}
                | {key: row[key] for key in ("head", "total", "total_predicted", "file_kB", "file_kB_predicted")}
            )
            print(rows[-1], flush=True)
    return rows


def paper() -> list[str]:
    with torch.device("meta"):
        cost = measure(build("mobilenet_v2", num_classes=1000), height=224, width=224)
    return [
        f"Table 3 of the paper, fp16 kB: {PAPER_KB}; by its own formula (block by block) width 1.0 at 224 needs "
        f"{2 * cost.peak_numbers_blocks / 1e3:.0f} kB, operator by operator {2 * cost.peak_numbers / 1e3:.0f} kB.",
        "arena: predicted by `cost`; head: maps, total: with bookkeeping, in TFLite Micro; bytes. ms: int8 in LiteRT, "
        "one thread, processor time.",
    ]


if __name__ == "__main__":
    main()
