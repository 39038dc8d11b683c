"""Converters in environments and processes of their own: found, made, failing, killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from handlens.errors import InputError
from handlens.reporter import Reporter
from handlens.runtimes import conversions, converter
from handlens.runtimes.converter import run_converter

PACKAGE = "a_package_that_nobody_has"


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text, encoding="utf-8")
    return path


def run(path: Path, *outputs: Path, package: str = "json", said: list[str] | None = None, given: str = "") -> None:
    requirements = path.with_name("requirements.txt")
    requirements.touch()
    report = Reporter(say=(said if said is not None else []).append)
    arguments = (*outputs, *([given] if given else []))
    run_converter(
        "litert", path, *arguments, outputs=outputs, package=package, requirements=requirements, report=report
    )


@pytest.fixture(autouse=True)
def nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDLENS_LITERT_PYTHON", raising=False)
    monkeypatch.setenv("HANDLENS_CONVERTERS", str(tmp_path / "converters"))


def test_with_the_package_it_runs_here(tmp_path: Path):
    path = script(tmp_path, "import sys; open(sys.argv[1], 'w').write(sys.executable)")
    run(path, tmp_path / "who")
    assert (tmp_path / "who").read_text() == sys.executable


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys; sys.exit('no such operator: roll')", "litert failed: no such operator: roll"),
        ("raise ValueError('a\\nb')", "litert failed: b"),
        ("import sys; sys.exit(3)", "litert failed: no error message"),
        ("import os; os.kill(os.getpid(), 9)", "litert was killed by signal 9; usually it ran out of memory"),
    ],
)
def test_what_ends_badly_is_one_sentence(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(InputError, match=sentence) as caught:
        run(script(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(converter, "LONGEST", 5)
    path = script(tmp_path, "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)")
    with pytest.raises(InputError, match="converting was stopped"):
        run(path, tmp_path / "process")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


def test_an_environment_is_made_once_and_sees_our_packages(tmp_path: Path):
    path = script(tmp_path, "import sys, numpy; open(sys.argv[1], 'w').write(sys.prefix)")
    said: list[str] = []
    for given in ("one", "another"):
        run(path, tmp_path / given, package=PACKAGE, said=said, given=given)
    first, second = ((tmp_path / given).read_text() for given in ("one", "another"))
    assert first == second and Path(first).parent == tmp_path / "converters"
    assert len(said) == 1 and said[0].startswith("Installing the converter to litert into ")


def test_an_environment_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    path = script(tmp_path, "")
    path.with_name("requirements.txt").write_text("a-package-that-nobody-has==1\n")
    with pytest.raises(
        InputError, match=r"litert could not be installed: ERROR: .*; try again with a network, or set "
    ):
        run(path, package=PACKAGE)
    assert [entry for entry in (tmp_path / "converters").iterdir() if entry.is_dir()] == []


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "HANDLENS_OFFLINE",
            "1",
            "is not installed, and HANDLENS_OFFLINE=1 forbids downloading it; set HANDLENS_LITERT_PY",
        ),
        ("HANDLENS_LITERT_PYTHON", "/no/python", "HANDLENS_LITERT_PYTHON is /no/python, which is not a program."),
    ],
)
def test_where_there_is_none_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=sentence):
        run(script(tmp_path, ""), package=PACKAGE)


def test_what_was_made_of_the_same_content_is_not_made_again(tmp_path: Path):
    text = "import pathlib, sys, time; pathlib.Path(sys.argv[2]).write_text(sys.argv[3] + str(time.time_ns()))"
    path, source = script(tmp_path, text), tmp_path / "source"

    def made(content: str, options: str, name: str = "made") -> str:
        source.write_text(content)
        arguments = (source, tmp_path / name, options)
        run_converter("litert", path, *arguments, outputs=(tmp_path / name,), package="json")
        return (tmp_path / name).read_text()

    first = made("a", "8")
    assert made("a", "8", "elsewhere") == first
    assert made("b", "8") != first and made("a", "16").startswith("16")
    path.write_text(text + "  # another version")
    assert made("a", "8") != first


def test_the_oldest_results_are_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(conversions, "ROOM", 2500)
    monkeypatch.setattr(conversions, "LARGEST", 1500)
    out = tmp_path / "out"
    for place, key in enumerate(("a", "b", "c")):
        out.write_bytes(key.encode() * 1000)
        conversions.keep(key, [out])
        os.utime(tmp_path / "cache/handlens/conversions" / key, (place, place))
    out.write_bytes(b"d" * 1000)
    conversions.keep("d", [out])
    assert [conversions.taken(key, [out]) for key in "abcd"] == [False, False, True, True]
    assert out.read_bytes() == b"d" * 1000
    out.write_bytes(b"e" * 2000)
    conversions.keep("e", [out])
    assert not conversions.taken("e", [out])


def test_what_is_left_of_a_result_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept, out = tmp_path / "cache/handlens/conversions/a", tmp_path / "out"
    out.write_bytes(b"made")
    for damage in (lambda: (kept / "0").write_bytes(b""), (kept / "digests.json").unlink, (kept / "0").unlink):
        conversions.keep("a", [out])
        assert conversions.taken("a", [out]) and out.read_bytes() == b"made"
        damage()
        assert not conversions.taken("a", [tmp_path / "other"])
        assert not kept.exists()  # so that the next result is kept
    abandoned = kept.with_name(".newabc")
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    conversions.keep("a", [out])
    assert not abandoned.exists() and conversions.taken("a", [out])


def test_without_room_for_it_a_result_is_not_kept_and_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run(script(tmp_path, "import sys; open(sys.argv[1], 'w').write('made')"), tmp_path / "made")
    assert (tmp_path / "made").read_text() == "made"
