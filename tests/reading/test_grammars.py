"""Documents made from the grammars of the text formats come back as what they say, in every encoding that is read."""

from __future__ import annotations

import csv
import io
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from handlens.names import for_csv
from handlens.reading.parsed import parse_yaml, read_xml
from handlens.reading.rows import read_rows

# What all of these formats can hold: no control characters, no halves of characters, no byte order mark.
SIGNS = st.characters(min_codepoint=32, max_codepoint=0x1FFFF, exclude_categories=("Cs", "Cc", "Cn", "Cf", "Zl", "Zp"))
TEXT = st.text(SIGNS, max_size=12)
CELL = TEXT.map(str.strip)
SCALARS = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, width=32) | TEXT
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


@pytest.fixture(scope="module")
def file() -> Path:
    return Path(tempfile.mkdtemp()) / "file"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@given(data=st.data(), encoding=st.sampled_from(ENCODINGS), quoted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_tables(delimiter: str, data: st.DataObject, encoding: str, quoted: bool, file: Path) -> None:
    columns = data.draw(st.integers(2, 4))
    rows = data.draw(st.lists(st.lists(CELL, min_size=columns, max_size=columns), min_size=1, max_size=5))
    header = [f"column{number}" for number in range(columns)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([header, *[[for_csv(cell) for cell in row] for row in rows]])
    file.write_bytes(text.getvalue().encode(encoding))
    found, answered = read_rows(file)
    assert found == header
    assert [cells for _, cells in answered] == [row for row in rows if any(row)]


@given(
    value=st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.integers(0, 99), inner, max_size=4),
        max_leaves=10,
    ),
    flow=st.booleans(),
    plain=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_yaml_of_any_value_comes_back(value: object, flow: bool, plain: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=plain, width=40)
    assert parse_yaml(text, "file") == value


NAMES = st.text(st.sampled_from("abcxyz"), min_size=1, max_size=5)


def _element(parts: tuple[str, str, dict[str, str], list[ET.Element]]) -> ET.Element:
    name, text, attributes, children = parts
    made = ET.Element(name, attributes)
    made.text = text
    made.extend(children)
    return made


@given(
    tree=st.recursive(
        st.tuples(NAMES, TEXT, st.dictionaries(NAMES, TEXT, max_size=2), st.just([])).map(_element),
        lambda inner: st.tuples(NAMES, TEXT, st.dictionaries(NAMES, TEXT, max_size=2), st.lists(inner, max_size=3)).map(
            _element
        ),
        max_leaves=8,
    ),
    encoding=st.sampled_from(["utf-8", "utf-16", "us-ascii", "cp949", "euc-kr"]),
)
@settings(max_examples=150, deadline=None)
def test_xml_of_any_tree_comes_back(tree: ET.Element, encoding: str, file: Path) -> None:
    file.write_bytes(ET.tostring(tree, encoding=encoding, xml_declaration=True))
    found = read_xml(file)
    assert [(one.tag, one.text or "", one.attrib) for one in found.iter()] == [
        (one.tag, one.text or "", one.attrib) for one in tree.iter()
    ]
