"""JSON, YAML and XML that somebody else wrote.

Python's parsers were made for friendly text: they recurse as deep as the text says, build dates that do not exist,
expand what names itself, and raise what their authors did not think of. Here all of that is one sentence.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from handlens.reading.files import Kind, UnreadableFileError, read_bytes
from handlens.reading.text import decoded, known_encoding, read_text

# Our choice, of YAML and XML: what people and tools write has a dozen levels. JSON may have what Python takes.
DEEPEST = 100
MOST_NODES = 1_000_000  # of one YAML, with every alias counted as what it stands for
# Halves of characters, but for what bytes of a name that are no UTF-8 are in Python, and in JSON that we write.
SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"']*)["']""")
DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


class _RefusedError(ValueError):
    """A sentence's end about what is in the text."""


def read_json(path: Path, kind: Kind = "settings") -> Any:
    """
    Raises:
        UnreadableFileError: the file is missing, cannot be read, is not JSON, or has halves of characters. NaN and
            infinity, which tools write, come as such: whoever needs a number asks for a finite one.
    """
    return parse_json(read_text(path, kind), path)


def parse_json(text: str, path: Path) -> Any:
    """As `read_json`; `path` is for sentences."""
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            _need_whole_characters(value)
    except RecursionError:
        raise UnreadableFileError(path, "is nested too deeply") from None
    except _RefusedError as error:
        raise UnreadableFileError(path, f"is not valid JSON: {error}") from None
    except ValueError as error:
        said = "a whole number of thousands of digits" if "integer string conversion" in str(error) else error
        raise UnreadableFileError(path, f"is not valid JSON: {said}") from None
    return value


def read_yaml(path: Path, kind: Kind = "yaml") -> Any:
    """
    Raises:
        UnreadableFileError: the file is missing, cannot be read, or is not YAML that says one thing: a key that stands
            twice, a date that does not exist, text that names itself.
    """
    return parse_yaml(read_text(path, kind), path)


def parse_yaml(text: str, path: Path | str) -> Any:
    """As `read_yaml`; `path` is for sentences."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        reason = f"has more than {DEEPEST} levels"
    except yaml.YAMLError as error:
        reason = f"is not YAML: {' '.join(str(error).split())[:300]}"
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # PyYAML builds values with int(), date() and so on, and hands on what they raise.
        reason = f"is not YAML: {' '.join(str(error).split())[:120]}"
    raise UnreadableFileError(Path(path), reason)


def read_xml(path: Path, kind: Kind = "label") -> ET.Element:
    """The root element, of a file in the encoding that it declares.

    Raises:
        UnreadableFileError: the file is missing, cannot be read, is not XML, or declares entities, which could grow
            without end or name other files.
        InputError: the encoding that it declares is not known.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    content = read_bytes(path, kind)
    found = DECLARED.search(content[:200])
    declared = found[1].decode("ascii", "replace") if found else None
    text = decoded(content, path, encoding=declared)
    if declared:
        known_encoding(declared, path)  # also where a mark goes before it
    parser = DefusedXMLParser(target=_Shallow(), forbid_dtd=False, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(DECLARATION.sub("", text, count=1))
        root: ET.Element = parser.close()
    except DefusedXmlException:
        raise UnreadableFileError(path, "declares entities, which labels have no use for; remove its DOCTYPE") from None
    except _RefusedError as error:
        raise UnreadableFileError(path, f"is not read: {error}") from None
    except (ET.ParseError, ValueError) as error:  # ValueError: a surrogate
        raise UnreadableFileError(path, f"is not XML: {error}") from None
    return root


class _Shallow(ET.TreeBuilder):
    """Builds no tree deeper than DEEPEST: one of 200,000 levels ends the process when it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: Any, attrs: Any, /) -> ET.Element:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _RefusedError(f"it has more than {DEEPEST} levels")
        return super().start(tag, attrs)

    def end(self, tag: Any, /) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


class _Loader(yaml.SafeLoader):
    """Refuses what says two things or grows: keys that stand twice, aliases without end, deep nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # id of a node that is complete -> nodes, with aliases counted in full

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        mark: Any = event.start_mark
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"more than {DEEPEST} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:  # it is not complete yet: the alias is inside
                raise yaml.composer.ComposerError(None, None, "an alias stands for what it is in", mark)
            return node
        size = 1 + sum(self._sizes[id(inner)] for inner in _inner(node))
        if size > MOST_NODES:
            said = "aliases that stand for more than a million values"
            raise yaml.composer.ComposerError(None, None, said, mark)
        self._sizes[id(node)] = size
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    mark: Any = key.start_mark
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:60]!r} stands twice", mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _inner(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    return [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []


def _need_whole_characters(value: Any) -> None:
    for text in _texts(value):
        if SURROGATE.search(text):
            raise _RefusedError(
                f"it has half a character (a lone surrogate) in {text[:60].encode('ascii', 'backslashreplace')!r}"
            )


def _texts(value: Any) -> list[str]:
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
    return found
