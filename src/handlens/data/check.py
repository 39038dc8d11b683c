"""The audit: every file is read and every pixel decoded, of images and masks; nothing is ever written.

Of each image a line of facts and a 64-bit hash are kept, so that a million fit; images that the hashes
nominate as copies are decoded a second time to compare their pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from handlens.data.annotations import MaskSeen, box_faults, look_at_mask
from handlens.data.decode import MAX_PIXELS, UnreadableImageError, decode, probe
from handlens.data.duplicates import Hash, Thumbnail, duplicate_groups, perceptual_hash, thumbnail
from handlens.data.findings import Audit, Sizes
from handlens.data.judgement import SMALLEST_SIDE, findings_of, training_counts
from handlens.data.record import Dataset, Record

EXTENSIONS: dict[str, frozenset[str]] = {
    "jpeg": frozenset({".jpg", ".jpeg", ".jpe", ".jfif"}),
    "tiff": frozenset({".tif", ".tiff"}),
    "heic": frozenset({".heic", ".heif"}),
    "heif": frozenset({".heic", ".heif"}),
}  # of every other format: its own name


@dataclass(frozen=True)
class Seen:
    """The facts of one file."""

    digest: str | None = None
    reason: str | None = None  # why it cannot be read
    format: str | None = None
    size: tuple[int, int] | None = None  # width, height, upright
    rotated: bool = False
    animated: bool = False
    hash: Hash | None = None
    mask: MaskSeen | None = None


def audit(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Audit:
    """Read and decode every image of a data set, and its mask; compare its boxes with its size.

    Args:
        workers: threads; None is one per processor this process may use.
        progress: called with (images done, images in all) after each, from the caller's thread.
        max_pixels: above this an image is unreadable, as everywhere else.
    """
    records = dataset.records
    seen: dict[str, Seen] = {}
    looked = _in_threads(dataset, max_pixels=max_pixels, workers=workers or _processors())
    with closing(looked):  # also where progress raises: its threads end here, not when the collector comes by
        for record, facts in looked:
            seen[record.id] = facts
            if progress is not None:
                progress(len(seen), len(records))

    readable = [record for record in records if seen[record.id].reason is None]
    paths = {record.id: record.path for record in readable}
    digests = {id: facts.digest for id, facts in seen.items() if facts.digest is not None}
    readable_digests = {record.id: digests[record.id] for record in readable}

    def load(id: str) -> Thumbnail:
        return thumbnail(decode(paths[id], max_pixels=max_pixels))

    hashes = {id: facts.hash for id, facts in seen.items() if facts.hash is not None}
    duplicates = tuple(duplicate_groups(readable_digests, hashes, load=load))
    split_of = {record.id: record.split for record in readable}
    target_of = {record.id: (record.target, record.tags) for record in readable}
    parts: dict[str, list[Record]] = {split: [r for r in readable if r.split == split] for split in dataset.splits()}
    masks = {record.id: mask for record in readable if (mask := seen[record.id].mask) is not None}
    class_counts, class_pixels, ignored = {}, {}, {}
    for part, images in (parts or {"all": readable}).items():
        in_part = [masks[record.id] for record in images if record.id in masks]
        class_counts[part] = dataset.class_counts(images)
        if dataset.task == "segment":
            class_counts[part] = _by_name(dataset, Counter(index for mask in in_part for index in mask.pixels))
            class_pixels[part] = _by_name(dataset, sum((Counter(mask.pixels) for mask in in_part), Counter()))
            ignored[part] = sum(mask.ignored for mask in in_part)

    result = Audit(
        dataset=dataset,
        unreadable=tuple((r.id, reason) for r in records if (reason := seen[r.id].reason) is not None),
        wrong_extension=tuple(
            (r.id, format) for r in readable if (format := seen[r.id].format) and not _fits(r.path.suffix, format)
        ),
        rotated=tuple(r.id for r in readable if seen[r.id].rotated),
        animated=tuple(r.id for r in readable if seen[r.id].animated),
        small=tuple(r.id for r in readable if min(seen[r.id].size or (0, 0)) < SMALLEST_SIDE),
        sizes=_sizes([size for r in readable if (size := seen[r.id].size) is not None]),
        class_counts=class_counts,
        imbalance=_imbalance(training_counts(class_pixels or class_counts)),
        exact_duplicates=_equal_bytes(readable_digests),
        duplicates=duplicates,
        across_splits=tuple(group for group in duplicates if len({split_of[id] for id in group}) > 1),
        conflicting=tuple(group for group in duplicates if len({target_of[id] for id in group}) > 1),
        digests=digests,
        findings=(),
        class_pixels=class_pixels,
        ignored_pixels=ignored,
        bad_masks=tuple((id, mask.fault, mask.reason) for id, mask in masks.items() if mask.fault is not None),
        all_ignored=tuple(id for id, mask in masks.items() if mask.fault is None and not mask.pixels),
        box_faults=tuple(fault for r in readable if (size := seen[r.id].size) for fault in box_faults(r, size=size)),
        wrong_sizes=tuple(
            (r.id, r.stated_size, size)
            for r in readable
            if r.stated_size and (size := seen[r.id].size) and r.stated_size != size
        ),
        mask_digests={id: mask.digest for id, mask in masks.items() if mask.digest is not None},
    )
    return replace(result, findings=tuple(findings_of(result)))


def _in_threads(dataset: Dataset, *, max_pixels: int, workers: int) -> Generator[tuple[Record, Seen], None, None]:
    """In order, with a few files read ahead: a queue of a million would hold them all."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[Record, Future[Seen]]] = deque()
        try:
            for record in dataset.records:
                ahead.append((record, pool.submit(_look, record, dataset, max_pixels=max_pixels)))
                if len(ahead) > 4 * workers:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:  # Ctrl-C does not wait for what was read ahead
            for _, future in ahead:
                future.cancel()


