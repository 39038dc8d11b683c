"""The cache of features: what a kill, a second writer or a damaged file does to it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from handlens.errors import InputError
from handlens.files import cache_folder
from handlens.training.features import FeatureCache


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def row(number, columns=6):
    return np.random.default_rng(number).standard_normal(columns).astype(np.float32)


def digest(number):
    """Some begin or end with zeros."""
    return f"{number:02x}".ljust(64, "0") if number % 2 else f"{number:064x}"


def write(numbers):
    FeatureCache("a").put([(digest(number), row(number)) for number in numbers])


def check(numbers):
    """They are there, and nothing else is."""
    cache = FeatureCache("a")
    rows, norms = cache.find([digest(number) for number in range(3000)])
    assert np.flatnonzero(rows >= 0).tolist() == sorted(numbers)
    for number in numbers:
        assert cache.matrix()[rows[number]].tolist() == row(number).tolist()
        assert norms[number] == pytest.approx(np.linalg.norm(row(number)), rel=1e-6)


def test_what_was_put_is_found_by_the_next():
    check([])
    write(range(1200))
    write([1199, 1200, 1200])  # the known stay, and none is there twice
    check(range(1201))
    other = FeatureCache("a", "fp32")
    assert other.find([digest(1)])[0].tolist() == [-1] and len(other.matrix()) == 0
    assert FeatureCache("a").find([])[0].shape == (0,)


def test_what_a_killed_process_had_not_finished_does_not_count():
    write(range(3))
    matrix, keys = (next((cache_folder() / "features").glob(f"*.{end}")) for end in ("f32", "keys"))
    for path in (matrix, keys):
        with path.open("ab") as file:
            file.write(b"half a row")
    check(range(3))
    write([3, 4])
    check(range(5))
    assert (matrix.stat().st_size, keys.stat().st_size) == (5 * 6 * 4, 5 * 40)


def test_many_writers_at_once():
    code = (
        "import sys, numpy as np\n"
        "from handlens.training.features import FeatureCache\n"
        "first = int(sys.argv[1])\n"
        "for n in range(first, first + 40):\n"
        "    digest = f'{n:02x}'.ljust(64, '0') if n % 2 else f'{n:064x}'\n"
        "    row = np.random.default_rng(n).standard_normal(6).astype(np.float32)\n"
        "    FeatureCache('a').put([(digest, row)])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(first)]) for first in (0, 20)]  # 20 of both
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [range(100 + 5 * n, 105 + 5 * n) for n in range(8)]))
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    check([*range(60), *range(100, 140)])


@pytest.mark.parametrize("lost", ["removed", "cut off"])
def test_a_matrix_that_lacks_rows_is_computed_again(lost):
    write(range(3))
    (matrix,) = (cache_folder() / "features").glob("*.f32")
    if lost == "removed":
        matrix.unlink()
    else:
        with matrix.open("ab") as file:
            file.truncate(30)
    check([])
    write([7])
    check([7])


def test_a_damaged_table_is_made_anew():
    write(range(3))
    (keys,) = (cache_folder() / "features").glob("*.keys")
    keys.write_bytes(b"this is no table" * 100)
    check([])
    write([7])
    check([7])


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the cache .*features cannot be written \(.*\); set XDG_CACHE_HOME"):
        FeatureCache("a")


def test_nan_is_kept_and_can_be_seen_by_its_norm():
    cache = FeatureCache("a")
    cache.put([(digest(1), np.array([1, np.nan], dtype=np.float32))])
    assert np.isnan(cache.find([digest(1)])[1])


def test_a_cache_that_is_emptied_meanwhile_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = FeatureCache("key")
    cache.put([("00" * 32, np.ones(3, dtype=np.float32))])
    assert list(cache.rows(["00" * 32])) == [0]
    with pytest.raises(InputError, match="was emptied while it was used"):
        cache.rows(["00" * 32, "11" * 32])
