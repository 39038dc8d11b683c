"""Size of the plain installation, and prediction without torch: python benchmarks/install_size.py

A new virtual environment, `pip install .` with the versions of constraints.txt, then `predict` of a run trained
here. Needs the package index.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, handlens, store


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


with tempfile.TemporaryDirectory() as scratch:
    place = Path(scratch)
    handlens("sample", "bakery", place / "data", "--per-class", "4", "--test-per-class", "2", "--size", "96", "--quiet")
    small = ("--mode", "scratch", "--width", "0.35", "--image-size", "64", "--epochs", "1")
    handlens("train", place / "data", "--out", place / "run", *small, "--quiet")
    subprocess.run([sys.executable, "-m", "venv", place / "light"], check=True)
    python = place / "light" / "bin" / "python"
    begin = time.perf_counter()
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", str(ROOT)]
    subprocess.run(install, check=True)
    seconds = time.perf_counter() - begin
    found = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert found.returncode != 0, "torch came with the plain installation"
    predicted = subprocess.run(
        [python, "-m", "handlens", "predict", place / "run", place / "data" / "test", "--csv", place / "a.csv"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "HOME": scratch},
    )
    rows = len((place / "a.csv").read_text(encoding="utf-8-sig").splitlines()) - 1 if predicted.returncode == 0 else 0
    packages = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True)
    result = {
        "MB": round(size_mb(place / "light")),
        "packages": len(packages.stdout.splitlines()) - 2,
        "install seconds": round(seconds),
        "exit code of predict": predicted.returncode,
        "predictions": rows,
    }
    store("install_size", [result], notes=["asked for: below 700 MB; predict works without torch"])
