"""handlens.yaml: what cannot be guessed from the files, written beside the data or given by path."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from handlens.errors import InputError, nearest
from handlens.reading.files import MissingFileError
from handlens.reading.parsed import read_yaml

FILE_NAME = "handlens.yaml"
IGNORED = "ignore"  # of a value or color in masks
Format = Literal[
    "folders", "filename", "csv", "boxes-csv", "masks", "voc", "voc-masks", "coco", "yolo", "points", "flat"
]
Color = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


class CsvColumns(BaseModel):
    """Where the table is and what its columns are called; what is left out is looked for under common names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str | None = Field(None, description="the table, relative to the data folder")
    encoding: str | None = Field(None, description="of the table if it is not UTF-8, such as cp949")
    file: str | None = Field(None, description="column with the image's path")
    label: str | None = Field(None, description="column with the class, or several classes (multi-label)")
    labels: list[str] | None = Field(None, description="0/1 columns, one per class (multi-label)")
    values: list[str] | None = Field(None, description="columns of numbers, for regression")
    separator: str | None = Field(
        None, description="separator of several labels in one cell; '' reads every cell as one label"
    )
    split: str | None = Field(None, description="column with train, validation or test")
    group: str | None = Field(
        None, description="column with the group, such as a patient; a group is never divided between splits"
    )


class MaskFiles(BaseModel):
    """Where masks are and what is stored in them; folders and suffix that are left out are guessed from names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    images: str | None = Field(None, description="folder of the images, relative to the data folder")
    masks: str | None = Field(None, description="folder of the masks, relative to the data folder")
    suffix: str | None = Field(None, description="suffix of mask names: _m for a.jpg and a_m.png")
    image_suffix: str | None = Field(None, description="suffix of image names: _i for a_i.jpg and a_m.png")
    values: dict[int, int | str] = Field(
        default_factory=dict,
        description="pixel value -> class index, class name or ignore; if any has an index or a name, every value "
        "needs an entry",
    )
    objects: bool = Field(
        False, description="values number the objects of one kind: 0 is background, all others are one class"
    )
    colors: dict[str, Color] = Field(
        default_factory=dict, description="class name or ignore -> red, green, blue, for color-coded masks"
    )

    @field_validator("values")
    @classmethod
    def _fit_a_mask(cls, values: dict[int, int | str]) -> dict[int, int | str]:
        for stored, index in values.items():
            if not 0 <= stored <= 65535:
                raise ValueError(f"{stored} is not a valid pixel value of a mask; use 0 to 65535")
            if isinstance(index, int) and not 0 <= index < 255:
                raise ValueError(f"{index} is not a class index; use 0 to 254, a class name, or ignore")
            if isinstance(index, str) and index != IGNORED and get_close_matches(index.lower(), [IGNORED], cutoff=0.8):
                raise ValueError(f"{index!r} is close to {IGNORED}, and would be the name of a class")
        indices = [index for index in values.values() if isinstance(index, int)]
        names = [name for name in values.values() if isinstance(name, str) and name != IGNORED]
        if indices and names:
            raise ValueError(f"some values have an index ({indices[0]}) and some a name ({names[0]}); use one of them")
        return values


class VocFiles(BaseModel):
    """How to read boxes in XML."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    corners: Literal["pixels", "edges"] = Field(
        "pixels",
        description="pixels: the VOC convention, 1-based, last pixel included; edges: 0-based, xmax = xmin + width",
    )


class DataConfig(BaseModel):
    """What the user says about the data. Everything may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Format | None = None
    label_pattern: str | None = Field(
        None, description="regular expression with a group named label, searched in file names without extension"
    )
    csv: CsvColumns | None = None
    masks: MaskFiles | None = None
    voc: VocFiles | None = None
    class_names: list[str] | dict[str, str] | None = Field(
        None,
        description="a list: no other class is accepted, and masks and boxes number the classes by it where the data "
        "does not; a mapping: label in the data -> class name",
    )
    ignore: list[str] = Field(
        default_factory=list, description="patterns of files and folders to skip, such as 'old/*'"
    )
    groups: str | None = Field(
        None, description="regular expression with a group named group, searched in an image's path below the folder"
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
        """The format that the file names, or implies by describing a table of labels, masks or a rule on names."""
        if self.format is not None:
            return self.format
        if self.csv is not None and (self.csv.label or self.csv.labels or self.csv.values):
            return "csv"
        if self.masks is not None:
            return "masks"
        return "filename" if self.label_pattern is not None else None


def read_config(folder: Path, *, path: Path | None = None) -> DataConfig:
    """`path`, or handlens.yaml in the data's folder, or an empty configuration where there is none.

    Raises:
        InputError: `path` is missing; the file is not YAML; an unknown key (the closest match is named), a wrong type.
    """
    source = path if path is not None else folder / FILE_NAME
    try:
        loaded = read_yaml(source)
    except MissingFileError:
        if path is None:
            return DataConfig.model_validate({})
        raise InputError(f"{source} does not exist; give the path of a {FILE_NAME}.") from None
    if loaded is None:
        return DataConfig.model_validate({})
    if not isinstance(loaded, dict):
        raise InputError(f"{source} must contain 'key: value' lines, got a {type(loaded).__name__}.")
    try:
        return DataConfig.model_validate(loaded)
    except ValidationError as error:
        raise InputError(f"{source}: {_sentence(error)}") from None


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
    where = [str(part) for part in first["loc"] if not str(part).startswith(("list[", "dict[", "literal[", "int"))]
    if first["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {"csv": CsvColumns, "masks": MaskFiles, "voc": VocFiles}
        fields = sections.get(where[0], DataConfig).model_fields
        return f"there is no key {'.'.join(where)!r}; {nearest(where[-1], fields)}."
    if where == ["format"]:
        return f"format {first['input']!r} is not known; {nearest(str(first['input']), get_args(Format))}."
    reason: Any = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hint = "; put it in quotes" if first["type"] == "string_type" else ""
    return f"{'.'.join(where)} = {first['input']!r} is not accepted: {reason}{hint}."
