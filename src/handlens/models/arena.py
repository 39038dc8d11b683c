"""Where TFLite Micro puts the maps of a net in its arena, and how large that has to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNED = 16  # numbers of one byte, as TFLite Micro aligns buffers


class Buffer(NamedTuple):
    """A map, from the operator that makes it to the last that reads it; the image is made before operator 0."""

    numbers: int
    first: int
    last: int


def arena(buffers: Sequence[Buffer]) -> int:
    """How many numbers of one byte the arena needs between operators.

    Source: GreedyMemoryPlanner of TFLite Micro: the largest first, of equal ones the latest, each at the lowest place
    that is free as long as it lives. Persistent structures, some hundred bytes per operator and some per channel, are
    not in it.
    """
    placed: list[tuple[int, Buffer]] = []  # by place
    most = 0
    for buffer in sorted(buffers, key=lambda found: (-_aligned(found.numbers), -found.first)):
        place = 0
        for other_place, other in placed:
            if other.first > buffer.last or other.last < buffer.first:
                continue
            if other_place - place >= _aligned(buffer.numbers):
                break
            place = max(place, other_place + _aligned(other.numbers))
        placed.append((place, buffer))
        placed.sort(key=lambda found: found[0])
        most = max(most, place + _aligned(buffer.numbers))
    return most


def bookkeeping(*, weighted: int, channels: int, others: int) -> int:
    """Bytes that TFLite Micro keeps about a net in int8 beside its maps, with pointers of 64 bits.

    Args:
        weighted: convolutions and dense layers, with `channels` outputs in all. others: operators without weights.

    Source: fitted to what its recording allocator reports for MobileNetV2 0.35, whole and in 2 to 4 parts, to a few
    bytes (benchmarks/memory.py). A channel has a multiplier and a shift, an operator its registration, parameters and
    tensors.
    """
    return 764 + 8 * channels + 244 * weighted + 160 * others


def file_size(*, weights: int, weighted: int, channels: int, others: int) -> int:
    """Bytes of a .tflite file in int8.

    Args:
        weights: without biases; the others as of `bookkeeping`.

    Source: fitted to the same files, to 1 %. A channel has a bias, and a scale and a zero point for it and its weights.
    """
    return 5000 + weights + 28 * channels + 350 * (weighted + others)


def _aligned(numbers: int) -> int:
    return -(-numbers // ALIGNED) * ALIGNED
