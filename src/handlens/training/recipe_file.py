"""A recipe from a file or from values by name, with one sentence for what it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from handlens.errors import InputError, nearest
from handlens.reading.files import UnreadableFileError
from handlens.reading.parsed import parse_yaml, read_yaml
from handlens.training.recipe import Augment, Recipe


def read_recipe(path: Path | None, **overrides: Any) -> Recipe:
    """A recipe from a YAML file and the fields given by name; a field given by name wins.

    Raises:
        InputError: missing file, not YAML, a key that does not exist (its nearest is named), a wrong type or range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = read_yaml(path)
        except UnreadableFileError as error:
            raise InputError(f"recipe {error}") from None
        loaded = {} if loaded is None else loaded  # an empty file: all defaults
        if not isinstance(loaded, dict):
            raise InputError(f"recipe {path} must be a list of 'key: value' lines, got {type(loaded).__name__}.")
        values = loaded
    given = {key: value for key, value in overrides.items() if value is not None}
    if isinstance(values.get("options"), dict) and "options" in given:
        given["options"] = values["options"] | given["options"]
    values |= given
    return make_recipe(values)


def arguments(texts: Sequence[str]) -> dict[str, Any]:
    """["padding=same", "dropout=0.1"] -> {"padding": "same", "dropout": 0.1}; values are YAML.

    Raises:
        InputError: one is not name=value.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--option must be name=value, such as padding=same, got {text!r}.")
        try:
            found[name] = parse_yaml(value, name)
        except UnreadableFileError:
            raise InputError(f"the value of --option {name} is not YAML, got {value!r}.") from None
    return found


def make_recipe(values: dict[str, Any]) -> Recipe:
    """
    Raises:
        InputError: as `read_recipe`.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *parents, key = map(str, first["loc"])
        if not parents and key in Augment.model_fields:
            return f"the recipe has no key {key!r}; it belongs under augment: 'augment: {{{key}: ...}}'."
        owner, known = ("augment", Augment.model_fields) if parents else ("the recipe", Recipe.model_fields)
        return f"{owner} has no key {key!r}; {nearest(key, known)}."
    hint = ""
    if isinstance(first["input"], str) and first["type"] in ("float_type", "int_type"):
        hint = " (YAML reads a number such as 1e-3 as text: write 1.0e-3, and no quotes)"
    reason = first["msg"].removeprefix("Value error, ")
    return f"recipe: {where} = {first['input']!r} is not accepted: {reason[0].lower()}{reason[1:]}{hint}."
