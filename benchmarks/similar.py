"""`similar`: how fast, how far from the machine's limit, and how good: python benchmarks/similar.py [--skip-flowers]

At least: a query over 100,000 vectors of 1280 dimensions, from the cache's files to the ten nearest, in under 1 s.

Search. 100,000 synthetic vectors are written to a cache as `similar` does. A query finds their places, maps the matrix,
compares and sorts; "cold" after the operating system was asked to forget the files. The limit of the comparison is the
time in which memory (or the disk) gives 512 MB: measured by the dot product of an array of that size with itself, whole
or in parts, whichever is faster (by reading the file). Of all times the least counts: others use the machine too.
scikit-learn's brute force answers the same query on the matrix in memory.

Groups. 20,000 of the vectors, each with each, threshold 0.9, in blocks. The limit is the time in which a product of
two 4096 x 4096 matrices would do as many multiply-adds, of which half of the pairs need 256 billion.

Flowers. All 4,058 photographs with the pretrained MobileNetV2: the whole command for the first time, again, and with an
image it has not seen; the share of each photograph's first ten neighbors that show the same flower; and whether they
are scikit-learn's.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from common import handlens, shared_images, store
from sklearn.neighbors import NearestNeighbors

from handlens.data import walk
from handlens.flow.embeddings import embed, embedder_of
from handlens.flow.runs import find_run
from handlens.machine import cores
from handlens.neighbors import SIDE, Vectors, cosine_similarities, similar_groups
from handlens.reporter import QUIET
from handlens.training.features import FeatureCache

COUNT, COLUMNS, GROUPED, ROUNDS, TOP = 100_000, 1280, 20_000, 60, 10

QUERY = np.maximum(np.random.default_rng(1).standard_normal(COLUMNS), 0).astype(np.float32)

parser = argparse.ArgumentParser()
parser.add_argument("--skip-flowers", action="store_true")
asked = parser.parse_args()


def fastest(rivals: dict, *, rounds: int) -> dict[str, float]:
    """In turn, the least of each: others may use the machine at the same time."""
    seen = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, measure in rivals.items():
            seen[name].append(measure())
    return {name: min(values) for name, values in seen.items()}


def timed(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def write_synthetic() -> list[str]:
    """Digests of vectors such as features are: half of the numbers 0, none negative, around 200 centers."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((200, COLUMNS), dtype=np.float32)
    digests = [f"{number:064x}" for number in range(COUNT)]
    cache = FeatureCache("benchmark")
    for start in range(0, COUNT, 5000):
        near = centers[rng.integers(0, 200, 5000)] + rng.standard_normal((5000, COLUMNS), dtype=np.float32)
        cache.put(list(zip(digests[start : start + 5000], np.maximum(near, 0), strict=True)))
    return digests


def opened(digests: list[str]) -> Vectors:
    cache = FeatureCache("benchmark")
    rows, norms = cache.find(digests)
    order = rows.argsort()
    return Vectors(cache.matrix(), rows[order], norms[order])


def nearest(query: np.ndarray, vectors: Vectors) -> np.ndarray:
    return (-cosine_similarities(query, vectors)).argsort(kind="stable")[:TOP]


