"""Attacks by label files: XML, YOLO's texts, COCO's JSON, masks, points."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attack.case import CHECK, CHECK_JSON, Case, Make, has_class
from attack.make import (
    GOOD,
    NOT_FILES,
    coco_content,
    encoded,
    flat,
    lazily,
    masks,
    photo,
    png,
    sparse,
    voc,
    voc_object,
    voc_xml,
    with_file,
    yolo,
)

ENTITIES = "".join(f'<!ENTITY {"b" * n} "{("&" + "b" * (n - 1) + ";") * 10}">' for n in range(2, 10))
ENTITY = f'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">{ENTITIES}]>'


def _text(path: Path, content: str | bytes | Make) -> None:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def xml(content: str | bytes | Make) -> Make:
    """A third image whose XML is bad."""

    def make(folder: Path) -> None:
        voc(folder)
        photo(7).save(folder / "JPEGImages" / "bad.png")
        _text(folder / "Annotations" / "bad.xml", content)

    return make


def only_xml(content: str | bytes | Make) -> Make:
    def make(folder: Path) -> None:
        (folder / "Annotations").mkdir()
        (folder / "JPEGImages").mkdir()
        photo(7).save(folder / "JPEGImages" / "bad.png")
        _text(folder / "Annotations" / "bad.xml", content)

    return make


def rows(content: str | bytes | Make) -> Make:
    """A third image whose YOLO text is bad."""

    def make(folder: Path) -> None:
        yolo(folder)
        photo(7).save(folder / "images" / "bad.png")
        _text(folder / "labels" / "bad.txt", content)

    return make


def coco(change: Callable[[dict[str, Any]], Any] | None = None, *, raw: str | bytes | Make | None = None) -> Make:
    """COCO with one thing wrong: `change` edits the content or gives another; `raw` is the whole file."""

    def make(folder: Path) -> None:
        flat(folder)
        content = copy.deepcopy(coco_content())
        if change is not None:
            content = change(content) or content
        _text(folder / "annotations.json", json.dumps(content) if raw is None else raw)

    return make


def entry(kind: str, **values: Any) -> Make:
    """The second image's, annotation's or category's fields changed."""

    def change(content: dict[str, Any]) -> None:
        content[kind][-1].update(values)

    return coco(change)


def mask(content: bytes | Make) -> Make:
    def make(folder: Path) -> None:
        masks(folder)
        photo(7).save(folder / "images" / "bad.png")
        _text(folder / "masks" / "bad.png", content)

    return make


def points(content: str | bytes | Make) -> Make:
    def make(folder: Path) -> None:
        for number in range(GOOD):
            photo(number).save(folder / f"good{number}.png")
            (folder / f"good{number}.json").write_text(
                '[{"W": "0.5", "H": "0.5", "Point(x,y)": "0.5,0.5", "Name": "a"}]'
            )
        photo(7).save(folder / "bad.png")
        _text(folder / "bad.json", content)

    return make


def _many_boxes(content: dict[str, Any]) -> None:
    content["annotations"] = [
        {"id": n, "image_id": n % 2, "category_id": 1, "bbox": [n % 40, n % 30, 5, 5]} for n in range(300_000)
    ]


def _outlined(content: dict[str, Any], *, outline: Any) -> None:
    content["annotations"][-1].pop("bbox")
    content["annotations"][-1]["segmentation"] = outline


def bad(name: str, make: Make, *, says: Sequence[str] = (r"bad\.",), seconds: float = 20) -> Case:
    """One label of three cannot be used: it is named, and the audit goes on."""
    return Case(name, make, CHECK, exit=(1,), says=(*says, "(3|2) images"), seconds=seconds)


def stops(name: str, make: Make, *says: str, seconds: float = 20) -> Case:
    """A file that is the data set cannot be used: one sentence."""
    return Case(name, make, CHECK, exit=(1, 2), says=says, seconds=seconds)


