"""model.json: what is written is read again, and what is damaged is said in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from handlens.data.labels import KINDS
from handlens.errors import InputError
from handlens.preprocess import Preprocess
from handlens.reading.parsed import read_json
from handlens.training.model_info import KEYS, Architecture, ModelInfo, Published, TrainedOn

SCHEMA = read_json(Path(__file__).resolve().parents[2] / "docs/schemas/model.json")
FULL = ModelInfo(
    task="tag",
    architecture=Architecture("mobilenet_v2", {"num_classes": 2, "width": 0.5}),
    class_names=("빵", "b"),
    preprocess=Preprocess(height=32, width=48, resize="pad"),
    files={"model.safetensors": "0" * 64},
    chosen={"thresholds": [0.5, 0.25]},
    metrics={"map": 0.5},
    machine={"threads": 2},
    recipe={"mode": "head"},
    validation={"map": 0.5, "loss": 1.0, "count": 12, "how": "validation split"},
    data=TrainedOn(root="/images", fingerprint="ab", counts={"train": {"빵": 3}}, unreadable=0),
    pretrained=Published("ab", "Apache-2.0"),
)


def test_what_is_written_is_read_again_and_fits_the_schema():
    value = FULL.to_dict()
    jsonschema.validate(value, SCHEMA)
    assert ModelInfo.from_dict(value, where="model.json") == FULL
    assert set(SCHEMA["properties"]) == set(KEYS)
    assert set(SCHEMA["properties"]["task"]["enum"]) == set(KINDS)


def test_parts_stand_in_it_by_their_names():
    info = ModelInfo.from_dict(FULL.to_dict(), where="")
    named = Architecture("mobilenet_v2", {"block": jsonschema.validate})
    value = ModelInfo(**(vars(info) | {"architecture": named})).to_dict()
    assert value["architecture"]["arguments"] == {"block": "jsonschema.validators:validate"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "run/model.json has format 2, and this version of handlens reads format 1"),
        ({"task": "clasify"}, "has the task 'clasify'; the closest match is 'classify'"),
        ({"task": 3}, "has 3 for task"),
        ({"files": None}, "run/model.json lacks files"),
        ({"class_names": ["a", "a"]}, "class_names that are unique strings"),
        ({"class_names": []}, "class_names"),
        ({"metrcs": {}}, "has an unknown key 'metrcs'; the closest match is 'metrics'"),
        ({"recipe": []}, r"has \[\] for recipe"),
        ({"data": {"root": "x"}}, "run/model.json, data lacks fingerprint, counts, unreadable"),
        ({"architecture": {"name": "resnet18", "arguments": [1]}}, r"architecture has \[1\] for arguments"),
        ({"preprocess": {"height": 32}}, "run/model.json, preprocess: preprocess must have the keys"),
        (
            {"preprocess": Preprocess().to_dict() | {"height": "32"}},
            "run/model.json, preprocess: height must be a whole number of pixels, got '32'",
        ),
    ],
)
def test_what_is_damaged_is_said(changes: dict[str, Any], message: str):
    value = {key: entry for key, entry in (FULL.to_dict() | changes).items() if entry is not None}
    with pytest.raises(InputError, match=message):
        ModelInfo.from_dict(value, where="run/model.json")
    with pytest.raises(InputError, match="format None"):
        ModelInfo.from_dict(["no object"], where="run/model.json")
