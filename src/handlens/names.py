"""The one door for names: file and class names may hold anything, and each place they go to has its own dangers.

Within the program a name is what it is; it is made safe where it leaves: for terminals, tables, JSON, files, pictures.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
from typing import Any

# What a terminal acts on or hides: control characters (C0, DEL, C1), marks and overrides of writing direction, line
# separators, and halves of characters, which bytes of a name that are no UTF-8 become in Python.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# In JSON the rest is escaped by its own rules already.
UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # beside the two that every format has
FORMULA = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LONGEST_FILE_NAME = 255  # bytes, on all usual file systems
ROOM = 40  # bytes of it that are left for a number, and for what a file is called until it is whole
LONGEST_CAPTION = 200  # characters
ERRORS = "handlens"  # of codecs: what an output's encoding lacks is escaped as in JSON


def for_terminal(text: str) -> str:
    """Without a character that a terminal acts on: they are shown as escapes, "\\x1b". Also for pictures and pages."""
    return UNSAFE.sub(_shown, text)


def for_picture(text: str) -> str:
    """As `for_terminal`, and not longer than a caption."""
    safe = for_terminal(text)
    return safe if len(safe) <= LONGEST_CAPTION else safe[: LONGEST_CAPTION - 1] + "…"


def for_csv(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: ' goes before a leading = + - @, tab or carriage return of what
    is no number; `from_csv` takes it away. Bytes that are no UTF-8 become escapes."""
    safe = re.sub("[\ud800-\udfff]", _shown, text)
    return f"'{safe}" if FORMULA.match(safe) and not NUMBER.fullmatch(safe) else safe


def from_csv(cell: str) -> str:
    """What `for_csv` made a cell from, but for bytes that are no UTF-8."""
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell[1:]) else cell


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON in which every name comes back exactly; without characters that a terminal acts on. A number that is nan or
    infinite, which JSON does not have, becomes null."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, indent=indent, allow_nan=False)
    return UNSAFE_IN_JSON.sub(_json_escape, text)


def as_yaml(value: Any) -> str:
    """YAML in which every name comes back exactly, in the order of the value."""
    import yaml

    class Exact(yaml.SafeDumper):
        """Of what YAML takes for the end of a line, PyYAML writes some as they are: they are escaped here."""

    def text(dumper: yaml.SafeDumper, name: str) -> yaml.ScalarNode:
        style = '"' if LINE_ENDS.search(name) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", name, style=style)

    Exact.add_representer(str, text)
    return yaml.dump(value, Dumper=Exact, allow_unicode=True, sort_keys=False)


def for_file(stem: str, *, ending: str = "") -> str:
    """The name of a copy: short enough for every file system, and `ending` (".png", "-2.png") is kept."""
    most = LONGEST_FILE_NAME - ROOM - len(os.fsencode(ending))
    raw = os.fsencode(stem)
    if len(raw) > most:
        stem = os.fsdecode(raw[:most].decode("utf-8", "ignore").encode()) if _is_utf8(raw) else os.fsdecode(raw[:most])
    return stem + ending


def escape_what_is_lacking() -> str:
    """Register and name the handler of encoding errors for standard output and error."""
    codecs.register_error(ERRORS, _escaped)
    return ERRORS


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python hands it on
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
