"""SIGKILL at random moments of the real command, then --resume, compared with an uninterrupted run.

python benchmarks/kill_resume.py [KILLS]

At least 20 kills each with 0 and 2 workers; `finetune` with dropout, mixup, EMA and schedule on; the weights must be
bit-identical. A small model on a subset of the flowers, so that 40 kills take minutes; checkpoints every 2 seconds, so
that kills also hit saving and validation.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import shared_images, store

from handlens.reading.files import sha256_of

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
RECIPE = """
mode: finetune
image_size: 96
epochs: 4
batch_size: 8
dropout: 0.3
ema: 0.9
workers: {workers}
checkpoint_seconds: 2.0
augment: {{mixup: 0.2}}
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "handlens", "train", *map(str, arguments), "--quiet"]


def outcome(run: Path) -> tuple[str, str]:
    """The best weights, and the last ones with their average: the best may be the first."""
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    digest = hashlib.sha256()
    for kind in ("state_dict", "averaged"):
        for name, value in sorted(state[kind].items()):
            digest.update(name.encode() + value.numpy().tobytes())
    return sha256_of(run / "model.safetensors"), digest.hexdigest()


flowers = shared_images("flowers")
rows = []
with tempfile.TemporaryDirectory() as scratch:
    data = Path(scratch) / "flowers"
    for split, count in (("train", 40), ("test", 4)):
        for folder in (flowers / split).iterdir():
            (data / split / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                shutil.copyfile(image, data / split / folder.name / image.name)
    for workers in (2, 0):
        recipe = Path(scratch) / f"recipe{workers}.yaml"
        recipe.write_text(RECIPE.format(workers=workers))
        whole = Path(scratch) / f"whole{workers}"
        begin = time.perf_counter()
        subprocess.run(command(data, "--recipe", recipe, "--out", whole), check=True)
        duration = time.perf_counter() - begin
        generator = random.Random(workers)
        kills, attempt, equal, moments = 0, 0, 0, []
        while kills < KILLS:
            attempt += 1
            broken = Path(scratch) / f"broken{workers}-{attempt}"
            arguments: tuple[object, ...] = (data, "--recipe", recipe, "--out", broken)
            while True:
                process = subprocess.Popen(
                    command(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True
                )
                moment = generator.uniform(5, duration) if kills < KILLS else 1e9
                try:
                    process.wait(timeout=min(moment, 600))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)  # no chance to save anything
                    process.wait()
                    kills += 1
                    moments.append(round(moment, 1))
                    arguments = (
                        ("--resume", broken)
                        if (broken / "recipe.yaml").exists()
                        else (data, "--recipe", recipe, "--out", Path(scratch) / f"broken{workers}-{attempt}-{kills}")
                    )
                    broken = Path(str(arguments[-1]))
                    continue
                if process.returncode:
                    sys.exit(f"resume failed: {process.stderr.read()}")
                break
            same = outcome(broken) == outcome(whole)
            equal += same
            print(
                f"workers {workers}: run {attempt} after {kills} kills in all: {'equal' if same else 'DIFFERENT'}",
                flush=True,
            )
        rows.append(
            {
                "workers": workers,
                "kills": kills,
                "runs": attempt,
                "equal_bit_for_bit": equal,
                "unbroken_seconds": duration,
            }
        )
store("kill_resume", rows)
