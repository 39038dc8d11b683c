"""Copies of an image, also those that were resized, compressed again, cropped a little, recolored or mirrored.

A perceptual hash nominates pairs; a comparison of the pixels decides. Two photographs of the same kind of thing
share their coarse shapes, and so their hash and their overall correlation; only copies share the detail.

Measured on `flowers` (4,058 photographs). True copies, made by us (JPEG quality 60, half the size, 2 % and 5 % cut
off): correlation of the whole above 0.92, of the detail above 0.78. Nominated pairs that are different photographs:
up to 0.93 and up to 0.52. The thresholds lie in the gap. Shots of one burst fall on the side of the copies.
Not found: images without detail (fog, plain colors) and images below 32 pixels, unless their bytes are equal; cuts
of more than about 5 %. In 28 x 28 pixels two different digits agree as well as a digit and its copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIDE = 32  # pixels that the hash looks at, per side
# Bits of 64. Of copies made as above 99 % lie within 11 (5 % cut off: over 90 %); of unrelated pairs 1 in 100,000.
HASH_DISTANCE = 11
# Gray levels (standard deviation) below which an image has no shapes to make a hash of.
LEAST_CONTRAST = 3.0
# An image that was compared so often and found different has a hash that many share; it is compared no more.
MOST_IN_VAIN = 64
PIECE = 1_000_000  # pairs that are looked at at once: some 50 MB

THUMBNAIL_SIDE = 64
WHOLE_CORRELATION = 0.85
DETAIL_CORRELATION = 0.70
MARGIN = 4  # pixels of the thumbnail that a cut of 5 % may take from a side; left out of the comparison
DETAIL_WINDOW = 7  # detail is what differs from the mean of this many pixels around

Thumbnail = NDArray[np.float32]
Hash = tuple[int, int]  # of the image and of its mirror image


def perceptual_hash(image: NDArray[np.uint8]) -> Hash | None:
    """64 bits that copies nearly share: the signs of the lowest 8 x 8 frequencies against their median.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        The hash of the image and that of its mirror image; None where it is too plain or too small to have one.

    Source: "pHash", Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1,
    on an image averaged down to 32 x 32 where Zauner smooths first. It kept copies closer together than the
    difference hash did, and unrelated images further apart (within 12 bits: 1 pair of 128,778 against 33).
    """
    if min(image.shape[:2]) < HASH_SIDE:
        return None
    gray = _gray(image, HASH_SIDE)
    if float(gray.std()) < LEAST_CONTRAST:
        return None
    frequencies = (_COSINES @ gray @ _COSINES.T)[:8, :8]
    mirrored = frequencies * np.where(np.arange(8) % 2, -1, 1)  # odd horizontal frequencies change their sign
    return _bits(frequencies), _bits(mirrored)


def thumbnail(image: NDArray[np.uint8]) -> Thumbnail:
    """(H, W, 3) uint8 -> (64, 64) float32 gray: what `same_image` compares."""
    return _gray(image, THUMBNAIL_SIDE)


def same_image(a: Thumbnail, b: Thumbnail) -> bool:
    """Whether two thumbnails show one photograph: aligned, they correlate as a whole and in their detail.

    Correlation ignores brightness and contrast, so that edited copies count.
    """
    a, b = _standard(a), _standard(b)
    return _agree(a, b) or _agree(a, _align(b, to=a))  # most copies need no alignment, and it is slow


def _agree(a: Thumbnail, b: Thumbnail) -> bool:
    inner = slice(MARGIN, -MARGIN)
    if _correlation(a[inner, inner], b[inner, inner]) < WHOLE_CORRELATION:
        return False
    return _correlation(_detail(a)[inner, inner], _detail(b)[inner, inner]) >= DETAIL_CORRELATION


def duplicate_groups(
    digests: Mapping[str, str], hashes: Mapping[str, Hash], *, load: Callable[[str], Thumbnail]
) -> list[tuple[str, ...]]:
    """Groups of ids that show the same photograph.

    Args:
        digests: id -> SHA-256 of the file's bytes.
        hashes: id -> perceptual hash, without the images that have none.
        load: the thumbnail of an id; called for nominated images only, never for all.

    Returns:
        Groups of two or more, each sorted, sorted by their first id.
    """
    union = Union(digests)
    copies: dict[str, list[str]] = {}
    for id in sorted(digests):
        copies.setdefault(digests[id], []).append(id)
    for ids in copies.values():
        for one, other in pairwise(ids):
            union.join(one, other)
    hashed = [ids[0] for ids in copies.values() if ids[0] in hashes]
    cached = lru_cache(maxsize=4096)(load)  # 16 KB each
    group = np.arange(len(hashed))  # a number per image; equal where they are known to be copies
    in_vain = np.zeros(len(hashed), dtype=np.int64)
    for rows, columns, mirrored in nominate([hashes[id] for id in hashed], group=group):
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if group[row] == group[column] or max(in_vain[row], in_vain[column]) >= MOST_IN_VAIN:
                continue
            left, right = cached(hashed[row]), cached(hashed[column])
            if same_image(left, right[:, ::-1] if mirrored else right):
                union.join(hashed[row], hashed[column])
                group[group == group[column]] = group[row]
            else:
                in_vain[[row, column]] += 1
    return union.groups()


def nominate(
    hashes: Sequence[Hash], *, group: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """Pairs i < j whose hashes lie within HASH_DISTANCE, without looking at all pairs.

    The 64 bits are cut into quarters; if at most 11 differ, at most two differ in one of the quarters. So only
    images that nearly agree in a quarter are compared.

    Args:
        group: (N,) pairs of equal numbers are left out. The caller changes it as copies are found: else thousands of
            frames of one scene would be nominated with each other.

    Yields:
        (i, j, mirrored): two index arrays of one length, and whether the second image is to be mirrored. Each
        pair comes once plain and once mirrored at most.
    """
    plain = np.array([hash[0] for hash in hashes], dtype=np.uint64)
    mirror = np.array([hash[1] for hash in hashes], dtype=np.uint64)
    for mirrored, other in ((False, plain), (True, mirror)):
        for rows, columns in _close_pairs(plain, other, group=group):
            yield rows, columns, mirrored


class Union:
    """Which ids belong together: union-find."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._parent = {id: id for id in ids}

    def find(self, id: str) -> str:
        """The id that stands for the group of this one."""
        while self._parent[id] != id:
            self._parent[id] = self._parent[self._parent[id]]
            id = self._parent[id]
        return id

    def join(self, one: str, other: str) -> None:
        self._parent[self.find(other)] = self.find(one)

    def groups(self, *, at_least: int = 2) -> list[tuple[str, ...]]:
        """Groups of so many ids or more, each sorted, sorted by their first id."""
        members: dict[str, list[str]] = {}
        for id in sorted(self._parent):
            members.setdefault(self.find(id), []).append(id)
        return sorted(tuple(group) for group in members.values() if len(group) >= at_least)


