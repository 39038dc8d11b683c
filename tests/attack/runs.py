"""Attacks by run folders, weights and exported files."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack.case import PREDICT, Case, Make
from attack.make import NOT_FILES, classes, flat, sparse, with_file
from handlens.reading.files import sha256_of

EXPORT = ("export", "{run}", "--to", "onnx", "--out", "{out}.onnx", "--data", "{data}", "--no-app")
DEEP = "[" * 100_000
REMOVED = object()


def model(change: Callable[[dict[str, Any]], Any]) -> Make:
    """model.json with its content changed."""

    def prepare(run: Path) -> None:
        path = run / "model.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content) or content))

    return prepare


def field(place: str, value: Any) -> Make:
    """One field, "preprocess.std", changed or removed."""

    def change(content: dict[str, Any]) -> None:
        *above, last = place.split(".")
        for key in above:
            content = content.setdefault(key, {})
        if value is REMOVED:
            content.pop(last, None)
        else:
            content[last] = value

    return model(change)


def file(name: str, content: bytes | str | Make) -> Make:
    """A file of the run replaced."""

    def prepare(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        if callable(content):
            content(run / name)
        else:
            (run / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def edited(name: str, change: Callable[[bytes], bytes], *, agreeing: bool = False) -> Make:
    """A file's bytes changed.

    Args:
        agreeing: its digest in model.json too, as by someone who knows the format.
    """

    def prepare(run: Path) -> None:
        path = run / name
        path.write_bytes(change(path.read_bytes()))
        if agreeing:
            content = json.loads((run / "model.json").read_text())
            content["files"][name] = sha256_of(path)
            (run / "model.json").write_text(json.dumps(content))

    return prepare


def flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _header_of(length: int) -> Callable[[bytes], bytes]:
    return lambda content: struct.pack("<Q", length) + content[8:]


def _nan_weights(content: bytes) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    return content[: 8 + length] + b"\xff" * (len(content) - 8 - length)


def _reversed_names(content: dict[str, Any]) -> None:
    content["class_names"].reverse()


def refused(name: str, prepare: Make, *says: str, command: tuple[str, ...] = PREDICT, seconds: float = 20) -> Case:
    return Case(name, flat, command, exit=(1, 2), says=says or (r"model\.json",), prepare=prepare, seconds=seconds)


WRONG: dict[str, tuple[Any, ...]] = {
    "format": (True, "1", 1.0, None, 2, [1], 10**30, REMOVED),
    "task": (None, 5, "", "juggle", ["classify"], True, REMOVED),
    "class_names": (
        None,
        "abc",
        [],
        [1, 2, 3],
        ["a", "a", "b"],
        ["a", None, "c"],
        {"a": 1},
        ["a"],
        ["a", "b"],
        [f"class {n}" for n in range(1_000_000)],
        REMOVED,
    ),
    "architecture": (None, "mobilenet_v2", [], {}, REMOVED),
    "architecture.name": (None, 5, ["a"], "", REMOVED),
    "architecture.arguments": ("a", [1], 5, True, REMOVED),
    "preprocess": (None, "imagenet", [], {}, REMOVED),
    "preprocess.height": (None, "64", 64.5, 0, -1, True, 10**9, [64], REMOVED),
    "preprocess.width": (None, "64", 0, 10**9, float("nan"), REMOVED),
    "preprocess.short_side": (None, "64", 10**9, 1, float("inf"), REMOVED),
    "preprocess.resize": (None, "shrink", 5, ["crop"], REMOVED),
    "preprocess.color": (None, "blue", 5, REMOVED),
    "preprocess.mean": (None, 0.5, [0.5], ["a", "b", "c"], [float("nan")] * 3, [[0.5]] * 3, [10**400] * 3, REMOVED),
    "preprocess.std": (
        None,
        0.5,
        [0, 1, 1],
        ["a", "b", "c"],
        [float("nan")] * 3,
        [float("inf")] * 3,
        [-1, 1, 1],
        [True] * 3,
        REMOVED,
    ),
    "preprocess.interpolation": (5, "nearest"),
    "files": (
        None,
        [],
        "a",
        {},
        {"model.safetensors": 5},
        {"../../../etc/passwd": "0" * 64},
        {"/dev/zero": "0" * 64},
        {"a\0b": "0" * 64},
        REMOVED,
    ),
    "chosen": (None, [], "a", 5),
    "metrics": (None, [], "a", 5),
    "machine": (None, [], 5),
    "recipe": ([], "a", 5),
    "validation": ([], "a", 5),
    "data": ([], "a", {}, {"root": 5}),
    "data.root": (5, None, ["a"], True),
    "data.fingerprint": (5, None),
    "data.counts": ([], 5, None),
    "data.unreadable": ("a", None, 1.5, True),
    "pretrained": ([], "a", {}, {"sha256": 5, "license": "a"}),
    "unknown": (1,),
}
ENDURED = {"preprocess.interpolation"}


def _shown(value: Any) -> str:
    return "missing" if value is REMOVED else repr(value) if len(repr(value)) < 60 else f"{repr(value)[:40]}..."


CASES = [
    *[
        refused(f"model.json: {place} is {_shown(value)}", field(place, value))
        for place, values in WRONG.items()
        if place not in ENDURED
        for value in values
    ],
    refused("model.json: empty", file("model.json", "")),
    refused("model.json: a list", file("model.json", "[]")),
    refused("model.json: 100,000 levels", file("model.json", DEEP)),
    refused("model.json: 100,000 levels of objects", file("model.json", '{"a":' * 100_000)),
    refused("model.json: a number of 5,000 digits", file("model.json", '{"format": ' + "9" * 5000 + "}")),
    refused("model.json: UTF-16", file("model.json", "{}".encode("utf-16"))),
    refused("model.json: bytes", file("model.json", bytes(range(256)))),
    *[refused(f"model.json: {name}", file("model.json", make), "run|model") for name, make in NOT_FILES.items()],
    refused("class names in another order", model(_reversed_names), "class"),
    refused("weights: half", edited("model.safetensors", lambda content: content[: len(content) // 2]), "safetensors"),
    refused("weights: a flipped bit", edited("model.safetensors", flipped), "safetensors"),
    refused("weights: missing", lambda run: (run / "model.safetensors").unlink(), "safetensors"),
    refused(
        "weights: half, with its digest",
        edited("model.safetensors", lambda c: c[: len(c) // 2], agreeing=True),
        "weights|safetensors|engine",
        command=EXPORT,
    ),
    refused(
        "weights: a header of 2^60 bytes",
        edited("model.safetensors", _header_of(2**60), agreeing=True),
        "weights|safetensors|engine",
        command=EXPORT,
    ),
    refused(
        "weights: of nan",
        edited("model.safetensors", _nan_weights, agreeing=True),
        "weights|safetensors|nan|engine",
        command=EXPORT,
        seconds=60,
    ),
    refused(
        "weights newer than the engine", edited("model.safetensors", flipped, agreeing=True), "engine", command=PREDICT
    ),
    *[refused(f"weights: {name}", file("model.safetensors", make), "safetensors") for name, make in NOT_FILES.items()],
    refused("engine: half", edited("engine/model.bin", lambda content: content[: len(content) // 2]), "engine"),
    refused("engine: empty, with its digest", edited("engine/model.xml", lambda _: b"", agreeing=True), "engine"),
    refused(
        "engine: other XML, with its digest", edited("engine/model.xml", lambda _: b"<a/>", agreeing=True), "engine"
    ),
    refused(
        "engine: weights of zeros, with their digest",
        edited("engine/model.bin", lambda content: content[:10], agreeing=True),
        "engine",
    ),
    *[refused(f"engine: {name}", file("engine/model.xml", make), "engine") for name, make in NOT_FILES.items()],
    refused(
        "recipe.yaml: a pipe, on export",
        file("recipe.yaml", NOT_FILES["a pipe"]),
        "recipe|model|run",
        command=("train", "--resume", "{run}"),
    ),
    Case(
        "data.json: 100,000 levels, on evaluate",
        flat,
        ("evaluate", "{run}"),
        exit=(1, 2),
        says=(r"data\.json",),
        prepare=file("data.json", DEEP),
    ),
    Case(
        "data.json: a list, on evaluate",
        flat,
        ("evaluate", "{run}"),
        exit=(1, 2),
        says=(r"data\.json",),
        prepare=file("data.json", "[]"),
    ),
    Case(
        "data.json: of wrong types, on evaluate",
        flat,
        ("evaluate", "{run}"),
        exit=(1, 2),
        says=(r"data\.json",),
        prepare=file("data.json", '{"splits": 5, "fingerprint": []}'),
    ),
    Case(
        "data.json: a pipe, on evaluate",
        flat,
        ("evaluate", "{run}"),
        exit=(1, 2),
        says=(r"data\.json",),
        prepare=file("data.json", NOT_FILES["a pipe"]),
    ),
    Case(
        "golden.json: a list, on export",
        flat,
        EXPORT,
        exit=(0, 1, 2),
        prepare=file("golden/golden.json", "[]"),
        seconds=60,
    ),
    Case(
        "golden.json: 100,000 levels, on export",
        flat,
        EXPORT,
        exit=(0, 1, 2),
        prepare=file("golden/golden.json", DEEP),
        seconds=60,
    ),
    Case(
        "a report of an export: 100,000 levels",
        flat,
        (*PREDICT, "--precision", "int8"),
        exit=(1, 2),
        prepare=lambda run: [path.write_text(DEEP) for path in (run / "exports").rglob("*.json")],
    ),
    Case(
        "a report of an export: a list",
        flat,
        (*PREDICT, "--precision", "int8"),
        exit=(1, 2),
        prepare=lambda run: [path.write_text("[]") for path in (run / "exports").rglob("*.json")],
    ),
    Case(
        "a report of an export: a pipe",
        flat,
        (*PREDICT, "--precision", "int8"),
        exit=(1, 2),
        prepare=lambda run: [path.unlink() or os.mkfifo(path) for path in (run / "exports").rglob("*.json")],
    ),
    Case("an exported file of text", flat, ("predict", "{data}/bad.onnx", "{data}"), exit=(1, 2), says=(r"bad\.onnx",)),
    *[
        Case(
            f"an exported file{suffix} that is {name}",
            with_file(f"bad{suffix}", content),
            ("predict", "{data}/bad" + suffix, "{data}/good0.png"),
            exit=(1, 2),
            says=(r"bad\.",),
            seconds=30,
        )
        for suffix in (".onnx", ".xml", ".tflite", ".pte")
        for name, content in {
            "empty": b"",
            "text": b"hello world\n" * 20,
            "zeros": bytes(5000),
            "10 GB of holes": sparse(b"", 10 << 30),
            "a pipe": NOT_FILES["a pipe"],
            "a link to /dev/zero": NOT_FILES["a link to /dev/zero"],
        }.items()
    ],
    *[
        Case(
            f"own weights that are {name}",
            lambda folder, make=make: [classes(folder), make(folder.parent / "own.safetensors")],
            (
                "train",
                "{data}",
                "--out",
                "{out}",
                "--weights",
                "{here}/own.safetensors",
                "--mode",
                "head",
                "--model",
                "mobilenet_v2",
                "--width",
                "0.35",
                "--image-size",
                "32",
            ),
            exit=(1, 2),
            says=(r"own\.safetensors",),
            seconds=60,
        )
        for name, make in {
            **NOT_FILES,
            "text": lambda path: path.write_bytes(b"hello"),
            "a header of 2^60 bytes": lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"),
            "100,000 levels": lambda path: path.write_bytes(struct.pack("<Q", len(DEEP)) + DEEP.encode()),
        }.items()
    ],
    Case(
        "own weights that run code",
        lambda folder: [classes(folder), _hostile(folder.parent / "own.pth")],
        (
            "train",
            "{data}",
            "--out",
            "{out}",
            "--weights",
            "{here}/own.pth",
            "--mode",
            "head",
            "--model",
            "mobilenet_v2",
            "--width",
            "0.35",
            "--image-size",
            "32",
        ),
        exit=(1, 2),
        says=(r"own\.pth",),
        seconds=60,
        verify=lambda outcome: _not_there(outcome.folder / "touched"),
    ),
    Case(
        "metrics.csv of bytes, on resume",
        classes,
        ("train", "--resume", "{run}"),
        exit=(0, 1, 2),
        prepare=file("metrics.csv", bytes(range(256))),
    ),
    Case(
        "checkpoint of text, on resume",
        classes,
        ("train", "--resume", "{run}"),
        exit=(1, 2),
        prepare=lambda run: [
            (run / "model.json").unlink(),
            (run / "checkpoints").mkdir(exist_ok=True),
            (run / "checkpoints" / "last.ckpt").write_bytes(b"hello" * 100),
        ],
        seconds=60,
    ),
    Case(
        "a run without recipe, on resume",
        classes,
        ("train", "--resume", "{run}"),
        exit=(1, 2),
        says=("recipe|run",),
        prepare=lambda run: [(run / "model.json").unlink(), (run / "recipe.yaml").unlink()],
    ),
    Case(
        "data.json of a list, on resume",
        classes,
        ("train", "--resume", "{run}"),
        exit=(1, 2),
        says=(r"data\.json",),
        prepare=lambda run: [(run / "model.json").unlink(), (run / "data.json").write_text("[]")],
        seconds=60,
    ),
]


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def _hostile(path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps(_Hostile(path.with_name("touched"))))


def _not_there(path: Path) -> None:
    assert not path.exists()
