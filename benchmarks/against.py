"""Whole commands of this version compared with another version: python benchmarks/against.py BEFORE [ROUNDS]

BEFORE is a checkout of an earlier version, which runs with the same environment. Each command runs once per round
with each version, in turn; the ratio of medians is reported. For training by epochs, the seconds in metrics.csv are
compared, without startup and data check.

At most: 0.6 for `train` with a head on 400 images whose features are not cached; 1.03 for the others.
"""

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import ROOT, handlens, shared_images, store

from handlens.files import cache_folder
from handlens.training.run import read_metrics

before, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
TREES = {"before": before, "now": ROOT}
flowers = shared_images("flowers")

with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    handlens("sample", "bakery", folder / "bakery", "--per-class", "40", "--test-per-class", "0")
    (folder / "few").mkdir()
    for kind in sorted((flowers / "train").iterdir()):
        (folder / "few" / kind.name).mkdir()
        for image in sorted(kind.iterdir())[:40]:
            (folder / "few" / kind.name / image.name).symlink_to(image)

    def cache(tree: str, *, features: bool) -> str:
        """A cache of its own for each tree, with the published weights; without features unless asked for."""
        path = folder / f"cache {tree}"
        (path / "handlens").mkdir(parents=True, exist_ok=True)
        if not (path / "handlens" / "weights").exists():
            (path / "handlens" / "weights").symlink_to(cache_folder() / "weights")
        if not features:
            shutil.rmtree(path / "handlens" / "features", ignore_errors=True)
        return str(path)

    def run(tree: str, *arguments: str | Path, features: bool = True) -> float:
        environment = {"PYTHONPATH": str(TREES[tree] / "src"), "XDG_CACHE_HOME": cache(tree, features=features)}
        return handlens(*arguments, **environment)[0]

    def head(tree: str) -> float:
        shutil.rmtree(folder / "head", ignore_errors=True)
        return run(tree, "train", folder / "bakery", "--mode", "head", "--out", folder / "head", features=False)

    def epoch(tree: str) -> float:
        out = folder / "epoch"
        shutil.rmtree(out, ignore_errors=True)
        run(tree, "train", folder / "few", "--mode", "finetune", "--epochs", "1", "--out", out)
        return float(read_metrics(out)[-1]["seconds"])

    for tree in TREES:
        run(tree, "train", folder / "few", "--mode", "head", "--out", folder / f"run {tree}")
    one = min((flowers / "test" / "rose").iterdir())
    measured: dict[str, Callable[[str], float]] = {
        "train, head, 400 images, features not cached": head,
        "an epoch of fine-tuning, 170 images": epoch,
        "predict, files to CSV, 814 images": lambda tree: run(
            tree, "predict", folder / f"run {tree}", flowers / "test", "--csv", folder / "answers.csv"
        ),
        "predict, one image": lambda tree: run(tree, "predict", folder / f"run {tree}", one),
        "--help": lambda tree: run(tree, "--help"),
    }
    rows = []
    for name, measure in measured.items():
        seconds: dict[str, list[float]] = {tree: [] for tree in TREES}
        for _ in range(3 * rounds if name.startswith(("predict, one", "--help")) else rounds):
            for tree in TREES:
                seconds[tree].append(measure(tree))
        middle = {tree: statistics.median(values) for tree, values in seconds.items()}
        pairs = [now / earlier for earlier, now in zip(*seconds.values(), strict=True)]
        rows.append(
            {"command": name}
            | {f"{tree}, s": round(value, 2) for tree, value in middle.items()}
            | {"ratio": round(middle["now"] / middle["before"], 3), "of pairs": round(statistics.median(pairs), 3)}
        )
        print(rows[-1], flush=True)
store("against", rows, notes=["ratio: of the medians; of pairs: the median of the ratios within a round"])