def _close_pairs(
    a: NDArray[np.uint64], b: NDArray[np.uint64], *, group: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(i, j), i < j, with a[i] and b[j] within HASH_DISTANCE; each once."""
    flips = [0, *(1 << i for i in range(16)), *(1 << i | 1 << j for i, j in combinations(range(16), 2))]
    quarters_a, quarters_b = (np.ascontiguousarray(h).view(np.uint16).reshape(-1, 4) for h in (a, b))
    for quarter in range(4):
        order = np.argsort(quarters_b[:, quarter], kind="stable")
        starts = np.searchsorted(quarters_b[order, quarter], np.arange(65537))
        for flip in flips:
            wanted = (quarters_a[:, quarter] ^ np.uint16(flip)).astype(np.int64)
            first, counts = starts[wanted], starts[wanted + 1] - starts[wanted]
            if counts.sum() > PIECE:  # frames of one scene: leave out where all candidates are known copies
                lowest = np.minimum.reduceat(np.append(group[order], -1), starts[:-1])
                highest = np.maximum.reduceat(np.append(group[order], -1), starts[:-1])
                counts[(lowest[wanted] == group) & (highest[wanted] == group)] = 0
            for rows in _pieces(counts):
                i = np.repeat(rows, counts[rows])
                within = np.arange(len(i)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
                j = order[first[i] + within]
                unsettled = (i < j) & (group[i] != group[j])
                i, j = i[unsettled], j[unsettled]
                differing = _ONES[quarters_a[i] ^ quarters_b[j]]  # (pairs, 4) bits per quarter
                new = (differing[:, :quarter] > 2).all(axis=1)  # an earlier quarter has not led here
                close = new & (differing.sum(axis=1) <= HASH_DISTANCE)
                if close.any():
                    yield i[close], j[close]


def _pieces(counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers with candidates, in pieces of about PIECE candidates, so that memory stays bounded."""
    rows = np.flatnonzero(counts)
    cuts = np.searchsorted(np.cumsum(counts[rows]), np.arange(PIECE, int(counts.sum()), PIECE))
    return [piece for piece in np.split(rows, cuts) if len(piece)]


def _bits(frequencies: NDArray[np.floating]) -> int:
    flat = frequencies.ravel()
    above = flat > np.median(flat[1:])
    above[0] = False  # the mean brightness says nothing about shapes
    return int.from_bytes(np.packbits(above).tobytes(), "big")


def _gray(image: NDArray[np.uint8], side: int) -> Thumbnail:
    small = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX), dtype=np.float32)
    return small @ _LUMA


