"""Objects in images and boxes around them, as a detector predicts them."""

from __future__ import annotations

import numpy as np

from handlens.data.labels.boxes import Box
from handlens.results import Boxes

NAMES = ("cat", "dog", "never there", "never found")
SIDE = 600


def answer(*rows: tuple[float, ...], names: tuple[str, ...] = NAMES) -> Boxes:
    """(left, top, right, bottom, label, score) each."""
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return Boxes.clipped(table[:, :4], table[:, 4].astype(int), table[:, 5], names, height=SIDE, width=SIDE)


def cat(left: float, top: float, right: float, bottom: float, **more: object) -> Box:
    return Box(label=0, left=left, top=top, right=right, bottom=bottom, **more)


def random_scenes(seed: int, *, images: int = 30, special: bool = True) -> tuple[list[Boxes], list[tuple[Box, ...]]]:
    """Objects of all sizes, and boxes around most of them, shifted, sometimes with the wrong class, and inventions."""
    generator = np.random.default_rng(seed)
    predictions, truths = [], []
    for image in range(images):
        truth, rows = [], []
        for _ in range(generator.integers(0, 12) if image else 0):
            width, height = np.exp(generator.uniform(2, 5.5, 2))
            left, top = generator.uniform(0, SIDE - width), generator.uniform(0, SIDE - height)
            label = int(generator.choice([0, 1, 3]))
            kind = generator.random() if special else 1.0
            area = float(width * height * generator.uniform(0.4, 1)) if generator.random() < 0.5 else None
            truth.append(
                Box(
                    label=label,
                    left=left,
                    top=top,
                    right=left + width,
                    bottom=top + height,
                    area=area,
                    crowd=bool(kind < 0.1),
                    difficult=bool(0.1 <= kind < 0.2),
                )
            )
            for _ in range(generator.integers(0, 4)):
                shift = generator.normal(0, 0.08, 4) * [width, height, width, height]
                guess = label if generator.random() < 0.8 else 1
                if guess != 3:
                    rows.append(
                        (*(np.array([left, top, left + width, top + height]) + shift), guess, generator.random())
                    )
        for _ in range(generator.integers(0, 4)):
            left, top = generator.uniform(0, 500, 2)
            rows.append((left, top, left + 60, top + 60, generator.integers(0, 2), generator.random() * 0.6))
        predictions.append(answer(*rows))
        truths.append(tuple(truth))
    return predictions, truths
