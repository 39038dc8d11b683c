"""handlens.yaml: what cannot be guessed from the files, written beside the data or given by path."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from handlens.errors import InputError

FILE_NAME = "handlens.yaml"
Format = Literal["folders", "filename", "csv", "flat"]


class CsvColumns(BaseModel):
    """Where the table is and what its columns are called; what is left out is looked for under common names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str | None = Field(None, description="the table, relative to the data's folder")
    file: str | None = Field(None, description="column with the picture's path")
    label: str | None = Field(None, description="column with the class")
    split: str | None = Field(None, description="column with train, validation or test")
    group: str | None = Field(None, description="column that names what must not straddle a split, such as a patient")


class DataConfig(BaseModel):
    """What the user says about the data. Everything may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Format | None = None
    label_pattern: str | None = Field(
        None, description="regular expression with a group named label, searched in file names without extension"
    )
    csv: CsvColumns | None = None
    class_names: list[str] | dict[str, str] | None = Field(
        None, description="a list: no other class is accepted; a mapping: label in the data -> class name"
    )
    ignore: list[str] = Field(
        default_factory=list, description="patterns such as 'old/*' of files and folders to leave aside"
    )
    groups: str | None = Field(
        None, description="regular expression with a group named group, searched in a picture's path below the folder"
    )

    @field_validator("label_pattern")
    @classmethod
    def _names_a_label(cls, pattern: str | None) -> str | None:
        return _with_group(pattern, "label")

    @field_validator("groups")
    @classmethod
    def _names_a_group(cls, pattern: str | None) -> str | None:
        return _with_group(pattern, "group")

    def stated_format(self) -> Format | None:
        """The format that the file names, or implies by describing a table or a rule on names."""
        if self.format is not None:
            return self.format
        if self.csv is not None:
            return "csv"
        return "filename" if self.label_pattern is not None else None


def read_config(folder: Path, *, path: Path | None = None) -> DataConfig:
    """`path`, or handlens.yaml in the data's folder, or an empty configuration where there is none.

    Raises:
        InputError: `path` is missing; the file is not YAML; an unknown key (the nearest is named), a wrong type.
    """
    source = path if path is not None else folder / FILE_NAME
    if path is None and not source.is_file():
        return DataConfig.model_validate({})
    try:
        loaded = yaml.safe_load(source.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{source} is missing; give the path of a {FILE_NAME}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML: {' '.join(str(error).split())}.") from None
    if loaded is None:
        return DataConfig.model_validate({})
    if not isinstance(loaded, dict):
        raise InputError(f"{source} must hold 'key: value' lines, got a {type(loaded).__name__}.")
    try:
        return DataConfig.model_validate(loaded)
    except ValidationError as error:
        raise InputError(f"{source}: {_sentence(error)}") from None


def nearest(name: str, known: tuple[str, ...]) -> str:
    """The end of a sentence about an unknown name: "the nearest is 'x'", or what there is."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"the nearest is {near[0]!r}" if near else f"there are {', '.join(known)}"


def _with_group(pattern: str | None, group: str) -> str | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"it is not a regular expression ({error})") from None
    if group not in compiled.groupindex:
        raise ValueError(f"it needs a group named {group}, such as (?P<{group}>[^_]+)")
    return pattern


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if not str(part).startswith(("list[", "dict["))]
    if first["type"] == "extra_forbidden":
        fields = CsvColumns.model_fields if where[0] == "csv" else DataConfig.model_fields
        return f"there is no key {'.'.join(where)!r}; {nearest(where[-1], tuple(fields))}."
    if where == ["format"]:
        return f"format {first['input']!r} is not known; {nearest(str(first['input']), get_args(Format))}."
    reason: Any = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hint = "; put it in quotes" if first["type"] == "string_type" else ""
    return f"{'.'.join(where)} = {first['input']!r} is not accepted: {reason}{hint}."
