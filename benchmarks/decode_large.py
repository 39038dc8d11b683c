"""A 12-megapixel JPEG to 224 x 224, against Pillow: python benchmarks/decode_large.py.

`predict` and `evaluate` decode whole, for a decoder that reduces changes probabilities (MobileNetV2, 50 photographs: by
up to 0.028; where it keeps four times the input size, by 0.016). Training reduces: at least 8 times as fast as Pillow.

A real photograph upscaled to 4000 x 3000, saved as four files, from messenger quality without noise to camera quality
with strong noise. Entropy decoding has to read the whole file, whatever the output size: that is the limit, and it
grows with the file size, while the rest of Pillow's work does not.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import simplejpeg
from common import interleaved, shared_images, store
from PIL import Image

from handlens.data.decode import decode
from handlens.preprocess import Preprocess
from handlens.runtimes.stream import load_pixels

source = max((shared_images("coco_val128") / "images").iterdir(), key=lambda path: path.stat().st_size)
large = np.asarray(Image.open(source).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)).astype(np.int16)
FILES = ((75, 0), (90, 0), (90, 2), (90, 4))  # JPEG quality; standard deviation of the noise, levels of 255
preprocess = Preprocess()


def timed(work) -> float:
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def draft(path: Path) -> Image.Image:
    image = Image.open(path)
    image.draft("RGB", (224, 224))
    return image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)


rows = []
with tempfile.TemporaryDirectory() as scratch:
    for quality, noise in FILES:
        path = Path(scratch) / f"{quality}-{noise}.jpg"
        grain = np.random.default_rng(0).normal(0, noise, large.shape)
        Image.fromarray((large + grain).clip(0, 255).astype(np.uint8)).save(path, quality=quality)
        content = path.read_bytes()
        times = interleaved(
            {
                "Pillow, open + convert + resize": lambda path=path: timed(
                    lambda: Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
                ),
                "Pillow with draft": lambda path=path: timed(lambda: draft(path)),
                "handlens, whole": lambda path=path: timed(lambda: load_pixels(path, preprocess)),
                "handlens, reduced": lambda path=path: timed(
                    lambda: preprocess.pixels(decode(path, at_least=(preprocess.short_side, preprocess.short_side)))
                ),
                "limit: libjpeg-turbo reads the codes": lambda content=content: timed(
                    lambda: simplejpeg.decode_jpeg(content, min_height=375, min_width=500)
                ),
            },
            rounds=9,
        )
        plain = times["Pillow, open + convert + resize"]
        rows += [
            {"MB": len(content) / 1e6, "what": name, "milliseconds": ms, "times_faster": plain / ms}
            for name, ms in times.items()
        ]
store("decode_large", rows)