def stray(name: str, file: str, content: str | bytes | Make) -> Case:
    """A file that only might be labels: the images are read without."""
    make = with_file(file, content if callable(content) else content.encode() if isinstance(content, str) else content)
    return Case(name, make, CHECK, exit=(0, 1), says=("2 images",))


DIGITS = "9" * 400
GIANT = "9" * 5000
POLYGON = [[1e12, 1e12, -1e12, 1e12, 1e12, -1e12]]
CASES = [
    bad("XML: empty", xml("")),
    bad("XML: a web page", xml("<html><body>404</body></html>")),
    bad("XML: cut", xml(voc_xml(voc_object())[:60])),
    bad("XML: entities that grow", xml(voc_xml(voc_object("&bbbbbbbbb;"), head=ENTITY))),
    bad(
        "XML: an external entity",
        xml(voc_xml(voc_object("&x;"), head='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>')),
    ),
    bad("XML: 200,000 levels", xml("<annotation>" + "<a>" * 200_000)),
    bad(
        "XML: 100,000 levels that close",
        xml("<annotation>" + "<a>" * 100_000 + "</a>" * 100_000 + "</annotation>"),
        says=[],
    ),
    bad("XML: an unknown encoding", xml(voc_xml(voc_object(), head='<?xml version="1.0" encoding="klingon"?>'))),
    Case(
        "XML: EUC-KR, as it says",
        xml(voc_xml(voc_object("빵"), head='<?xml version="1.0" encoding="euc-kr"?>').encode("euc-kr")),
        CHECK_JSON,
        exit=(0, 1),
        verify=lambda outcome: has_class(outcome, "빵"),
    ),
    Case(
        "XML: UTF-16",
        xml(voc_xml(voc_object("빵"), head='<?xml version="1.0" encoding="utf-16"?>').encode("utf-16")),
        CHECK_JSON,
        exit=(0, 1),
        verify=lambda outcome: has_class(outcome, "빵"),
    ),
    Case(
        "XML: Shift-JIS, as it says",
        xml(voc_xml(voc_object("パン"), head="<?xml version='1.0' encoding='shift_jis'?>").encode("shift_jis")),
        CHECK_JSON,
        exit=(0, 1),
        verify=lambda outcome: has_class(outcome, "パン"),
    ),
    Case(
        "XML: a BOM",
        xml(b"\xef\xbb\xbf" + voc_xml(voc_object("c")).encode()),
        CHECK_JSON,
        exit=(0, 1),
        verify=lambda outcome: has_class(outcome, "c"),
    ),
    bad("XML: Latin-1 that says nothing", xml(voc_xml(voc_object("br\u00f6t")).encode("latin-1"))),
    bad("XML: a zero byte", xml(voc_xml(voc_object("a\0b")))),
    bad("XML: UTF-7", xml(voc_xml(voc_object(), head='<?xml version="1.0" encoding="utf-7"?>')), says=[]),
    bad("XML: an encoding of bytes to bytes", xml(voc_xml(voc_object(), head='<?xml version="1.0" encoding="zlib"?>'))),
    bad("XML: corners that are words", xml(voc_xml(voc_object("a", "x", 1, 2, 3)))),
    bad("XML: corners of nan", xml(voc_xml(voc_object("a", "nan", 1, 20, 30)))),
    bad("XML: corners of infinity", xml(voc_xml(voc_object("a", 1, 1, "inf", 30)))),
    bad("XML: corners of 400 digits", xml(voc_xml(voc_object("a", 1, 1, DIGITS, 30)))),
    bad("XML: corners at 10^12", xml(voc_xml(voc_object("a", 10**12, 1, 2 * 10**12, 30)))),
    bad("XML: corners at 10^300", xml(voc_xml(voc_object("a", 1, 1, "1e300", "1e300"))), says=[]),
    bad("XML: a size of 5,000 digits", xml(voc_xml(voc_object()).replace("<width>48", f"<width>{GIANT}")), says=[]),
    bad("XML: no name", xml(voc_xml("<object><bndbox/></object>"))),
    bad(
        "XML: 100,000 boxes",
        xml(
            lazily(lambda: voc_xml(*[voc_object("a", n % 40, n % 30, n % 40 + 5, n % 30 + 5) for n in range(100_000)]))
        ),
        says=[],
        seconds=40,
    ),
    bad("XML: a class of 100,000 characters", xml(voc_xml(voc_object("x" * 100_000))), says=[]),
    bad("XML: a class of control sequences", xml(voc_xml(voc_object("&#x9b;31m&#x202e;x"))), says=[]),
    *[stops(f"XML: {name}", xml(make)) for name, make in NOT_FILES.items()],
    *[
        Case(f"XML alone: {name}", only_xml(make), CHECK, exit=(0, 1, 2))
        for name, make in NOT_FILES.items()
        if "link" in name
    ],
    bad("YOLO: empty class", rows("0 0.5 0.5\n")),
    bad("YOLO: words", rows("cat 0.5 0.5 0.2 0.2\n"), says=[]),
    bad("YOLO: nan", rows("0 nan 0.5 0.2 0.2\n")),
    bad("YOLO: infinity", rows("0 0.5 inf 0.2 0.2\n")),
    bad("YOLO: a class of nan", rows("nan 0.5 0.5 0.2 0.2\n"), says=[]),
    bad("YOLO: a class below 0", rows("-1 0.5 0.5 0.2 0.2\n")),
    bad("YOLO: a class of 10^9", rows("1000000000 0.5 0.5 0.2 0.2\n")),
    bad("YOLO: a class of 400 digits", rows(f"{DIGITS} 0.5 0.5 0.2 0.2\n")),
    bad("YOLO: pixels", rows("0 120 130 50 60\n")),
    bad("YOLO: numbers of 5,000 digits", rows(f"0 0.{GIANT} 0.5 0.2 0.{GIANT}\n"), says=[]),
    bad("YOLO: a million rows", rows(lazily(lambda: "0 0.5 0.5 0.25 0.25\n" * 1_000_000)), says=[], seconds=60),
    bad(
        "YOLO: a million different rows",
        rows(lazily(lambda: "".join(f"0 0.5 0.5 0.1 {0.1 + n / 1e7:.8f}\n" for n in range(1_000_000)))),
        says=[],
        seconds=90,
    ),
    bad("YOLO: a line of a million numbers", rows(lazily(lambda: "0 " + "0.5 " * 1_000_000)), says=[]),
    bad("YOLO: UTF-16", rows("0 0.5 0.5 0.2 0.2\n".encode("utf-16")), says=[]),
    bad("YOLO: bytes", rows(bytes(range(256)) * 40)),
    bad("YOLO: zero bytes", rows("0 0.5 0.5\0 0.2 0.2\n")),
    bad("YOLO: full-width digits", rows("０ ０.５ 0.5 0.2 0.2\n"), says=[]),
    *[stops(f"YOLO: {name}", rows(make)) for name, make in NOT_FILES.items()],
    stray("COCO: empty", "annotations.json", ""),
    stops("COCO: 100,000 levels", coco(raw='{"images": [], "annotations": [], "categories": ' + "[" * 100_000)),
    stops(
        "COCO: 100,000 levels that close",
        coco(raw='{"images": [], "annotations": [], "categories": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    ),
    stops("COCO: a number of 5,000 digits", entry("annotations", area=0), seconds=20),
    stops(
        "COCO: an id of 5,000 digits",
        coco(raw=json.dumps(coco_content()).replace('"image_id": 1', f'"image_id": {GIANT}')),
        "annotations",
    ),
    stops("COCO: NaN", coco(raw=json.dumps(coco_content()).replace("400", "NaN"))),
    stops(
        "COCO: Infinity in a box",
        coco(raw=json.dumps(coco_content()).replace("[2, 2, 20, 20]", "[2, 2, Infinity, 20]")),
    ),
    stops(
        "COCO: a lone surrogate in a class",
        coco(raw=json.dumps(coco_content()).replace('"name": "a"', '"name": "a\\ud800"')),
    ),
    stops(
        "COCO: a lone surrogate in a file name", coco(raw=json.dumps(coco_content()).replace("good0", "good\\udcff"))
    ),
    Case(
        "COCO: UTF-16",
        coco(raw=json.dumps(coco_content()).encode("utf-16")),
        CHECK,
        exit=(0, 1),
        says=("detect from coco",),
    ),
    stray("COCO: half", "annotations.json", json.dumps(coco_content())[:150]),
    stray("COCO: a list", "annotations.json", json.dumps([coco_content()])),
    stops("COCO: keys twice", coco(raw=json.dumps(coco_content())[:-1] + ', "images": []}')),
    stops("COCO: images are an object", coco(lambda content: content | {"images": {"0": "a"}})),
    stops("COCO: images are words", coco(lambda content: content | {"images": ["a", "b"]})),
    stops("COCO: annotations are numbers", coco(lambda content: content | {"annotations": [1, 2]})),
    stops("COCO: categories are words", coco(lambda content: content | {"categories": ["a"]})),
    stops("COCO: no categories", coco(lambda content: content | {"categories": []})),
    *[
        stops(f"COCO: {kind[:-1]} with {key} = {str(value)[:30]}", entry(kind, **{key: value}))
        for kind, key, values in (
            ("images", "id", (None, [1], {"a": 1}, True, "0", 1.5, 10**30)),
            (
                "images",
                "file_name",
                (None, 5, ["a"], "", "../../../etc/passwd", "/dev/zero", "a\0b", "x" * 5000, "good0.png\n"),
            ),
            ("images", "width", ("48", None, -1, 10**30, 1e308, True, [48])),
            ("annotations", "image_id", (None, [1], "1", True, 10**30)),
            ("annotations", "category_id", (None, [1], "1", 99, {"a": 1}, 1.0)),
            (
                "annotations",
                "bbox",
                (
                    None,
                    "2 2 20 20",
                    [1, 2, 3],
                    [1, 2, 3, "4"],
                    [[1, 2, 3, 4]],
                    {"x": 1},
                    [1e12, 1e12, 1e12, 1e12],
                    [int(DIGITS), 1, 2, 3],
                    [-5, -5, 0, 0],
                    [True, 1, 2, 3],
                ),
            ),
            ("annotations", "area", ("big", [1], -5, int(DIGITS), 1e308)),
            ("annotations", "iscrowd", ("yes", [1], {"a": 1}, None)),
            ("annotations", "id", (None, [1], {"a": 1})),
            ("categories", "id", (None, [1], "1", 10**30, -1)),
            ("categories", "name", (None, 5, ["a"], "", "\x1b[31m", "x" * 100_000)),
        )
        for value in values
    ],
    *[
        Case(
            f"COCO: segmentation {name}: {command[0]}",
            coco(partial(_outlined, outline=value)),
            command,
            exit=(0, 1, 2),
        )
        for name, value in (
            ("polygon at 10^12", POLYGON),
            ("polygon of words", [["a", "b", "c", "d", "e", "f"]]),
            ("polygon of 400 digits", [[int(DIGITS)] * 6]),
            ("polygon of a million points", [[n % 40 for n in range(2_000_000)]]),
            ("runs for 10^9 x 10^9", {"size": [10**9, 10**9], "counts": [10**18]}),
            ("runs as text for 10^9 x 10^9", {"size": [10**9, 10**9], "counts": "0" * 20}),
            ("runs below 0", {"size": [40, 48], "counts": [-5, 1925]}),
            ("runs of words", {"size": [40, 48], "counts": ["a"]}),
            ("runs without size", {"counts": [1920]}),
            ("runs of a size of words", {"size": "40 x 48", "counts": [1920]}),
            ("runs as damaged text", {"size": [40, 48], "counts": "\u00e9\u00e9"}),
            ("a word", "polygon"),
            ("a number", 5),
            ("lists of lists of lists", [[[1, 2], [3, 4]]]),
        )
        for command in (CHECK, ("convert", "{data}", "{out}", "--to", "masks"))
    ],
    Case("COCO: 300,000 boxes in two images", coco(_many_boxes), CHECK, exit=(0, 1), seconds=60),
    Case(
        "COCO: 300,000 boxes in two images: show",
        coco(_many_boxes),
        ("show", "{data}", "--out", "{out}.png"),
        exit=(0,),
        seconds=60,
    ),
    *[Case(f"COCO: {name}", coco(raw=make), CHECK, exit=(0, 1, 2)) for name, make in NOT_FILES.items()],
    bad("masks: empty", mask(b"")),
    bad("masks: half", mask(encoded("PNG", Image.fromarray(np.eye(40, 48, dtype=np.uint8)))[:60])),
    bad("masks: a JPEG", mask(encoded("JPEG", photo(mode="L")))),
    bad("masks: in colors", mask(encoded("PNG"))),
    bad("masks: of float", mask(encoded("TIFF", Image.fromarray(np.ones((40, 48), np.float32))))),
    bad("masks: of another size", mask(encoded("PNG", Image.fromarray(np.eye(20, dtype=np.uint8))))),
    bad("masks: 20,000 x 20,000 bits", mask(png(20000, 20000, bits=1))),
    bad("masks: claims 2^31 x 2^31", mask(png(2**31 - 1, 2**31 - 1, rows=b"x"))),
    Case(
        "masks: of 16 bits",
        mask(encoded("PNG", Image.fromarray(np.full((40, 48), 40000, np.uint16)))),
        CHECK,
        exit=(0, 1),
    ),
    *[Case(f"masks: {name}", mask(make), CHECK, exit=(0, 1, 2)) for name, make in NOT_FILES.items()],
    bad("points: not JSON", points("[{"), says=[]),
    bad("points: 100,000 levels", points("[" * 100_000), says=[]),
    bad("points: nan", points('[{"W": "nan", "H": "0.5", "Point(x,y)": "0.5,0.5", "Name": "a"}]'), says=[]),
    bad("points: numbers of 5,000 digits", points(f'[{{"W": {GIANT}, "H": "0.5", "Point(x,y)": "0.5,0.5"}}]'), says=[]),
    bad("points: lists", points('[{"W": [1], "H": {}, "Point(x,y)": 5, "Name": null}]'), says=[]),
    stray("a stray XML: a pipe", "notes.xml", NOT_FILES["a pipe"]),
    stray("a stray XML: entities that grow", "notes.xml", ENTITY + "<a>&bbbbbbbbb;</a>"),
    stray("a stray XML: a link to /dev/zero", "notes.xml", NOT_FILES["a link to /dev/zero"]),
    stray("a stray JSON: a pipe", "notes.json", NOT_FILES["a pipe"]),
    stray("a stray JSON: a link to /dev/zero", "notes.json", NOT_FILES["a link to /dev/zero"]),
    stray("a stray JSON: 100,000 levels", "notes.json", "[" * 100_000),
    stray("a stray JSON: the name of an image", "good0.json", "[" * 100_000),
    stray("a stray text: a pipe", "good0.txt", NOT_FILES["a pipe"]),
    stray("a stray text: a link to /dev/zero", "good0.txt", NOT_FILES["a link to /dev/zero"]),
    stray("a stray text: 10 GB", "good0.txt", sparse(b"hello\n", 10 << 30)),
    stray("a stray XML: a folder", "notes.xml", NOT_FILES["a folder"]),
    stray("a stray JSON: a folder", "notes.json", NOT_FILES["a folder"]),
    stray("a stray text: a folder", "good0.txt", NOT_FILES["a folder"]),
]
