"""The classes that published weights tell apart, in index order.

ImageNet (ILSVRC 2012): the labels of the challenge, in the short form that torchvision publishes with its weights
(BSD-3-Clause). That form tells the challenge's two cranes and two maillots apart ("crane bird" and "crane", "maillot"
and "maillot tank suit"), so every name is unique; "Cardigan" is the dog and "cardigan" the garment.

COCO: Lin et al. 2014, arXiv:1405.0312, and the categories of instances_val2017.json, whose ids run to 90 with gaps.
"""

from __future__ import annotations

from pathlib import Path


def _lines(file: str) -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines())


IMAGENET_CLASSES = _lines("imagenet.txt")
COCO_CLASSES = _lines("coco.txt")

UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # of 1 to 90: planned, never labelled
COCO_IDS = tuple(number for number in range(1, 91) if number not in UNUSED_IDS)
