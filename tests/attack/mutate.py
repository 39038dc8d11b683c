"""Files with bytes changed at random: the same for the same number, on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from attack.make import encoded, photo

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def image_seeds(*heic: bytes) -> dict[str, bytes]:
    """A small file of each kind that decoders know."""
    image, tall = photo(3), photo(4, size=(33, 17))
    wide = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    frames = [photo(number, size=(20, 16)) for number in range(3)]
    more = {"save_all": True, "append_images": frames[1:]}
    return {
        "JPEG": encoded("JPEG", image),
        "progressive JPEG": encoded("JPEG", tall, progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        "CMYK JPEG": encoded("JPEG", image.convert("CMYK")),
        "PNG": encoded("PNG", image),
        "PNG of a palette": encoded("PNG", image.convert("P"), transparency=2),
        "PNG of 16 bits": encoded("PNG", wide),
        "animated PNG": encoded("PNG", frames[0], **more),
        "WebP": encoded("WEBP", image),
        "lossless WebP": encoded("WEBP", tall.convert("RGBA"), lossless=True),
        "animated WebP": encoded("WEBP", frames[0], **more),
        "GIF": encoded("GIF", image),
        "animated GIF": encoded("GIF", frames[0], **more),
        "BMP": encoded("BMP", image),
        "TIFF": encoded("TIFF", image),
        "TIFF with LZW": encoded("TIFF", tall, compression="tiff_lzw"),
        "TIFF of 16 bits": encoded("TIFF", wide),
        "TIFF with JPEG": encoded("TIFF", image, compression="jpeg"),
        **{f"HEIC {number}": content for number, content in enumerate(heic)},
    }


def mutated(content: bytes, number: int) -> bytes:
    """The number-th mutation of a file: one to eight changes."""
    rng = random.Random(number)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        # Headers stand at the beginning: half of the changes are made there.
        place = rng.randrange(min(len(data), 200) if rng.random() < 0.5 else len(data))
        kind = rng.randrange(7)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice((1, 2, 4))
            value = rng.choice(INTERESTING) & (256**width - 1)
            data[place : place + width] = value.to_bytes(width, rng.choice(("big", "little")))
        elif kind == 3:
            del data[place:]
        elif kind == 4:
            del data[place : place + rng.randrange(1, 20)]
        elif kind == 5:
            data[place:place] = rng.randbytes(rng.randrange(1, 20))
        else:
            end = min(len(data), place + rng.randrange(1, 60))
            data[end:end] = data[place:end]
    return bytes(data)


def mutations(seeds: Sequence[bytes], count: int, *, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """(number, content), the seeds in turn."""
    for number in range(first, first + count):
        yield number, mutated(seeds[number % len(seeds)], number)