def forget(folder: Path) -> None:
    """Ask the operating system to drop its copies of the files in memory."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_whole(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        part = bytearray(1 << 22)
        while file.readinto(part):
            pass


def cold(folder: Path, work) -> float:
    forget(folder)
    return timed(work)


def in_parts(flat: np.ndarray) -> None:
    """Read by one thread per core, each its part."""
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda part: part @ part, np.array_split(flat, cores())))


def warm(digests: list[str]) -> dict[str, float]:
    vectors = opened(digests)
    in_memory = np.array(vectors.matrix)
    flat = in_memory.reshape(-1)
    theirs = NearestNeighbors(n_neighbors=TOP, metric="cosine", algorithm="brute").fit(in_memory)
    expected = theirs.kneighbors(QUERY[None], return_distance=False)[0]
    assert nearest(QUERY, vectors).tolist() == expected.tolist()
    return fastest(
        {
            "memory limit": lambda: min(timed(lambda: flat @ flat), timed(lambda: in_parts(flat))),
            "compared": lambda: timed(lambda: cosine_similarities(QUERY, vectors)),
            "files to ten nearest": lambda: timed(lambda: nearest(QUERY, opened(digests))),
        },
        rounds=ROUNDS,
    ) | fastest({"scikit-learn, in memory": lambda: timed(lambda: theirs.kneighbors(QUERY[None]))}, rounds=5)


def search_rows(folder: Path) -> list[dict]:
    digests = write_synthetic()
    seconds = warm(digests) | fastest(
        {
            "disk limit": lambda: cold(folder, lambda: read_whole(next(folder.glob("*.f32")))),
            "cold files to ten nearest": lambda: cold(folder, lambda: nearest(QUERY, opened(digests))),
        },
        rounds=5,
    )
    limits = {
        "compared": "memory limit",
        "files to ten nearest": "memory limit",
        "scikit-learn, in memory": "memory limit",
        "cold files to ten nearest": "disk limit",
    }
    return [
        {
            "what": f"{COUNT:,} vectors: {what}",
            "seconds": value,
            "times the limit": value / seconds[limits[what]] if what in limits else 1.0,
            "GB/s": 4 * COUNT * COLUMNS / value / 1e9,
        }
        for what, value in seconds.items()
    ]


def group_rows() -> list[dict]:
    vectors = opened([f"{number:064x}" for number in range(GROUPED)])
    square = np.ones((4096, 4096), dtype=np.float32)
    needed = GROUPED * (GROUPED + SIDE) / 2 * COLUMNS  # multiply-adds; blocks on the diagonal are computed whole
    seconds = fastest(
        {
            "limit": lambda: timed(lambda: square @ square) * needed / 4096**3,
            "groups": lambda: timed(lambda: similar_groups(vectors, threshold=0.9)),
        },
        rounds=3,
    )
    tracemalloc.start()
    similar_groups(vectors, threshold=0.9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return [
        {"what": f"{GROUPED:,} vectors, each with each: {what}", "seconds": value}
        | {"times the limit": value / seconds["limit"], "MB": peak / 1e6 if what == "groups" else None}
        for what, value in seconds.items()
    ]


def whole_command(*arguments: str | Path, cache: str) -> tuple[dict[str, float], str]:
    """Wall and processor time of `handlens similar`, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, said = handlens("similar", *arguments, XDG_CACHE_HOME=cache)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor seconds": used}, said


def flower_rows(cache: str) -> list[dict]:
    folder = shared_images("flowers")
    files = list(walk([folder]))
    handlens("weights", "get", "mobilenet_v2", XDG_CACHE_HOME=cache)
    handlens("predict", "mobilenet_v2", files[0], XDG_CACHE_HOME=cache)  # makes its run folder
    stranger = next(walk([shared_images("imagenet_val500")]))
    command = ("mobilenet_v2", files[0], folder, "--json")
    first, said = whole_command(*command, cache=cache)
    again, other = whole_command(*command, cache=cache)
    assert other == said
    new, _ = whole_command("mobilenet_v2", stranger, folder, cache=cache)

    os.environ["XDG_CACHE_HOME"] = cache
    embedder = embedder_of(find_run("mobilenet_v2"), precision="auto", report=QUIET)
    found = embed(embedder, files, report=QUIET)
    assert not found.unreadable and len(found.files) == len(files)
    features = found.vectors.matrix[found.vectors.rows[found.rows]]
    labels = np.array([path.parent.name for path in found.files])
    theirs = NearestNeighbors(n_neighbors=TOP + 1, metric="cosine", algorithm="brute").fit(features)
    distances, order = theirs.kneighbors(features)
    shares, other_order, largest = [], 0, 0.0
    for query in range(len(files)):
        alike = cosine_similarities(features[query], found.vectors)[found.rows]
        largest = max(largest, float(np.abs(1 - alike[order[query]] - distances[query]).max()))
        alike[query] = -2
        ours = (-alike).argsort(kind="stable")[:TOP]
        expected = [place for place in order[query] if place != query][:TOP]
        other_order += ours.tolist() != expected
        shares.append(float((labels[ours] == labels[query]).mean()))
    chance = sum((np.sum(labels == name) / len(labels)) ** 2 for name in set(labels))
    by_class = {name: statistics.mean(np.array(shares)[labels == name]) for name in sorted(set(labels))}
    return [
        {"what": f"{len(files):,} flowers, whole command: the first time"} | first,
        {"what": "again"} | again,
        {"what": "with an image that is new"} | new,
        {"what": "same flower among the first ten", "share": statistics.mean(shares)},
        {"what": "by chance", "share": float(chance)},
        *({"what": f"same flower: {name}", "share": share} for name, share in by_class.items()),
        {"what": "queries whose ten are in another order than scikit-learn's", "queries": other_order},
        {"what": "largest difference of a similarity from scikit-learn's", "difference": largest},
    ]


with tempfile.TemporaryDirectory() as scratch:
    os.environ["XDG_CACHE_HOME"] = scratch
    rows = [*search_rows(Path(scratch) / "handlens" / "features"), *group_rows()]
    if not asked.skip_flowers:
        rows += flower_rows(str(Path(scratch) / "flowers"))
keys = ("what", "seconds", "processor seconds", "times the limit", "GB/s", "MB", "share", "queries", "difference")
store("similar", [{key: row[key] for key in keys if row.get(key) is not None} for row in rows])
