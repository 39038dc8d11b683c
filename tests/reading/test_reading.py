"""The one door for files of others."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlens.errors import InputError
from handlens.reading.files import LIMITS, MissingFileError, UnreadableFileError, read_bytes, read_start, sha256_of
from handlens.reading.parsed import parse_json, parse_yaml, read_json, read_xml, read_yaml
from handlens.reading.rows import peek_rows, read_rows
from handlens.reading.text import read_text

ANYTHING = st.text(max_size=200) | st.text(alphabet="[]{}:&*!%?-,'\"#|>@` \n\t<</0123456789.e_xaé\ud800", max_size=80)


def written(folder: Path, content: bytes | str, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {"pipe": "a pipe", "link": "a pipe", ".": "a folder", "loop": "Too many levels"}.items():
        with pytest.raises(UnreadableFileError, match=reason):
            read_bytes(tmp_path / name, "image")
    for path in ("/dev/zero", "/dev/tty"):
        with pytest.raises(UnreadableFileError, match="a device, not a file"):
            read_bytes(Path(path), "image")
    with pytest.raises(MissingFileError, match=r"none is missing\.$"):
        read_bytes(tmp_path / "none", "image")
    with pytest.raises(UnreadableFileError, match="null"):
        read_bytes(tmp_path / "a\0b", "image")
    with pytest.raises(UnreadableFileError, match="name too long"):
        read_bytes(tmp_path / ("x" * 300), "image")


def test_a_limit_is_stated_and_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, b"")
    with path.open("wb") as file:
        file.truncate(LIMITS["image"] * 1_000_000 + 1)  # holes: it takes no room
    with pytest.raises(UnreadableFileError, match=r"512 MB, above the limit of 512 MB .*HANDLENS_LIMIT_IMAGE"):
        read_bytes(path, "image")
    assert read_start(path, 5) == bytes(5)
    monkeypatch.setenv("HANDLENS_LIMIT_LABEL", "0")
    with pytest.raises(UnreadableFileError, match="above the limit of 0 MB"):
        read_bytes(written(tmp_path, b"x", "other"), "label")
    monkeypatch.setenv("HANDLENS_LIMIT_LABEL", "many")
    with pytest.raises(InputError, match=r"^HANDLENS_LIMIT_LABEL must be a number of MB, got 'many'\.$"):
        read_bytes(path, "label")


def test_what_grows_while_it_is_read_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, b"12345")
    real = os.read

    def growing(descriptor: int, count: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"67890")
        return real(descriptor, min(count, 2))

    monkeypatch.setattr(os, "read", growing)
    assert read_bytes(path, "image") == b"12345"
    monkeypatch.undo()
    assert len(sha256_of(path)) == 64


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len([*descriptors.iterdir()])
    for _ in range(20):
        for path in (written(tmp_path, b"x"), tmp_path, tmp_path / "none", Path("/dev/zero")):
            with contextlib.suppress(UnreadableFileError):
                read_bytes(path, "image")
    assert len([*descriptors.iterdir()]) == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_and_without_a_mark(tmp_path: Path, encoding: str) -> None:
    assert read_text(written(tmp_path, "빵 é".encode(encoding)), "label") == "빵 é"


def test_another_encoding_is_named_and_can_be_stated(tmp_path: Path) -> None:
    path = written(tmp_path, "빵".encode("cp949"))
    with pytest.raises(UnreadableFileError, match=r"is not UTF-8 at byte 0; it may be cp949.*: save it as UTF-8"):
        read_text(path, "label")
    assert read_text(path, "label", encoding="euc-kr") == "빵"
    for unknown in ("klingon", "zlib", "utf-7", "a\0b"):
        with pytest.raises(InputError, match="is not known"):
            read_text(path, "label", encoding=unknown)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "thousands of digits"),
        ('{"a": "\\ud800"}', "half a character"),
        ("{", "is not valid JSON"),
    ],
)
def test_json_that_python_alone_would_fail_on(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read_json(written(tmp_path, text))


def test_whole_characters_pass_and_bytes_of_names() -> None:
    assert parse_json('"\\udcff"', Path("x")) == os.fsdecode(b"\xff")
    assert parse_json('"\\ud83e\\udd50"', Path("x")) == "🥐"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 1000, "100 levels|not YAML"),
        ("a: 2024-13-45", "month must be in"),
        ("a: 0o8_", None),
        ("a: 0x_", "not YAML"),
        ("&a [*a]", "stands for what it is in"),
        ("a: &a {b: *a}", "stands for what it is in"),
        ("a: 1\na: 2", "stands twice"),
        ("{[a]: 1}", "unhashable|not YAML"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("x: " + "9" * 5000, "not YAML"),
        ("x: !!int ''", "not YAML"),
        ("x: !!bool y y", "not YAML"),
    ],
)
def test_yaml_that_pyyaml_alone_would_fail_on(tmp_path: Path, text: str, reason: str | None) -> None:
    path = written(tmp_path, text)
    if reason is None:
        assert read_yaml(path) == {"a": "0o8_"}
        return
    with pytest.raises(UnreadableFileError, match=reason) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_aliases_are_counted_as_what_they_stand_for() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: *a}}", "x") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}
    growing = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    with pytest.raises(UnreadableFileError, match="more than a million values"):
        parse_yaml(growing, "x")


def test_xml_in_the_encoding_that_it_declares(tmp_path: Path) -> None:
    for encoding in ("euc-kr", "utf-8", "utf-16"):
        text = f"<?xml version='1.0' encoding='{encoding}'?><a>빵</a>"
        assert read_xml(written(tmp_path, text.encode(encoding))).text == "빵"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "declares entities"),
        ("<a>" * 200_000, "more than 100 levels"),
        ("<a>", "is not XML"),
        ("<?xml version='1.0' encoding='klingon'?><a/>", "'klingon' is not known"),
    ],
)
def test_xml_that_grows_reads_or_nests(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_xml(written(tmp_path, text))


def test_tables(tmp_path: Path) -> None:
    path = written(tmp_path, "a;b\n 1 ; x \n\n2;\n")
    assert read_rows(path) == (["a", "b"], [(2, ["1", "x"]), (4, ["2", ""])])
    long = written(tmp_path, "a,b\n" + "y" * 200_000 + ",\n", "long")
    with pytest.raises(UnreadableFileError, match=r"131,072 characters; is a quote never closed\? \(line 2\)"):
        read_rows(long)
    assert peek_rows(long) == (["a", "b"], [])  # of what it looks at
    assert peek_rows(tmp_path) == ([], [])
    assert peek_rows(written(tmp_path, bytes(range(256)), "bytes"))[0] != []


@given(ANYTHING)
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_or_refused_in_one_sentence(text: str) -> None:
    for parse in (parse_json, parse_yaml):
        try:
            parse(text, Path("file"))
        except UnreadableFileError as error:
            assert str(error).startswith("file ")
            assert "\n" not in str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_json_of_any_value_comes_back(value: object) -> None:
    assert parse_json(json.dumps(value), Path("file")) == value
