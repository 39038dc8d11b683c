"""Attacks on what says that a file may be trusted: listed digests, reports of exports, golden images, calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack.case import PREDICT, Case, Make, Outcome
from attack.make import NOT_FILES, flat, with_file
from attack.runs import edited, field, file, flipped, refused

EXPORT = ("export", "{run}", "--to", "onnx", "--out", "{out}.onnx", "--data", "{data}", "--max-images", "2")
EVALUATE = ("evaluate", "{run}")
INT8 = (*PREDICT, "--precision", "int8")
CHANGED = "has changed since it was written"


def reports(change: Callable[[dict[str, Any]], None]) -> Make:
    """The report of every export changed."""

    def prepare(run: Path) -> None:
        for path in (run / "exports").glob("*.parity.json"):
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))

    return prepare


def exports(change: Callable[[bytes], bytes], suffix: str = ".bin") -> Make:
    """The bytes of every exported file changed."""

    def prepare(run: Path) -> None:
        for path in (run / "exports").glob(f"*{suffix}"):
            path.write_bytes(change(path.read_bytes()))

    return prepare


def moved_to_test(run: Path) -> None:
    """A training image becomes one of the test split."""
    path = run / "data.json"
    content = json.loads(path.read_text())
    content["splits"].setdefault("test", []).append(content["splits"]["train"].pop())
    path.write_text(json.dumps(content))


def golden(change: Callable[[bytes], bytes]) -> Make:
    def prepare(run: Path) -> None:
        path = min(path for path in (run / "golden").iterdir() if path.suffix in (".png", ".jpg"))
        path.write_bytes(change(path.read_bytes()))

    return prepare


def empty(folder: Path) -> None:
    """No good images."""


def _nothing_made(outcome: Outcome) -> None:
    left = [path.name for path in outcome.folder.iterdir() if path.name.startswith(("out", ".export"))]
    assert not left, left


def _answered_by_the_run(outcome: Outcome) -> None:
    assert all("class" in line for line in outcome.lines()), outcome.stdout


CASES = [
    # Whatever a training left is what it left.
    refused("data.json: a training image in the test split", moved_to_test, CHANGED, command=EVALUATE),
    refused("data.json: missing", lambda run: (run / "data.json").unlink(), "data.json", command=EVALUATE),
    refused("golden image: a flipped bit", golden(flipped), CHANGED, command=EXPORT),
    refused("golden image: empty", golden(lambda _: b""), CHANGED, command=EXPORT),
    refused("golden.npz: a flipped bit", edited("golden/golden.npz", flipped), CHANGED, command=EXPORT),
    refused("golden.json: other answers", edited("golden/golden.json", lambda c: c + b" "), CHANGED, command=EXPORT),
    refused("golden.npz: missing", lambda run: (run / "golden" / "golden.npz").unlink(), "golden.npz", command=EXPORT),
    *[
        refused(f"golden.json: {name}", file("golden/golden.json", make), "golden.json", command=EXPORT)
        for name, make in NOT_FILES.items()
    ],
    refused(
        "a golden image that is named above the run",
        field("files.golden/../../outside", "0" * 64),
        "not a file of the run's folder",
        command=EXPORT,
    ),
    # A report that is not of the file beside it proves nothing.
    *[
        Case(f"{name}: int8 is asked for", flat, INT8, exit=(2,), says=("int8",), prepare=prepare)
        for name, prepare in {
            "an exported file with a flipped bit": exports(flipped),
            "an exported file that is empty": exports(lambda _: b""),
            "an exported file cut in half": exports(lambda content: content[: len(content) // 2]),
            "a report that did not pass": reports(lambda said: said.update(passed=False)),
            "a report that passed with a number": reports(lambda said: said.update(passed=1)),
            "a report of other weights": reports(lambda said: said.update(weights="0" * 64)),
            "a report without weights": reports(lambda said: said.pop("weights")),
            "a report without files": reports(lambda said: said.update(files={})),
            "a report of files elsewhere": reports(lambda said: said.update(files={"../../etc/passwd": "0" * 64})),
            "a report of another runtime": reports(lambda said: said.update(to="litert")),
            "a report of no known runtime": reports(lambda said: said.update(to="abacus")),
            "a report of a part of the graph": reports(lambda said: said.update(whole=False)),
            "a report without rows": reports(lambda said: said.update(rows=[])),
            "a report with rows of numbers": reports(lambda said: said.update(rows=[1, 2])),
            "a report of a file above the run": reports(lambda said: said.update(file="../model.xml")),
            "a report of a file with a number as its name": reports(lambda said: said.update(file=5)),
        }.items()
    ],
    Case(
        "exported files that changed: the run itself answers",
        flat,
        PREDICT,
        exit=(0,),
        prepare=exports(flipped),
        verify=_answered_by_the_run,
    ),
    # The comparison itself.
    *[
        Case(name, make, EXPORT, exit=(1, 2), says=says, verify=_nothing_made, seconds=60)
        for name, make, says in (
            ("compared on a folder without images", with_file("notes.txt", b"hello", base=empty), ("image",)),
            ("compared on images that cannot be read", with_file("bad.png", b"hello", base=empty), ("image|read",)),
        )
    ],
    Case(
        "an export over a folder",
        lambda folder: [flat(folder), (folder.parent / "out.onnx").mkdir()],
        EXPORT,
        exit=(2,),
        says=("suffix|folder",),
    ),
    Case(
        "an export into a folder that cannot be written",
        flat,
        ("export", "{run}", "--to", "onnx", "--out", "/proc/none/x.onnx", "--data", "{data}"),
        exit=(2,),
        says=("/proc/none",),
    ),
    Case(
        "an export onto a full device",
        flat,
        ("export", "{run}", "--to", "onnx", "--out", "/dev/full/x.onnx", "--data", "{data}"),
        exit=(2,),
        says=("/dev/full",),
    ),
    Case(
        "the app's folder holds a file of the user's",
        lambda folder: [
            flat(folder),
            (folder.parent / "out.onnx-app").mkdir(),
            (folder.parent / "out.onnx-app" / "mine.txt").write_text("mine"),
        ],
        EXPORT,
        exit=(2,),
        says=(r"mine\.txt",),
    ),
    *[
        Case(
            f"calibrated with {name}",
            make,
            (*EXPORT[:4], "--out", "{out}.onnx", "--int8", "--calibrate", "{data}/few", "--data", "{data}"),
            exit=(2,),
            says=says,
            verify=_nothing_made,
            seconds=60,
        )
        for name, make, says in (
            ("a folder that is not there", flat, ("few",)),
            ("a folder without images", lambda folder: [flat(folder), (folder / "few").mkdir()], ("few|image",)),
            ("a file", with_file("few", b"hello"), ("few",)),
        )
    ],
]
