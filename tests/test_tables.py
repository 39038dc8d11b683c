"""Tables on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from handlens.tables import print_rows

ROWS = [
    {
        "name": "openvino int8",
        "runtime": "OpenVINO 2026.1.0",
        "median_ms": "15.10",
        "share": "94.1 %",
        "why": "it is small",
    },
    {"name": "PyTorch", "runtime": "PyTorch 2.14.1", "median_ms": "35,100.25", "share": None, "why": "[as] it comes"},
]


def printed(width: int) -> str:
    text = io.StringIO()
    print_rows(Console(width=width, file=text), ROWS)
    return text.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 70, 80, 200])
def test_no_word_and_no_number_is_cut(width: int):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for row in ROWS:
        for value in row.values():
            assert all(word in text for word in str(value or "").split())


def test_a_table_that_is_too_wide_becomes_paragraphs():
    assert printed(80).splitlines()[0].split()[:2] == ["name", "runtime"]
    assert "openvino int8: runtime OpenVINO 2026.1.0, median ms" in " ".join(printed(40).split())
