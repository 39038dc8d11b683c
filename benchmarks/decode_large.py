"""A 12-megapixel JPEG to 224 x 224, against Pillow: python benchmarks/decode_large.py. At least 8 times.

The picture is a real photograph enlarged to 4000 x 3000 with sensor-like noise, so that it has a camera's file size.
"""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
from common import interleaved, pictures, store
from PIL import Image

from handlens.deploy.stream import load_pixels
from handlens.preprocess import Preprocess

source = max((pictures("coco_val128") / "images").iterdir(), key=lambda path: path.stat().st_size)
large = np.asarray(Image.open(source).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.int16)
large = (large + np.random.default_rng(0).normal(0, 4, large.shape)).clip(0, 255).astype(np.uint8)
content = io.BytesIO()
Image.fromarray(large).save(content, "JPEG", quality=90)
preprocess = Preprocess()


def timed(work) -> float:
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def draft(path: Path) -> Image.Image:
    image = Image.open(path)
    image.draft("RGB", (224, 224))
    return image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)


with tempfile.TemporaryDirectory() as scratch:
    path = Path(scratch) / "large.jpg"
    path.write_bytes(content.getvalue())
    times = interleaved(
        {
            "Pillow, open + convert + resize": lambda: timed(
                lambda: Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
            ),
            "Pillow with draft": lambda: timed(lambda: draft(path)),
            "handlens": lambda: timed(lambda: load_pixels(path, preprocess)),
        },
        rounds=9,
    )
store(
    "decode_large",
    [
        {"what": name, "milliseconds": ms, "times_faster": times["Pillow, open + convert + resize"] / ms}
        for name, ms in times.items()
    ],
    notes=[f"{len(content.getvalue()) / 1e6:.1f} MB."],
)
