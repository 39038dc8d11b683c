"""Convert what torch.export saved to ExecuTorch, without handlens: python converter_script.py PROGRAM SAID FILE."""

import logging
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import torch  # noqa: E402 - its advice is silenced first
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # noqa: E402
from executorch.exir import to_edge_transform_and_lower  # noqa: E402

source, said, destination = map(Path, sys.argv[1:])
text = torch.frombuffer(bytearray(said.read_bytes()), dtype=torch.uint8)
with torch.inference_mode():
    lowered = to_edge_transform_and_lower(
        torch.export.load(source), partitioner=[XnnpackPartitioner()], constant_methods={"handlens": text}
    )
    destination.write_bytes(lowered.to_executorch().buffer)
