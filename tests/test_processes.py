"""What is around a process: limits, disks, pipes, and another process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attack.make import flat
from blobs import write_images

HANDLENS = [sys.executable, "-m", "handlens"]
TRAIN = ["--mode", "scratch", "--width", "0.35", "--image-size", "32", "--epochs", "1", "--workers", "0", "-q"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where this may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def shell(command: str, *arguments: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of sh; $0 is `python -m handlens`, $1 and so on the arguments."""
    script = command.replace("handlens", f"{sys.executable} -m handlens")
    return subprocess.run(
        ["bash", "-c", script, "sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_few_file_descriptors_are_enough(exported_run: Path, tmp_path: Path) -> None:
    flat(tmp_path, count=100)
    done = shell('ulimit -n 64; handlens predict "$1" "$2" --json', exported_run, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 100


@pytest.mark.parametrize("end", ["head -n 1", "true"])
def test_a_reader_that_leaves_is_no_error(end: str, exported_run: Path, tmp_path: Path) -> None:
    flat(tmp_path, count=60)
    done = shell(f'set -o pipefail; handlens predict "$1" "$2" --json | {end}', exported_run, tmp_path)
    assert done.returncode in (0, 141), done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">/dev/full"])
def test_standard_streams_may_be_closed_or_full(closed: str, exported_run: Path, tmp_path: Path) -> None:
    flat(tmp_path)
    done = shell(f'handlens predict "$1" "$2" {closed}', exported_run, tmp_path)
    assert done.returncode in (0, 1, 2, 120), done.stderr  # 120: Python's own, of a full standard output
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    exported_run: Path, small_disk: Path, tmp_path: Path
) -> None:
    write_images(tmp_path / "data", per_class=10, seed=0)
    done = shell('handlens train "$1" --out "$2/run" ' + " ".join(TRAIN), tmp_path / "data", small_disk)
    assert done.returncode == 2, done.stderr
    assert "disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (small_disk / "run" / "model.json").exists()
    assert not list(small_disk.rglob("*.new"))
    shutil.rmtree(small_disk / "run")
    (small_disk / "filler").write_bytes(bytes((3 << 20) - 8192))
    images = tmp_path / "data" / "c"
    done = shell('handlens predict "$1" "$2" --annotate "$3/copies" -q', exported_run, images, small_disk)
    assert done.returncode == 2, done.stderr
    assert "disk is full" in done.stderr
    assert not list(small_disk.rglob("*.new"))


NOBODY = 65534


def as_nobody(*words: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command under a user id that owns nothing here."""
    if os.getuid() != 0:
        pytest.skip("another user can only be taken on by root")
    nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import handlens"], capture_output=True, check=True, **nobody)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("the packages lie where another user cannot read")
    return subprocess.run(
        [*HANDLENS, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        **nobody,
    )


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user may read, and the path to it; not pytest's own, which are its user's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
def test_another_user_reads_what_is_readable_and_is_told_what_is_not(exported_run: Path, open_to_all: Path) -> None:
    run, data = open_to_all / "run", open_to_all / "data"
    shutil.copytree(exported_run, run)
    data.mkdir()
    flat(data, count=3)
    done = as_nobody("predict", run, data, "--json", HOME="/nonexistent", XDG_CACHE_HOME="")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3

    (data / "good0.png").chmod(0o600)
    done = as_nobody("predict", run, data, "--json", HOME="/nonexistent", XDG_CACHE_HOME="")
    assert done.returncode == 1, done.stderr
    assert "ermission" in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3  # the others are answered, the one is named

    for closed, command in (
        (run / "model.json", ["predict", run, data]),
        (run / "model.safetensors", ["predict", run, data]),
        (data, ["check", data]),
    ):
        before = closed.stat().st_mode
        closed.chmod(0o700 if closed.is_dir() else 0o600)
        done = as_nobody(*command, HOME="/nonexistent", XDG_CACHE_HOME="")
        closed.chmod(before)
        assert done.returncode in (1, 2), (closed, done.stdout)
        assert re.search("ermission|not readable", done.stderr) and closed.name in done.stderr, done.stderr
        assert "Traceback" not in done.stderr

    done = as_nobody("evaluate", run, exported_run, HOME="/nonexistent", XDG_CACHE_HOME="")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert not list(run.rglob("*.new"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [("--workers", "2"), ()])
def test_shared_memory_of_no_size(workers: tuple[str, ...], tmp_path: Path) -> None:
    """Loader processes hand images over through /dev/shm; containers have 64 MB of it, some almost none."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    write_images(tmp_path / "data", per_class=10, seed=0)
    words = ["--mode", "scratch", "--width", "0.35", "--image-size", "224", "--epochs", "1", "-q", *workers]
    line = "mount -t tmpfs -o size=64k tmpfs /dev/shm && " + 'handlens train "$1" --out "$2" ' + " ".join(words)
    done = shell(f'unshare -m bash -c \'{line}\' sh "$1" "$2"', tmp_path / "data", tmp_path / "run")
    if workers:
        assert done.returncode == 2, done.stderr
        assert "/dev/shm" in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "run" / "model.json").exists()
    else:
        assert done.returncode == 0, done.stderr


