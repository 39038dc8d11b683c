"""The machine this runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

# Instruction sets that decide how fast a network runs, as /proc/cpuinfo names them on x86 and on ARM.
INSTRUCTIONS = (
    *("sse4_2", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


def describe() -> dict[str, Any]:
    """
    Returns:
        "processor", "cores" (that this process may use), "instructions", "system", "python"; and "load", how many
        processes wanted to run in the last minute, None where the system does not say.
    """
    lines = _cpuinfo()
    model = next((value for key, value in lines if key in ("model name", "Model")), "")
    flags = next((value.split() for key, value in lines if key in ("flags", "Features")), [])
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": cores(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def cores() -> int:
    """Processor cores that this process may use: in a container, fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> list[tuple[str, str]]:
    path = Path("/proc/cpuinfo")
    if not path.exists():  # not Linux
        return []
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [(key.strip(), value.strip()) for key, colon, value in pairs if colon]
