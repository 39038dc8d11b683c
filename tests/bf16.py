"""A trained classifier in bf16 against itself in float32, both by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from handlens.data.decode import decode
from handlens.flow.runs import build_from, find_run


def bf16_against_fp32(run: Path, files: Sequence[Path]) -> tuple[int, float]:
    """How many images get another label, and the mean difference of the probabilities."""
    opened = find_run(run)
    net = build_from(opened).to(memory_format=torch.channels_last)
    pixels = np.stack([opened.preprocess.pixels(decode(file)) for file in files])
    images = torch.from_numpy(opened.preprocess.normalize(pixels)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        exact = net(images).softmax(dim=1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = net(images)
    assert rough.dtype == torch.bfloat16
    rough = rough.float().softmax(dim=1)
    return int((rough.argmax(dim=1) != exact.argmax(dim=1)).sum()), float((rough - exact).abs().mean())