CLOCK_THAT_JUMPS = """
import itertools, sys, time
times = itertools.cycle([2_000_000_000.0, 1_000_000_000.0, 0.0])
time.time = lambda: next(times)
time.time_ns = lambda: int(next(times) * 1e9)
from handlens.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_clock_that_jumps_back(tmp_path: Path) -> None:
    write_images(tmp_path / "data", per_class=10, seed=0)
    run = tmp_path / "run"
    for words in (
        ["check", tmp_path / "data"],
        ["train", tmp_path / "data", "--out", run, *TRAIN],
        ["evaluate", run],
        ["predict", run, tmp_path / "data", "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", CLOCK_THAT_JUMPS, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        assert done.returncode in (0, 1), (words[0], done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_share_a_cold_cache(weights: str, tmp_path: Path) -> None:
    flat(tmp_path, count=2)
    cache = tmp_path / "cache" / "handlens"
    shutil.copytree(Path(weights) / "handlens" / "weights", cache / "weights")
    command = [*HANDLENS, "predict", "mobilenet_v2", str(tmp_path / "good0.png"), "--json"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) for _ in range(2)
    ]
    answers = []
    for process in both:
        out, error = process.communicate(timeout=200)
        assert process.returncode == 0, error
        answers.append(out)
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_a_cache_with_a_flipped_byte_is_made_anew(weights: str, tmp_path: Path) -> None:
    flat(tmp_path, count=2)
    shutil.copytree(Path(weights) / "handlens" / "weights", tmp_path / "cache" / "handlens" / "weights")
    line = 'handlens predict mobilenet_v2 "$1" --json'
    first = shell(line, tmp_path / "good0.png", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert first.returncode == 0, first.stderr
    for file in ("model.safetensors", "engine/model.bin"):
        path = tmp_path / "cache" / "handlens" / "pretrained" / "mobilenet_v2" / file
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        again = shell(line, tmp_path / "good0.png", XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert (again.returncode, again.stdout) == (0, first.stdout)
        assert "Rebuilding the cached model" in again.stderr


CHANGING = r"(?:openat|open|creat|mkdir|mkdirat|rename\w*|unlink\w*|symlink\w*|link\w*|truncate)"
WRITES = re.compile(r"^\d+ +" + CHANGING + r'\(.*?"([^"]*)"(.*)')


@pytest.mark.slow
def test_nothing_is_written_elsewhere_and_nothing_is_sent(exported_run: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    places = {name: tmp_path / name for name in ("data", "out", "home", "cache", "tmp")}
    for place in places.values():
        place.mkdir()
    write_images(places["data"] / "train", per_class=10, seed=0)
    environment = os.environ | {
        "HOME": str(places["home"]),
        "XDG_CACHE_HOME": str(places["cache"]),
        "TMPDIR": str(places["tmp"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    allowed = (str(places["out"]), str(places["cache"]), str(places["tmp"]), "/dev/", "/proc/self", "/sys/", "socket:")
    for command in (
        ["check", "{data}"],
        ["train", "{data}", "--out", "{out}/run", *TRAIN],
        ["evaluate", "{out}/run"],
        ["predict", "{run}", "{data}", "--csv", "{out}/out.csv"],
    ):
        log = tmp_path / "log"
        words = [word.format(run=exported_run, **places) for word in command]
        traced = ["strace", "-f", "-y", "-s", "4096", "-e", "trace=%file,%network", "-o", str(log), *HANDLENS, *words]
        done = subprocess.run(traced, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode in (0, 1), done.stderr
        calls = log.read_text(errors="replace").splitlines()
        assert len(calls) > 1000  # else nothing was traced
        assert not [call for call in calls if "AF_INET" in call and "connect(" in call]
        written = {path for call in calls if " = -1 " not in call and (path := _written(call))}
        assert {path for path in written if not path.startswith(allowed)} == set(), command


def _written(call: str) -> str | None:
    """The path that a line of strace changes."""
    found = WRITES.search(call)
    if found is None or ("open" in call.split("(")[0] and not re.search("O_(WRONLY|RDWR|CREAT)", found[2])):
        return None
    return found[1]
