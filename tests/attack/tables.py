"""Attacks by tables, handlens.yaml, data.yaml and recipes."""

from __future__ import annotations

from pathlib import Path

from attack.case import CHECK, CHECK_JSON, Case, Make, has_class
from attack.make import NOT_FILES, TABLE, classes, lazily, photo, sparse, table, with_file, yolo

TRAIN = ("train", "{data}", "--out", "{out}", "--recipe", "{data}/recipe.yaml")
DEEP = "[" * 100_000
ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
BAD_YAML = {
    "not YAML": b"a: [b",
    "a list": b"- a\n- b\n",
    "a word": b"hello",
    "a number": b"5",
    "100,000 levels": DEEP.encode(),
    "20,000 levels of maps": ("{a: " * 20_000).encode(),
    "aliases that grow": ALIASES.encode(),
    "an alias of itself": b"class_names: &a [*a]\n",
    "an impossible date": b"ignore: [2024-13-45]\n",
    "an impossible time": b"ignore: [2024-01-01 99:99:99]\n",
    "an odd integer": b"masks: {values: {0o8: 1}}\n",
    "an integer of underlines": b"ignore: [0x_, 0b_, 1_]\n",
    "a number of 5,000 digits": b"masks: {values: {" + b"9" * 5000 + b": 1}}\n",
    "a sexagesimal number": b"masks: {values: {1:30: 1}}\n",
    "a key that is a list": b"? [a]\n: b\n",
    "a key that is a map": b"{{a: 1}: 2}\n",
    "a Python object": b"a: !!python/object/apply:os.system ['touch x']\n",
    "an unknown tag": b"a: !secret b\n",
    "damaged binary": b"a: !!binary '*'\n",
    "merged with itself": b"a: &a\n  <<: *a\n",
    "merged with a word": b"<<: word\n",
    "a set": b"ignore: !!set {a, b}\n",
    "infinity": b"ignore: .inf\n",
    "a control character": b"a: \x07\n",
    "bytes": bytes(range(256)),
    "UTF-16 without a mark": "format: folders\n".encode("utf-16-le"),
    "an unknown key": b"formatt: folders\n",
    "a wrong type": b"format: 5\n",
    "a class that is a date": b"class_names: [2024-01-01, b]\n",
    "a class that is null": b"class_names: [~, b]\n",
    "a pattern that is none": b"groups: '(?P<group>['\n",
    "a pattern that never ends": b"label_pattern: '(?P<label>(g|go|o|d)+)+x'\nformat: filename\n",
    "a key twice": b"format: folders\nformat: flat\n",
    "two documents": b"format: folders\n---\nformat: flat\n",
}


def yaml_file(name: str, content: bytes | Make) -> Make:
    return with_file(name, content, base=classes)


def data_yaml(content: str | bytes | Make) -> Make:
    def make(folder: Path) -> None:
        yolo(folder)
        (folder / "data.yaml").unlink()
        if callable(content):
            content(folder / "data.yaml")
        else:
            (folder / "data.yaml").write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def many_rows(folder: Path) -> None:
    for number in range(4):
        photo(number).save(folder / f"good{number}.png")
    rows = "".join(f"missing{number}.png,a\n" for number in range(1_000_000))
    (folder / "labels.csv").write_text(TABLE + rows)


def repeated_rows(folder: Path) -> None:
    for number in range(4):
        photo(number).save(folder / f"good{number}.png")
    (folder / "labels.csv").write_text(TABLE + TABLE.split("\n", 1)[1] * 250_000)


