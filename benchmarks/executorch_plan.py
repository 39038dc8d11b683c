"""Bytes that ExecuTorch plans for the maps of exported programs, portable kernels: python executorch_plan.py PT2 ..."""

import json
import logging
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import torch  # noqa: E402
from executorch.exir import to_edge  # noqa: E402

sizes = []
for path in sys.argv[1:]:
    made = to_edge(torch.export.load(path)).to_executorch()
    (plan,) = made.executorch_program.execution_plan
    sizes.append(sum(plan.non_const_buffer_sizes))
print(json.dumps(sizes))