def _standard(values: Thumbnail) -> Thumbnail:
    return np.asarray((values - values.mean()) / (values.std() + 1e-6), dtype=np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-12))


def _detail(values: Thumbnail) -> Thumbnail:
    """What differs from the mean of the surroundings."""
    n = DETAIL_WINDOW
    sums = np.pad(np.pad(values, n // 2, mode="edge"), ((1, 0), (1, 0))).astype(np.float64).cumsum(0).cumsum(1)
    means = (sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2
    return np.asarray(values - means, dtype=np.float32)


def _align(moving: Thumbnail, *, to: Thumbnail) -> Thumbnail:
    """Shift and stretch one thumbnail by up to 4 pixels so that it lies on the other: a copy may have lost its edges.

    Source: Lucas and Kanade 1981, "An Iterative Image Registration Technique", with four parameters.
    """
    inner = slice(MARGIN, -MARGIN)
    source = Image.fromarray(moving)
    shift_x = stretch_x = shift_y = stretch_y = 0.0  # pixels; stretch: at the edge
    best, best_correlation = moving, -1.0
    for _ in range(6):
        scale_x, scale_y = 1 + 2 * stretch_x / THUMBNAIL_SIDE, 1 + 2 * stretch_y / THUMBNAIL_SIDE
        warped = np.asarray(
            source.transform(
                source.size,
                Image.Transform.AFFINE,
                (scale_x, 0, shift_x - stretch_x, 0, scale_y, shift_y - stretch_y),
                Image.Resampling.BILINEAR,
            )
        )
        correlation = _correlation(to[inner, inner], warped[inner, inner])
        if correlation > best_correlation:
            best, best_correlation = warped, correlation
        slope_y, slope_x = np.gradient(warped)
        slopes = np.stack([slope_x, slope_x * _FROM_CENTER, slope_y, slope_y * _FROM_CENTER[:, None]], axis=-1)
        slopes = slopes[inner, inner].reshape(-1, 4)
        error = (to - warped)[inner, inner].ravel()
        damping = 1e-3 * len(error) * np.eye(4)
        step = np.linalg.solve(slopes.T @ slopes + damping, slopes.T @ error)
        shift_x, stretch_x, shift_y, stretch_y = np.clip(
            np.array([shift_x, stretch_x, shift_y, stretch_y]) + step, -MARGIN, MARGIN
        ).tolist()
    return best


_COSINES = np.cos(np.pi * (2 * np.arange(HASH_SIDE) + 1) * np.arange(HASH_SIDE)[:, None] / (2 * HASH_SIDE))
_FROM_CENTER = (np.arange(THUMBNAIL_SIDE) - (THUMBNAIL_SIDE - 1) / 2) / (THUMBNAIL_SIDE / 2)  # -1 to 1
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601-2
_ONES = np.array([bin(value).count("1") for value in range(65536)], dtype=np.uint8)
