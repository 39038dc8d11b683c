"""TFLite Micro as the meter of memory, shared by benchmarks/memory.py and the tests.

Its recording allocator tells the arena's head (maps between operators) from its tail (what it keeps about the net).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlens.runtimes.converter import run_converter
from handlens.runtimes.litert.convert import REQUIREMENTS, SCRIPT, with_metadata

QUANTIZE = Path(__file__).with_name("quantize_int8.py")


class Alone(nn.Module):
    """A classifier for images (1, H, W, C), which TFLite has.

    Args:
        scale: turns pixels from 0 to 255 into what the net takes; None: it gets that.
    """

    def __init__(self, net: nn.Module, *, scale: nn.Module | None = None) -> None:
        super().__init__()
        self.net = net
        self.scale = scale

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(images.permute(0, 3, 1, 2) if self.scale is None else self.scale(images))}


def convert(graph: nn.Module, path: Path, *, size: int) -> None:
    """Write a graph for images (1, size, size, 3) float32 as .tflite, in fp32.

    Raises:
        InputError: the converter is not there, or refuses.
    """
    program = path.with_suffix(".pt2")
    with torch.inference_mode():
        images = {"images": torch.zeros(1, size, size, 3)}
        torch.export.save(torch.export.export(graph.eval(), (), images, strict=False), program)
    run_converter("litert", SCRIPT, program, path, outputs=(path,), package="litert_torch", requirements=REQUIREMENTS)
    program.unlink()


def quantize(source: Path, path: Path, images: NDArray[np.float32], *, uint8: bool = False) -> None:
    """Write a file in int8, weights by channel, its input and output too.

    Args:
        images: (N, H, W, 3), to calibrate with. uint8: the input is uint8.
    """
    samples = path.with_suffix(".npy")
    np.save(samples, images)
    run_converter(
        "litert",
        QUANTIZE,
        *(source, path, samples, *(["uint8"] if uint8 else [])),
        outputs=(path,),
        package="ai_edge_quantizer",
        requirements=REQUIREMENTS,
    )
    samples.unlink()
    path.write_bytes(with_metadata(path.read_bytes(), {}, short_names=True))


def allocations(path: Path) -> tuple[int, int]:
    """(head, tail) of the arena, bytes.

    Raises:
        RuntimeError: TFLite Micro refuses the file; in its words.
    """
    code = (
        "import sys; from tflite_micro import runtime; "
        "runtime.Interpreter.from_file(sys.argv[1], arena_size=64_000_000).print_allocations()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    found = dict(re.findall(r"Arena allocation (head|tail) (\d+) bytes", done.stdout + done.stderr))
    if done.returncode or len(found) < 2:
        raise RuntimeError(f"TFLite Micro and {path.name}: {done.stderr.strip()[:300]}")
    return int(found["head"]), int(found["tail"])


def with_statistics(net: nn.Module, images: Tensor) -> nn.Module:
    """Give a fresh net batch norm statistics of these images, and scales and shifts: int8 wants ranges."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.3)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def smooth_images(count: int, *, size: int) -> Tensor:
    """(N, 3, size, size) about 0, that a net does not average out."""
    coarse = torch.randn(count, 3, 5, 5) + torch.randn(count, 3, 1, 1)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def channels_last(images: Tensor) -> NDArray[np.float32]:
    return np.asarray(images.permute(0, 2, 3, 1).contiguous().numpy(), dtype=np.float32)
