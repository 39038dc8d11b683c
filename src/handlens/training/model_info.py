"""model.json as one object: every command that writes or reads it goes through here. Does not import torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from types import NoneType
from typing import Any

from handlens.data.labels import KINDS
from handlens.errors import InputError, nearest
from handlens.preprocess import Preprocess
from handlens.training.parts import named
from handlens.version import VERSION

FORMAT = 1
MOST_CLASSES = 100_000  # our choice; ImageNet-21k has 21,841
SHA256 = re.compile("[0-9a-f]{64}")
# Of what a task chose, what its answers and its evaluation need with the file.
FOR_APPS = ("threshold", "thresholds", "category_ids", "training_mean", "training_std", "known_scores")

# What each key holds in the file. Those of NEEDED stand in every file.
Types = Mapping[str, type | tuple[type, ...]]
KEYS: Types = {
    "format": int,
    "task": str,
    "architecture": dict,
    "class_names": list,
    "preprocess": dict,
    "machine": dict,
    "files": dict,
    "chosen": dict,
    "metrics": dict,
    "recipe": dict,
    "validation": dict,
    "data": dict,
    "pretrained": dict,
}
NEEDED = ("task", "architecture", "class_names", "preprocess", "files")
PARTS: dict[str, Types] = {
    "data": {"root": str, "fingerprint": str, "counts": dict, "unreadable": int},
    "pretrained": {"sha256": str, "license": str},
    "architecture": {"name": str, "arguments": (dict, NoneType)},
}


@dataclass(frozen=True)
class Architecture:
    """What the same model is made from again, without its weights.

    Attributes:
        name: in the catalogue, or of a constructor of one's own: "package.module:Name".
        arguments: of the constructor, by name; None of an object that was handed over ready made.
    """

    name: str
    arguments: Mapping[str, Any] | None


@dataclass(frozen=True)
class TrainedOn:
    """
    Attributes:
        root: the folder of the images.
        fingerprint: of the images and their labels.
        counts: split -> class -> how many.
        unreadable: files that were left out.
    """

    root: str
    fingerprint: str
    counts: Mapping[str, Mapping[str, int]]
    unreadable: int


@dataclass(frozen=True)
class Published:
    """Weights that were not trained here.

    Attributes:
        sha256: of the file as it is published, or its beginning.
    """

    sha256: str
    license: str


@dataclass(frozen=True)
class KnownScores:
    """Of images of the classes that were not learned from (`evaluation.unknown`).

    Attributes:
        count: of the images.
        quantiles: of their scores, ascending.
    """

    count: int
    quantiles: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a run folder says of its model.

    Attributes:
        task: a name of `tasks.TASKS`.
        class_names: in the order of the model's outputs; of regression, the names of its numbers.
        files: path in the run folder -> SHA-256.
        chosen: what the task chose on validation, by its own names: thresholds, means.
        metrics: what the last evaluation on the run's own data found; empty before it.
        machine: what exact numbers depend on: processor, threads and versions.
        recipe: as recipe.yaml has it; None of published weights, as the two that follow.
        validation: the task's metric, "loss", "count" and "how" it was measured.
    """

    task: str
    architecture: Architecture
    class_names: tuple[str, ...]
    preprocess: Preprocess
    files: Mapping[str, str]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    validation: Mapping[str, Any] | None = None
    data: TrainedOn | None = None
    pretrained: Published | None = None

    @property
    def mode(self) -> str | None:
        """How it was trained: "head", "finetune" or "scratch"; None of published weights."""
        return None if self.recipe is None else self.recipe.get("mode")

    @property
    def temperature(self) -> float:
        """That its logits were divided by; 1 where none was chosen.

        Raises:
            InputError: model.json has none that is possible.
        """
        value = self.chosen.get("temperature", 1.0)
        if not isinstance(value, float) or not 0 < value < math.inf:
            raise InputError(f"{value!r:.40} is no temperature; restore model.json from a copy of the run.")
        return value

    @property
    def known_scores(self) -> KnownScores | None:
        """By which other images are told; None where there are none.

        Raises:
            InputError: model.json has none that are possible.
        """
        value = self.chosen.get("known_scores")
        if value is None:
            return None
        whole = isinstance(value, dict) and type(value.get("count")) is int and value["count"] > 0
        numbers = value.get("quantiles") if whole else None
        if not isinstance(numbers, list) or not numbers or not all(type(one) in (int, float) for one in numbers):
            raise InputError("model.json has no valid known_scores; restore it from a copy of the run.")
        if not all(low <= high for low, high in pairwise([-math.inf, *numbers, math.inf])):
            raise InputError("model.json has known_scores that do not rise; restore it from a copy of the run.")
        return KnownScores(value["count"], tuple(map(float, numbers)))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is None is left out."""
        parts = {
            "architecture": named(asdict(self.architecture)),
            "class_names": list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
            "data": self.data and asdict(self.data),
            "pretrained": self.pretrained and asdict(self.pretrained),
        }
        values = {"format": FORMAT} | {key: getattr(self, key) for key in KEYS if key != "format"} | parts
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, value: Any, *, where: str) -> ModelInfo:
        """
        Args:
            where: the file, for sentences.

        Raises:
            InputError: another format, a key that is missing, unknown or of another type, or a task that there is not.
        """
        found = value.get("format") if isinstance(value, dict) else None
        if type(found) is not int or found != FORMAT:
            raise InputError(f"{where} has format {found!r:.40}, and this version of handlens reads format {FORMAT}.")
        _require_types(value, KEYS, NEEDED, where)
        for key, types in PARTS.items():
            if key in value:
                _require_types(value[key], types, tuple(types), f"{where}, {key}")
        if value["task"] not in KINDS:
            raise InputError(f"{where} has the task {value['task']!r:.40}; {nearest(value['task'], KINDS)}.")
        names = value["class_names"]
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise InputError(f"{where} must have class_names that are unique strings.")
        if not all(names) or len(names) > MOST_CLASSES:
            raise InputError(f"{where} must have from 1 to {MOST_CLASSES:,} class_names, none of them empty.")
        architecture = Architecture(**value["architecture"])
        outputs = (architecture.arguments or {}).get("num_classes", len(names))
        if outputs != len(names):
            raise InputError(f"{where} has {len(names)} class_names for a model of {outputs!r:.20} classes.")
        for name, digest in value["files"].items():
            if not isinstance(digest, str) or not SHA256.fullmatch(digest) or not _is_inside(name):
                raise InputError(f"{where}, files: {name!r:.60} with {digest!r:.20} is not a file of the run's folder.")
        fields = {key: entry for key, entry in value.items() if key != "format"} | {
            "architecture": architecture,
            "class_names": tuple(names),
            "preprocess": _preprocess(value["preprocess"], where),
        }
        if "data" in value:
            fields["data"] = TrainedOn(**value["data"])
        if "pretrained" in value:
            fields["pretrained"] = Published(**value["pretrained"])
        return cls(**fields)


def metadata(
    *,
    task: str,
    architecture: Architecture,
    class_names: Sequence[str],
    preprocess: Preprocess,
    chosen: Mapping[str, Any],
    resizes: bool = False,
    suppress: bool = True,
) -> dict[str, Any]:
    """What a model's file says of itself, for apps and for `from_metadata`.

    Args:
        resizes: the graph takes images of any size.
        suppress: non-maximum suppression is not left to the app.
    """
    return {
        "handlens": VERSION,
        "task": task,
        "model": architecture.name,
        "class_names": list(class_names),
        "preprocess": preprocess.to_dict(),
        **({"resizes": True} if resizes else {}),
        **({} if suppress else {"suppress": False}),
        **{key: chosen[key] for key in FOR_APPS if key in chosen},
    }


def from_metadata(value: Mapping[str, Any], *, where: str) -> ModelInfo:
    """
    Raises:
        InputError: the file was not exported by handlens, or says something else than it should.
    """
    if "class_names" not in value or "task" not in value:
        raise InputError(f"{where} says nothing of its classes and preprocessing; it was not exported by handlens.")
    fields = {
        "format": FORMAT,
        "task": value["task"],
        "architecture": {"name": value.get("model"), "arguments": None},
        "class_names": value["class_names"],
        "preprocess": value.get("preprocess"),
        "files": {},
        "chosen": {key: value[key] for key in FOR_APPS if key in value},
    }
    return ModelInfo.from_dict(fields, where=where)


def _require_types(value: Mapping[str, Any], types: Types, needed: tuple[str, ...], where: str) -> None:
    missing = [key for key in needed if key not in value]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; restore the file from a copy of the run.")
    for key, entry in value.items():
        if key not in types:
            raise InputError(f"{where} has an unknown key {key!r}; {nearest(key, types)}.")
        if not isinstance(entry, types[key]) or isinstance(entry, bool) or entry == "":
            raise InputError(
                f"{where} has {entry!r:.40} for {key}, which has the wrong type; restore the file from a copy of "
                "the run."
            )


def _is_inside(name: str) -> bool:
    """Whether a path with "/" stays in the folder that it is relative to."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts)


def _preprocess(value: dict[str, Any], where: str) -> Preprocess:
    try:
        return Preprocess.from_dict(value)
    except (InputError, TypeError) as error:  # TypeError: text where a number should be
        raise InputError(f"{where}, preprocess: {str(error).rstrip('.')}.") from error