def _look(record: Record, dataset: Dataset, *, max_pixels: int) -> Seen:
    try:
        content = record.path.read_bytes()
    except OSError as error:
        return Seen(reason=f"{record.path.name} cannot be read: {error.strerror or error}.")
    digest = hashlib.sha256(content).hexdigest()
    try:
        info = probe(content, record.path.name)
        image = decode(content, max_pixels=max_pixels, name=record.path.name)
    except UnreadableImageError as error:
        return Seen(digest=digest, reason=str(error))
    height, width = image.shape[:2]
    mask = None
    if record.mask is not None and dataset.coding is not None:
        mask = look_at_mask(record.mask, dataset.coding, classes=len(dataset.class_names), size=(height, width))
    return Seen(
        digest=digest,
        format=info.format,
        size=(width, height),
        rotated=info.orientation != 1,
        animated=info.frames > 1 and info.format != "jpeg",  # phones append previews to a JPEG
        hash=perceptual_hash(image),
        mask=mask,
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # fewer than the machine has, in a container
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fits(extension: str, format: str) -> bool:
    return extension.lower() in EXTENSIONS.get(format, {f".{format}"})


def _by_name(dataset: Dataset, counts: Mapping[int, int]) -> dict[str, int]:
    return {name: counts.get(index, 0) for index, name in enumerate(dataset.class_names)}


def _sizes(sizes: Sequence[tuple[int, int]]) -> Sizes | None:
    if not sizes:
        return None
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    (common, count), *_ = Counter(by_area).most_common(1)
    return Sizes(
        smallest=by_area[0],
        median=by_area[len(by_area) // 2],
        largest=by_area[-1],
        most_common=common,
        most_common_count=count,
    )


def _imbalance(counts: Mapping[str, int]) -> float | None:
    return max(counts.values()) / min(counts.values()) if counts and min(counts.values()) else None


def _equal_bytes(digests: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = {}
    for id in sorted(digests):
        groups.setdefault(digests[id], []).append(id)
    return tuple(sorted(tuple(group) for group in groups.values() if len(group) > 1))
