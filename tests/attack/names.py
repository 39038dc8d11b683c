"""Attacks by the names of files and classes."""

from __future__ import annotations

import csv
import json
import os
from functools import partial
from pathlib import Path

from attack.case import TRAIN, Case, Make, Outcome
from attack.make import encoded, photo

NAMES: dict[str, bytes] = {
    "invalid UTF-8": b"br\xf6t",
    "lone continuation bytes": b"\x80\x81",
    "a new line": b"two\nlines",
    "a carriage return": b"over\rwritten",
    "a tab": b"a\tb",
    "a color sequence": b"\x1b[31mred\x1b[0m",
    "a title sequence": b"\x1b]0;title\x07",
    "a bell": b"\x07bell",
    "a C1 control": "a\u009b31mb".encode(),
    "a right-to-left override": "a\u202egpj".encode(),
    "a zero-width joiner": "a\u200db".encode(),
    "Arabic": "خبز".encode(),
    "Hangul, decomposed": "\u1112\u1161\u11ab".encode(),
    "emoji": "🥐👨‍👩‍👧".encode(),
    "a script": b"<script>alert(1)<",
    "an entity": b"&amp;&lt;",
    "a template": b"{{ 7*7 }}{% x %}",
    "rich markup": b"[red]x[bold]",
    "markup that does not end": b"[bold",
    "a link in markup": b"[link=file:x]y",
    "a formula": b"=1+1",
    "a plus formula": b"+1+1",
    "a minus formula": b"-1+1",
    "an at formula": b"@SUM(A1)",
    "a tab formula": b"\t=1+1",
    "a comma and quotes": b'a,"b";c',
    "a percent": b"%s%n{0}",
    "dollars": b"$x^2$ $(id) `id`",
    "a backslash": b"a\\nb\\u0041",
    "spaces around": b" a ",
    "null as a word": b"null",
    "a number": b"1e5",
    "yes": b"yes",
    "a dash first": b"--help",
    "a tilde": b"~",
    "a star": b"*?[a]",
    "255 bytes": ("빵" * 83).encode(),
}
LOCALES = {
    "the C locale": {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
}


def file_called(name: bytes) -> Make:
    """A good image of that name, cut to 255 bytes with its extension."""

    def make(folder: Path) -> None:
        ending = b".png"
        (folder / os.fsdecode(name[: 255 - len(ending)] + ending)).write_bytes(encoded("PNG"))
        (folder / "good.png").write_bytes(encoded("PNG", photo(1)))

    return make


def bad_file_called(name: bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / os.fsdecode(name[:251] + b".png")).write_bytes(b"no image")
        (folder / "good.png").write_bytes(encoded("PNG", photo(1)))

    return make


def class_called(*names: bytes) -> Make:
    def make(folder: Path) -> None:
        for place, name in enumerate((*names, b"other")):
            (folder / os.fsdecode(name)).mkdir()
            for number in range(2):
                image = encoded("PNG", photo(10 * place + number))
                (folder / os.fsdecode(name) / f"{number}.png").write_bytes(image)

    return make


def _id_is(outcome: Outcome, *, name: bytes) -> None:
    ids = [line["id"] for line in outcome.lines()]
    found = {Path(id).name.encode("utf-8", "surrogateescape") for id in ids}  # as bytes, in whatever locale
    assert name[:251] + b".png" in found, ids


def _class_is(outcome: Outcome, *, name: bytes) -> None:
    import unicodedata

    told = json.loads(outcome.stdout)["class_names"]
    assert unicodedata.normalize("NFC", os.fsdecode(name)) in told, told


def _csv_is_safe(outcome: Outcome) -> None:
    with outcome.folder.joinpath("out.csv").open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 3, rows
    for row in rows:
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), row


CASES = [
    *[
        Case(
            f"a file called {kind}: predict as JSON",
            file_called(name),
            ("predict", "{run}", "{data}", "--json"),
            exit=(0,),
            verify=partial(_id_is, name=name),
        )
        for kind, name in NAMES.items()
    ],
    *[
        Case(
            f"a file called {kind}, which cannot be read: check",
            bad_file_called(name),
            exit=(1,),
            says=["cannot be read"],
        )
        for kind, name in NAMES.items()
    ],
    *[
        Case(
            f"a class called {kind}: check as JSON",
            class_called(name),
            ("check", "{data}", "--json"),
            exit=(0, 1),
            verify=partial(_class_is, name=name),
        )
        for kind, name in NAMES.items()
    ],
    *[
        Case(f"a class called {kind}: check", class_called(name), exit=(0, 1), says=["other"])
        for kind, name in NAMES.items()
        if kind
        in (
            "invalid UTF-8",
            "a new line",
            "a color sequence",
            "a C1 control",
            "rich markup",
            "markup that does not end",
            "a right-to-left override",
            "255 bytes",
            "emoji",
        )
    ],
    *[
        Case(f"a file called {kind}: predict, text", file_called(name), ("predict", "{run}", "{data}"), exit=(0,))
        for kind, name in NAMES.items()
        if kind in ("invalid UTF-8", "a new line", "a color sequence", "a tab", "emoji")
    ],
    *[
        Case(
            f"a relative file called {kind}: predict --csv",
            file_called(name),
            ("predict", "{run}", ".", "--csv", "{out}.csv"),
            exit=(0,),
            verify=_csv_is_safe,
            inside=True,
        )
        for kind, name in NAMES.items()
        if "formula" in kind or kind in ("invalid UTF-8", "a new line", "a dash first")
    ],
    Case(
        "files of all names: annotated copies",
        lambda folder: [file_called(n)(folder) for n in NAMES.values()],
        ("predict", "{run}", "{data}", "--annotate", "{out}"),
        exit=(0,),
    ),
    Case(
        "files of all names: contact sheet of show",
        lambda folder: [file_called(n)(folder) for n in NAMES.values()],
        ("show", "{data}", "--out", "{out}.png", "-n", "40"),
        exit=(0,),
    ),
    Case(
        "classes of all names: show",
        class_called(*NAMES.values()),
        ("show", "{data}", "--out", "{out}.png", "-n", "80"),
        exit=(0,),
    ),
    Case(
        "classes of all names: evaluate of a run that knows others",
        class_called(*NAMES.values()),
        ("evaluate", "{run}", "{data}"),
        exit=(1, 2),
        says=("not trained on",),
    ),
    Case(
        "classes of all names: train",
        class_called(*NAMES.values()),
        (*TRAIN, "--epochs", "1"),
        exit=(0,),
        seconds=90,
    ),
    *[
        Case(
            f"{kind}: check of strange names",
            class_called("빵".encode(), b"br\xf6t", "🥐".encode()),
            exit=(0, 1),
            environment=settings,
            own_process=True,
        )
        for kind, settings in LOCALES.items()
    ],
    *[
        Case(
            f"{kind}: predict of strange names as JSON",
            file_called("빵 br\u00f6t".encode()),
            ("predict", "{run}", "{data}", "--json"),
            exit=(0,),
            environment=settings,
            own_process=True,
            verify=partial(_id_is, name="빵 br\u00f6t".encode()),
        )
        for kind, settings in LOCALES.items()
    ],
]
