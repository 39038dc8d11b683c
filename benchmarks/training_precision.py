"""Training in bf16 against float32, on a processor with native bf16: python benchmarks/training_precision.py [SEEDS]

From random weights (MobileNetV2 0.5 at 64 pixels, 600 drawn breads of ten kinds, 12 epochs) and from published ones
(MobileNetV2 on 400 flowers at 128 pixels, 3 epochs): right answers on the test split for each seed, and the cosine of
the two gradients of the first batch, of all weights together. Both are evaluated in float32.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import shared_images, store

import handlens
from handlens.data.decode import decode
from handlens.models import build
from handlens.models.loading import load_into
from handlens.models.pretrained import load_weights
from handlens.preprocess import Preprocess
from handlens.training import fit

SEEDS = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
WAYS = {"fp32": "32-true", "bf16": "bf16-mixed"}
flowers = shared_images("flowers")


def some_flowers(folder: Path) -> Path:
    for part, most in (("train", 80), ("test", 60)):
        for kind in sorted((flowers / part).iterdir()):
            (folder / part / kind.name).mkdir(parents=True)
            for image in sorted(kind.iterdir())[:most]:
                (folder / part / kind.name / image.name).symlink_to(image)
    return folder


def gradients_cosine(data: Path, *, size: int, **options: Any) -> float:
    torch.manual_seed(0)
    net = build("mobilenet_v2", num_classes=10, dropout=0.0, **options)
    if not options:
        load_into(net, load_weights("mobilenet_v2"), new_head=True)
    net.train().to(memory_format=torch.channels_last)
    preprocess = Preprocess(height=size, width=size, short_side=size)
    files = [path for kind in sorted((data / "train").iterdir()) for path in sorted(kind.iterdir())[:6]][:32]
    pixels = preprocess.normalize(np.stack([preprocess.pixels(decode(path)) for path in files]))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.tensor([sorted((data / "train").iterdir()).index(path.parent) for path in files])
    found = []
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = F.cross_entropy(net(images).float(), labels)
        loss.backward()
        found.append(torch.cat([part.grad.flatten() for part in net.parameters()]))
    return float(F.cosine_similarity(found[0], found[1], dim=0))


if fit.autocast_precision("auto") == "32-true":
    sys.exit("skipped: this processor has no bf16")
rows: list[dict[str, Any]] = []
with tempfile.TemporaryDirectory() as scratch:
    breads = handlens.sample("bakery", Path(scratch) / "bakery", per_class=60)
    subset = some_flowers(Path(scratch) / "flowers")
    kinds: dict[str, tuple[Path, dict[str, Any]]] = {
        "scratch": (breads, {"mode": "scratch", "width": 0.5, "image_size": 64, "epochs": 12, "learning_rate": 2e-3}),
        "finetune": (subset, {"mode": "finetune", "image_size": 128, "epochs": 3}),
    }
    for mode, (data, recipe) in kinds.items():
        right: dict[str, list[int]] = {way: [] for way in WAYS}
        count = 0
        for seed in SEEDS:
            for way, precision in WAYS.items():
                fit.autocast_precision = lambda *_, precision=precision, **__: precision  # in place of what it chooses
                run = Path(scratch) / f"{mode}-{way}-{seed}"
                handlens.train(data, out=run, recipe=recipe | {"seed": seed, "workers": 0}, golden=False)
                metrics = handlens.evaluate(run, precision="fp32")["metrics"]
                right[way].append(metrics["correct"])
                count = metrics["count"]
                print(mode, seed, way, metrics["correct"], count, flush=True)
        options = {"width": 0.5} if mode == "scratch" else {}
        cosine = gradients_cosine(data, size=recipe["image_size"], **options)
        rows.append(
            {"mode": mode, "test images": count, "cosine of gradients": round(cosine, 3)}
            | {f"right, {way}": " ".join(map(str, values)) for way, values in right.items()}
            | {f"mean, {way}": round(float(np.mean(values)), 1) for way, values in right.items()}
        )
        print(rows[-1], flush=True)
store("training_precision", rows)
