"""The one door for names."""

from __future__ import annotations

import io
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlens.names import (
    as_json,
    as_yaml,
    escape_what_is_lacking,
    for_csv,
    for_file,
    for_picture,
    for_terminal,
    from_csv,
)
from handlens.reading.parsed import parse_yaml

# What names of files can be: bytes, as Python hands them on.
NAMES = st.binary(min_size=1, max_size=60).map(os.fsdecode) | st.text(min_size=1, max_size=60)


@given(NAMES)
def test_no_control_sequence_reaches_a_terminal(name: str) -> None:
    shown = for_terminal(name)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\nlines"),
        (os.fsdecode(b"br\xf6t"), "br\\xf6t"),
        ("a\u202egpj", "a\\u202egpj"),
        ("🥐👨‍👩‍👧 빵 <b>", "🥐👨‍👩‍👧 빵 <b>"),
    ],
)
def test_names_as_they_are_shown(name: str, shown: str) -> None:
    assert for_terminal(name) == shown


@given(NAMES)
def test_json_round_trip(name: str) -> None:
    text = as_json({name: [name]})
    assert json.loads(text) == {name: [name]}
    assert for_terminal(text) == text
    text.encode("utf-8")


@given(st.text(min_size=1, max_size=40))
def test_yaml_round_trip(name: str) -> None:
    assert parse_yaml(as_yaml({name: [name]}), "x") == {name: [name]}


STRANGE = ["\x85", "a\u2028b", "\u2029", "no", "1_0", "1e3", "2026-11-30", "- a: b", "'", "#", " x "]


@pytest.mark.parametrize("name", STRANGE)
def test_yaml_round_trip_of_what_yaml_could_take_for_something_else(name: str) -> None:
    assert parse_yaml(as_yaml({name: [name]}), "x") == {name: [name]}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp949"])
def test_json_stays_json_in_an_output_that_lacks_its_characters(encoding: str) -> None:
    names = ["é", "빵", "🥐", "\udcff"]
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=escape_what_is_lacking())
    stream.write(as_json(names))
    stream.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == names


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1+1.png", "'+1+1.png"),
        ("-1", "-1"),
        ("-1.5e-3", "-1.5e-3"),
        ("--help", "'--help"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("a=1", "a=1"),
        (os.fsdecode(b"\xff"), "\\xff"),
    ],
)
def test_no_formula_starts_in_a_table(cell: str, written: str) -> None:
    assert for_csv(cell) == written


@given(NAMES, st.sampled_from([".png", "-12.png"]))
def test_names_of_copies_fit_any_file_system(stem: str, ending: str) -> None:
    for long in (stem, stem * 30):
        name = for_file(long, ending=ending)
        assert name.endswith(ending)
        if "\ud800" <= max(long) <= "\udfff" and not all(
            "\udc80" <= c <= "\udcff" for c in long if "\ud800" <= c <= "\udfff"
        ):
            continue  # no file can be called so
        assert len(os.fsencode(name)) <= 255


@given(st.text(min_size=1, max_size=30) | st.sampled_from(["'=1", "''-a", "=x", "-5", "'"]))
def test_a_cell_is_read_as_it_was_meant(name: str) -> None:
    assert from_csv(for_csv(name)) == re.sub("[\ud800-\udfff]", lambda found: for_terminal(found[0]), name)


def test_long_captions_end() -> None:
    assert for_picture("x" * 1000) == "x" * 199 + "…"
