"""The audit: every file is read and every pixel decoded, of images and masks; nothing is ever written.

Of each image a line of facts and a 64-bit hash are kept, so that a million fit; images that the hashes
nominate as copies are decoded a second time to compare their pixels.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations

from handlens.data.budget import BUDGET
from handlens.data.decode import MAX_PIXELS, UnreadableImageError, decode, probe
from handlens.data.duplicates import Hash, Thumbnail, duplicate_groups, perceptual_hash, thumbnail
from handlens.data.findings import Audit, Sizes
from handlens.data.judgement import SMALLEST_SIDE, findings_of
from handlens.data.labels.kind import Facts, Kind
from handlens.data.record import Dataset, Record
from handlens.errors import unexpected
from handlens.machine import cores
from handlens.reading.files import UnreadableFileError, read_bytes

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
    facts: Facts | None = None  # of its label


def audit(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Audit:
    """Read and decode every image of a data set, and look at its label.

    Args:
        workers: threads; None is one per processor this process may use.
        progress: called with (images done, images in all) after each, from the caller's thread.
        max_pixels: above this an image is unreadable, as everywhere else.
    """
    records = dataset.records
    seen: dict[str, Seen] = {}
    looked = _in_threads(dataset, max_pixels=max_pixels, workers=workers or cores())
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
    record_of = {record.id: record for record in readable}
    labels = {record.id: found for record in readable if (found := seen[record.id].facts) is not None}
    parts: dict[str, list[Record]] = {split: [r for r in readable if r.split == split] for split in dataset.splits()}
    counts, amounts = {}, {}
    for part, images in (parts or {"all": readable}).items():
        there = [labels[record.id] for record in images if record.id in labels]
        counts[part] = _by_name(dataset, sum((Counter(found.counts) for found in there), Counter()))
        amounts[part] = _by_name(dataset, sum((Counter(found.amounts) for found in there), Counter()))

    def conflicting(group: Sequence[str]) -> bool:
        copies = [(record_of[id], labels.get(id)) for id in group]
        return any(not _alike(dataset.kind, one, other) for one, other in combinations(copies, 2))

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
        class_counts=counts,
        imbalance=_imbalance(amounts.get("train") or amounts.get("all") or {}),
        facts=labels,
        exact_duplicates=_equal_bytes(readable_digests),
        duplicates=duplicates,
        across_splits=tuple(group for group in duplicates if len({record_of[id].split for id in group}) > 1),
        conflicting=tuple(filter(conflicting, duplicates)),
        digests=digests,
        findings=(),
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
    with BUDGET.hold():
        try:
            return _facts(record, dataset, max_pixels=max_pixels)
        except Exception as error:  # of a decoder or a label, about this file alone: the others go on
            return Seen(reason=unexpected(error, record.path.name))


def _facts(record: Record, dataset: Dataset, *, max_pixels: int) -> Seen:
    try:
        content = read_bytes(record.path, "image")
    except UnreadableFileError as error:
        return Seen(reason=f"{record.path.name} {error.reason}.")
    digest = hashlib.sha256(content).hexdigest()
    try:
        info = probe(content, record.path.name)
        image = decode(content, max_pixels=max_pixels, name=record.path.name)
    except UnreadableImageError as error:
        return Seen(digest=digest, reason=str(error))
    height, width = image.shape[:2]
    facts = None
    if record.labeled:
        facts = dataset.kind.look(record, classes=len(dataset.class_names), size=(height, width))
    return Seen(
        digest=digest,
        format=info.format,
        size=(width, height),
        rotated=info.orientation != 1,
        animated=info.frames > 1 and info.format != "jpeg",  # phones append previews to a JPEG
        hash=perceptual_hash(image),
        facts=facts,
    )


def _alike(kind: Kind, one: tuple[Record, Facts | None], other: tuple[Record, Facts | None]) -> bool:
    """Whether two copies of one image are labeled alike; an image without a label is not like one that has one."""
    if one[1] is None or other[1] is None:
        return one[1] is other[1]
    return kind.alike((one[0], one[1]), (other[0], other[1]))


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