KOREAN = TABLE.replace(",a", ",빵")
CASES = [
    Case("table: a field of 200,000 characters", table(TABLE + "x.png," + "y" * 200_000 + "\n"), says=("labels.csv",)),
    Case(
        "table: a quote that never closes",
        table('file,label\n"good0.png,a\n' + "good1.png,b\n" * 50_000),
        says=("labels.csv",),
    ),
    Case(
        "table: a quote that never closes, short",
        table('file,label\ngood0.png,"a\ngood1.png,b\n'),
        says=("labels.csv",),
    ),
    Case("table: zero bytes", table(TABLE.replace("good1", "good\0")), exit=(0, 1, 2), says=("labels.csv",)),
    Case("table: UTF-16", table(KOREAN.encode("utf-16")), CHECK_JSON, exit=(0, 1), verify=lambda o: has_class(o, "빵")),
    Case(
        "table: UTF-8 with BOM",
        table(KOREAN.encode("utf-8-sig")),
        CHECK_JSON,
        exit=(0, 1),
        verify=lambda o: has_class(o, "빵"),
    ),
    Case("table: cp949", table(KOREAN.encode("cp949")), says=("labels.csv", "encoding: ")),
    Case(
        "table: cp949 that handlens.yaml declares",
        lambda f: ([table(KOREAN.encode("cp949"))(f), (f / "handlens.yaml").write_text("csv: {encoding: cp949}\n")]),
        CHECK_JSON,
        exit=(0, 1),
        verify=lambda o: has_class(o, "빵"),
    ),
    Case(
        "table: an encoding that there is not",
        lambda f: ([table(KOREAN.encode("cp949"))(f), (f / "handlens.yaml").write_text("csv: {encoding: klingon}\n")]),
        says=("klingon",),
    ),
    Case("table: Latin-1", table(TABLE.replace(",a", ",br\u00f6t").encode("latin-1")), says=("labels.csv",)),
    Case("table: empty", table(""), exit=(0, 1, 2)),
    Case("table: the header alone", table("file,label\n"), exit=(0, 1, 2)),
    Case("table: a row too short", table(TABLE + "good0.png\n"), says=("line 6",)),
    Case("table: a row too long", table(TABLE + "good0.png,a,b,c\n"), says=("line 6",)),
    Case("table: columns of one name", table("file,label,label\ngood0.png,a,b\n"), says=("label",)),
    Case("table: an image with two labels", table(TABLE + "good0.png,b\n"), says=("line 6", "good0.png")),
    Case(
        "table: 100,000 columns",
        table("file,label," + ",".join(map(str, range(100_000))) + "\ngood0.png,a" + ",1" * 100_000 + "\n"),
        exit=(0, 1, 2),
    ),
    Case("table: a million rows of missing files", many_rows, says=("missing",), seconds=90),
    Case("table: a million rows that repeat", repeated_rows, exit=(0, 1), says=("repeat",), seconds=90),
    Case(
        "table: a million lines without a comma",
        with_file("labels.csv", lazily(lambda: "x\n" * 1_000_000)),
        exit=(0, 1, 2),
        seconds=60,
    ),
    Case("table: one line of 50 MB", with_file("labels.csv", lazily(lambda: "x" * (50 << 20))), exit=(0, 1, 2)),
    Case("table: control sequences", table(TABLE.replace(",a", ",\x1b[31ma\u202e")), exit=(0, 1, 2)),
    Case("table: a file outside", table(TABLE + "../../../../etc/passwd,a\n"), exit=(1, 2)),
    Case("table: /dev/zero as an image", table(TABLE + "/dev/zero,a\n"), exit=(1, 2), says=("zero",)),
    Case(
        "table: 10,000 digits in a number",
        table("file,value\n" + "".join(f"good{n}.png,{'9' * 10_000}\n" for n in range(4))),
        exit=(1, 2),
    ),
    Case(
        "table: nan in numbers",
        table("file,value\ngood0.png,nan\ngood1.png,inf\ngood2.png,1\ngood3.png,2\n"),
        exit=(1, 2),
        says=("nan|inf",),
    ),
    *[Case(f"table: {name}", with_file("labels.csv", make), CHECK, exit=(0, 1, 2)) for name, make in NOT_FILES.items()],
    *[
        Case(
            f"a stray table: {name}", with_file("notes.csv", make, base=classes), CHECK, exit=(0, 1), says=("4 images",)
        )
        for name, make in NOT_FILES.items()
        if name in ("a pipe", "a link to /dev/zero", "10 GB of holes", "a folder")
    ],
    Case(
        "a stray table of bytes",
        with_file("notes.csv", bytes(range(256)), base=classes),
        CHECK,
        exit=(0, 1),
        says=("4 images",),
    ),
    Case(
        "a stray table with a field of 200,000 characters",
        with_file("notes.csv", b"a,b\n" + b"y" * 200_000, base=classes),
        CHECK,
        exit=(0, 1),
        says=("4 images",),
    ),
    *[
        Case(
            f"handlens.yaml: {name}",
            yaml_file("handlens.yaml", content),
            exit=(1, 2),
            says=(r"handlens\.yaml|class_names",),
        )
        for name, content in BAD_YAML.items()
    ],
    *[
        Case(f"handlens.yaml: {name}", yaml_file("handlens.yaml", make), exit=(0, 1, 2))
        for name, make in NOT_FILES.items()
    ],
    *[
        Case(f"data.yaml: {name}", data_yaml(content), exit=(0, 1, 2))
        for name, content in BAD_YAML.items()
        if name
        in (
            "not YAML",
            "100,000 levels",
            "aliases that grow",
            "an impossible date",
            "an odd integer",
            "bytes",
            "a key twice",
            "a number of 5,000 digits",
            "a Python object",
            "a key that is a list",
        )
    ],
    Case("data.yaml: a number as name", data_yaml("names: [1, 2]\n"), exit=(0, 1, 2)),
    Case("data.yaml: names from 10^9", data_yaml("names: {1000000000: a, 0: b}\n"), exit=(0, 1, 2)),
    Case("data.yaml: names of 400 digits", data_yaml(f"names: {{{'9' * 400}: a, 0: b}}\n"), exit=(0, 1, 2)),
    Case("data.yaml: train is a number", data_yaml("names: [a, b]\ntrain: 5\n"), exit=(0, 1, 2)),
    Case("data.yaml: train is a map", data_yaml("names: [a, b]\ntrain: {a: b}\n"), exit=(0, 1, 2)),
    Case("data.yaml: train is /dev/zero", data_yaml("names: [a, b]\ntrain: /dev/zero\n"), exit=(0, 1, 2)),
    Case("data.yaml: a path with a zero byte", data_yaml('names: [a, b]\ntrain: "a\\0b"\n'), exit=(0, 1, 2)),
    Case("data.yaml: a path of 5,000 characters", data_yaml(f"names: [a, b]\ntrain: {'x' * 5000}\n"), exit=(0, 1, 2)),
    *[Case(f"data.yaml: {name}", data_yaml(make), exit=(0, 1, 2)) for name, make in NOT_FILES.items()],
    *[
        Case(f"recipe: {name}", yaml_file("recipe.yaml", content), TRAIN, exit=(1, 2), says=(r"recipe",))
        for name, content in BAD_YAML.items()
        if "class" not in name and "pattern" not in name
    ],
    *[
        Case(f"recipe: {name}", yaml_file("recipe.yaml", make), TRAIN, exit=(1, 2), says=("recipe",))
        for name, make in NOT_FILES.items()
    ],
    Case(
        "a recipe of 10 GB of text",
        yaml_file("recipe.yaml", sparse(b"mode: head\n#", 10 << 30)),
        TRAIN,
        exit=(2,),
        says=("recipe",),
    ),
]
