"""Text of files that somebody else wrote: in an encoding that is stated, or marked by the first bytes, or UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path

from handlens.errors import InputError
from handlens.reading.files import Kind, UnreadableFileError, read_bytes, read_start

MARKS = (  # UTF-32 before UTF-16, whose mark it begins with
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# For the sentence alone: what a text that is not UTF-8 may be in. Never for reading: bytes of one are letters of
# another.
LIKELY = ("cp949", "shift_jis", "gb18030", "cp1252")


def read_text(path: Path, kind: Kind, *, encoding: str | None = None, hint: str = "save it as UTF-8") -> str:
    """
    Args:
        encoding: where somebody states it; a mark at the beginning goes before.
        hint: what to do about another encoding.

    Raises:
        UnreadableFileError: as `read_bytes`, or it is not in the encoding.
        InputError: there is no such encoding.
    """
    return decoded(read_bytes(path, kind), path, encoding=encoding, hint=hint)


def decoded(content: bytes, path: Path, *, encoding: str | None = None, hint: str = "save it as UTF-8") -> str:
    """As `read_text`, of bytes; `path` is for sentences."""
    marked = next((name for mark, name in MARKS if content.startswith(mark)), None)
    used = marked or (known_encoding(encoding, path) if encoding else "utf-8")
    try:
        return content.decode(used)
    except UnicodeError as error:
        where = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        if marked is None and encoding is None:
            fitting = [name for name in LIKELY if _fits(content, name)]
            also = f"; it may be {' or '.join(fitting)}" if fitting else ""
            raise UnreadableFileError(path, f"is not UTF-8{where}{also}: {hint}") from None
        raise UnreadableFileError(path, f"is not {used}{where}") from None


def read_text_start(path: Path, length: int) -> str:
    """What the first bytes of a file say, whatever they are; "" where it cannot be read."""
    try:
        content = read_start(path, length)
    except UnreadableFileError:
        return ""
    marked = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    return content.decode(marked, "replace")


def known_encoding(name: str, path: Path) -> str:
    """
    Args:
        path: where it is stated, for the sentence.

    Raises:
        InputError: there is no such encoding of text.
    """
    try:
        found = codecs.lookup(name)
        if not getattr(found, "_is_text_encoding", True) or found.name in ("utf-7", "idna", "punycode", "undefined"):
            raise LookupError
    except (LookupError, ValueError, UnicodeError):  # ValueError: a zero byte
        raise InputError(f"{path}: the encoding {name[:40]!r} is not known; save the file as UTF-8.") from None
    return found.name


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
