"""One page about a model, for people: a single HTML file that needs nothing else and sends nothing anywhere."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import Any

from handlens.figures import percent
from handlens.files import write_text
from handlens.fonts import font_file
from handlens.names import for_terminal

HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


INDEX = "<!-- index -->"
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>', re.DOTALL)
FEWEST_SECTIONS = 4  # of fewer, a page needs no index


@dataclass(frozen=True)
class Picture:
    """
    Attributes:
        content: PNG or JPEG bytes.
        title: what it shows.
    """

    content: bytes
    title: str


@dataclass(frozen=True)
class Example:
    """An image on the page.

    Attributes:
        file: its name, by which it is found in the data set.
        lines: what is said of it.
        pictures: the image, and what else belongs beside it.
        wrong: it was predicted wrong.
    """

    file: str
    lines: tuple[str, ...]
    pictures: tuple[Picture, ...]
    wrong: bool = False


@dataclass(frozen=True)
class About:
    """What a report says beside what its task measures and draws.

    Attributes:
        dataset: what was measured on: {root, split, images}. Only the folder's name is shown.
        findings: {level, message} each, as the audit stored them.
        exports: as `export.parity.Parity.to_dict` returns each, with its `file`.
        notes: further sentences.
        words: what this kind of model is spoken of in: "counted" and "total" of the training data; "compared",
            "differs", "tolerated" and "metric" of an export's proof.
        intervals: of the metric and of each class: {value, interval, draws, of_class, rows: [{class, value,
            interval}]}, numbers as they are written.
        trust: what was asked of prediction sets and unknown images, in sentences.
        provenance: how the model was made, in sentences.
        cost: (what, how much, unit or remark) each.
        commands: that make the model and this page again.
    """

    dataset: Mapping[str, Any]
    findings: Sequence[Mapping[str, Any]] = ()
    exports: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    words: Mapping[str, str | None] = field(default_factory=dict)
    intervals: Mapping[str, Any] | None = None
    trust: Sequence[str] = ()
    provenance: Sequence[str] = ()
    cost: Sequence[tuple[str, str, str]] = ()
    commands: Sequence[str] = ()


def write_report(
    path: Path,
    *,
    template: Path,
    title: str,
    model: Mapping[str, Any],
    metrics: Mapping[str, Any],
    images: Mapping[str, bytes | None],
    examples: Mapping[str, Any],
    about: About,
    more: dict[str, Any] | None = None,
) -> None:
    """Write the page; the old one stays whole if that fails.

    Args:
        path: the .html file.
        template: the task's part of the page.
        title: the run's name.
        model: model.json. `class_names`, `architecture` and `preprocess` are needed; `recipe`, `validation`, `data`,
            `pretrained` and `machine` are shown where they are there.
        metrics: as `metrics.classification_metrics`, `tags.tag_metrics`, `segmentation.segmentation_metrics` or
            `detection.detection_metrics` returns them.
        images: PNG or JPEG bytes, or nothing: `curves` for all, `confusion` and `reliability` of classes, `confusion`
            of masks, `precision_recall` of boxes and of several labels.
        examples: {"wrong", "right"}: of classes a list of `Example` each; of the others "wrong" alone, a contact sheet
            or None, of masks and boxes with truth beside answer.
        more: what the template needs beside these.

    Every text is made safe: class names and paths are the user's, and may be somebody else's.

    Raises:
        ValueError: an image is neither PNG nor JPEG.
        OSError: the file cannot be written.
    """
    values: dict[str, Any] = {
        "title": title,
        "model": model,
        "metrics": metrics,
        "images": images,
        "examples": examples,
    }
    write_page(path, template, values | {part.name: getattr(about, part.name) for part in fields(about)} | (more or {}))


def write_page(path: Path, template: Path, values: Mapping[str, Any]) -> None:
    """Write any page that extends page.html.jinja; the old one stays whole if that fails.

    Args:
        values: what the template asks for; every text is made safe.

    Raises:
        ValueError: an image is neither PNG nor JPEG.
        OSError: the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent], encoding="utf-8"),
        autoescape=True,
        # A mark in a name could turn the direction of the sentence around it. What macros made is done already.
        finalize=lambda value: for_terminal(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "data_uri": data_uri, "folder_name": _folder_name}
    environment.filters["sum_of_values"] = lambda counts: sum(counts.values())
    body = environment.get_template(template.name)
    page = body.render(values, font=None)
    font = _hangul_font(page)
    write_text(path, _with_index(body.render(values, font=font) if font else page))


def _with_index(page: str) -> str:
    """Links to the headings that bear an id, which can be gone through by keyboard."""
    headings = HEADING.findall(page)
    links = "".join(f'<li><a href="#{place}">{name}</a></li>' for place, name in headings)
    index = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(headings) >= FEWEST_SECTIONS else ""
    return page.replace(INDEX, index, 1)


def number(value: Any) -> str:
    """A value as people read it: 1,234 or 0.0312 or 1e-06; lists in a row; nothing -> "–"."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(number(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {number(item)}" for key, item in value.items())
    return str(value)


def data_uri(image: bytes) -> str:
    """PNG or JPEG bytes as an address that carries them.

    Raises:
        ValueError: the bytes are neither.
    """
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif image.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    else:
        raise ValueError(f"an image in a report is PNG or JPEG bytes, got {image[:8]!r}")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _hangul_font(page: str) -> str | None:
    """An address that carries a font with the page's Hangul and nothing else, a few kB, or None without Hangul.

    A machine without a Korean font (a container, a server) would show boxes for class names.
    """
    characters = "".join(sorted(set(HANGUL.findall(unicodedata.normalize("NFC", page)))))
    if not characters:
        return None
    from fontTools.subset import Options, Subsetter  # comes with matplotlib
    from fontTools.ttLib import TTFont

    options = Options()
    options.drop_tables += ["TSI0", "TSI1", "TSI2", "TSI3", "TSI5"]  # hinting sources, of which it would warn
    subsetter = Subsetter(options)
    subsetter.populate(text=characters)
    buffer = BytesIO()
    with TTFont(font_file(characters)) as font:
        subsetter.subset(font)
        font.flavor = "woff"
        font.save(buffer)
    return f"data:font/woff;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _folder_name(root: Any) -> str:
    """The last part of a path: a page that is passed on need not show somebody's home folder."""
    return Path(str(root)).name or str(root)
