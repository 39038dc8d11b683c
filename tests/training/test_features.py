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


def write(numbers):
    cache = FeatureCache("a")
    cache.put([(str(number), row(number)) for number in numbers])
    cache.close()


def check(numbers):
    """They are there, and nothing else is."""
    cache = FeatureCache("a")
    found, matrix = cache.find(map(str, range(3000))), cache.matrix()
    cache.close()
    assert sorted(map(int, found)) == sorted(numbers)
    for digest, (place, norm) in found.items():
        assert matrix[place].tolist() == row(int(digest)).tolist()
        assert norm == pytest.approx(np.linalg.norm(row(int(digest))), rel=1e-6)


def test_what_was_put_is_found_by_the_next():
    check([])
    write(range(1200))
    write([1199, 1200, 1200])  # the known stay, and none is there twice
    check(range(1201))
    other = FeatureCache("a", "fp32")
    assert other.find(["1"]) == {} and other.matrix().shape[0] == 0
    other.close()


def test_what_a_killed_process_had_not_finished_does_not_count():
    write(range(3))
    (matrix,) = (cache_folder() / "features").glob("*.f32")
    with matrix.open("ab") as file:
        file.write(b"half a row")
    check(range(3))
    write([3, 4])
    check(range(5))
    assert matrix.stat().st_size == 5 * 6 * 4


def test_many_writers_at_once():
    code = (
        "import sys, numpy as np\n"
        "from handlens.training.features import FeatureCache\n"
        "first = int(sys.argv[1])\n"
        "for n in range(first, first + 40):\n"
        "    cache = FeatureCache('a')\n"
        "    row = np.random.default_rng(n).standard_normal(6).astype(np.float32)\n"
        "    cache.put([(str(n), row)])\n"
        "    cache.close()\n"
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
    (table,) = (cache_folder() / "features").glob("*.rows")
    table.write_bytes(b"this is no table" * 100)
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
    cache.put([("x", np.array([1, np.nan], dtype=np.float32))])
    assert np.isnan(cache.find(["x"])["x"][1])
    cache.close()
