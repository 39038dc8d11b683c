"""The folder for apps: rendered, and put in place of one that handlens made."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from handlens.app.golden import GoldenImage, Pixels, noise, pnm
from handlens.errors import InputError
from handlens.names import as_json
from handlens.preprocess import PADDING, Preprocess
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json
from handlens.runtimes.names import FOR_APPS

if TYPE_CHECKING:
    from handlens.runtimes.engine import Arrays
    from handlens.runtimes.runtime import Runtime

TEMPLATES = Path(__file__).with_name("templates")
LANGUAGES = ("kotlin", "swift", "cpp", "javascript")  # beside Python; those that a runtime has templates for
MANIFEST = "manifest.json"  # the files that handlens wrote, with their SHA-256
LEFT = ("__pycache__", ".DS_Store")  # what running and looking leaves behind
NAMED = 100  # classes that a README lists


def app_folder(file: Path) -> Path:
    """Where the folder of an exported file lies. Not ".app": macOS takes such folders for programs."""
    return file.with_name(f"{file.name}{FOR_APPS}")


def write_app_folder(
    folder: Path,
    *,
    model: Mapping[str, Any],
    images: Sequence[GoldenImage],
    expected: Arrays,
    preprocess: Preprocess,
    runtime: Runtime,
    answer: Path,
) -> None:
    """
    Args:
        folder: an empty one, which is filled.
        model: what model.json says.
        images, expected: of which these are the outputs (N, ...).
        answer: `ForApps.answer`.
    """
    written = {
        "model.json": _json(model),
        "answer.py": answer.read_text(encoding="utf-8"),
        "runner.py": runtime.runner.read_text(encoding="utf-8"),
    }
    context = _context(model, images, expected, runtime)
    written |= dict(_rendered(runtime, context))
    for name, text in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    golden = folder / "golden"
    golden.mkdir()
    inputs = None if model["resizes"] else preprocess
    reader = _module(answer)
    entries = []
    for place, image in enumerate(images):
        height, width = image.image.shape[:2]
        arrays = {name: values[place] for name, values in expected.items()}
        (golden / image.file).write_bytes(image.content)
        found = reader.answer(
            arrays, model=model, height=height, width=width, place=preprocess.placement(height, width)
        )
        entry = {"file": image.file, "id": image.id} | _write_pixels(golden, image.name, image.image, inputs)
        entries.append(entry | _write_outputs(golden, image.name, arrays) | {"answer": found})
    tried = noise() if inputs else {}
    for name, pixels in tried.items():
        _write_pixels(golden, name, pixels, inputs)
    (golden / "golden.json").write_text(_json({"images": entries, "resize": list(tried)}), encoding="utf-8")
    (folder / MANIFEST).write_text(_json(_digests(folder)), encoding="utf-8")


def _write_pixels(golden: Path, name: str, image: Pixels, preprocess: Preprocess | None) -> dict[str, str]:
    """The image as it is decoded and as it is the model's input, which is the same where nothing resizes it before."""
    (golden / f"{name}.ppm").write_bytes(pnm(image))
    if preprocess is None:
        return {"pixels": f"{name}.ppm", "input": f"{name}.ppm"}
    file = f"{name}.input.{'ppm' if preprocess.channels == 3 else 'pgm'}"
    (golden / file).write_bytes(pnm(preprocess.pixels(image)))
    return {"pixels": f"{name}.ppm", "input": file}


def _write_outputs(golden: Path, name: str, arrays: Arrays) -> dict[str, Any]:
    """Numbers for golden.json, of a map of classes the name of a file."""
    outputs: dict[str, Any] = {}
    for output, values in arrays.items():
        if values.dtype == np.uint8 and values.ndim == 2:
            outputs[output] = f"{name}.{output}.pgm"
            (golden / outputs[output]).write_bytes(pnm(values))
        else:
            outputs[output] = [_short(number) for number in values.ravel().tolist()]
    return {"outputs": outputs, "shapes": {output: list(values.shape) for output, values in arrays.items()}}


def refuse_others(folder: Path) -> None:
    """
    Raises:
        InputError: there is something in the folder's place that handlens did not write.
    """
    if not folder.exists():
        return
    ours = read_json(folder / MANIFEST) if folder.is_dir() and (folder / MANIFEST).is_file() else {}
    if not isinstance(ours, dict) or "selftest.py" not in ours:  # somebody else's
        ours = {}
    found = _digests(folder) if folder.is_dir() else {}
    others = [name for name, digest in found.items() if ours.get(name) != digest and (name != MANIFEST or not ours)]
    if others or not ours:
        named = f": {', '.join(others[:3])}" if others else ""
        raise InputError(
            f"{folder} holds what handlens did not write{named}; the export would replace it: move it elsewhere, or "
            "give another --out."
        )


def _context(
    model: Mapping[str, Any], images: Sequence[GoldenImage], expected: Arrays, runtime: Runtime
) -> dict[str, Any]:
    """What templates are filled with."""
    p, resizes = model["preprocess"], model["resizes"]
    channels = 1 if p["color"] == "gray" and not resizes else 3
    peak_of = next((name for name, values in expected.items() if values.dtype.kind == "f" and values.ndim == 2), "")
    shape = "height x width x 3" if resizes else f"{p['height']} x {p['width']} x {channels}"
    peaks: list[dict[str, float] | None] = [
        {"place": int(values.argmax()), "value": _short(float(values.max()))} for values in expected.get(peak_of, [])
    ]
    close = expected[model["check"]["output"]] if model["check"]["kind"] == "close" else [()] * len(images)
    wanted = [[_short(float(number)) for number in np.ravel(values)] for values in close]
    return {
        # Names of files are the user's: nothing of them ends a string or a comment. README says where that renames one.
        "file": _safe(model["file"]),
        "files": [_safe(name) for name in model["files"]],
        "renamed": any(_safe(name) != name for name in model["files"]),
        "model": model,
        "runtime": runtime.title,
        "p": p | {"channels": 1 if p["color"] == "gray" else 3},
        "padding": PADDING,
        "resizes": resizes,
        "bytes": p["height"] * p["width"] * channels,
        "shape_words": f"{shape}, row by row",
        "extension": "pgm" if channels == 1 else "ppm",
        "outputs": model["outputs"],
        "check": model["check"],
        "images": [
            {"name": image.name, "file": image.file, "peak": peak, "wanted": numbers}
            for image, peak, numbers in zip(images, peaks or [None] * len(images), wanted, strict=True)
        ],
        "all_images": [image.name for image in images] + ([] if resizes else list(noise())),
        "peak_of": peak_of,
        "languages": [name for name in LANGUAGES if (runtime.app / name).is_dir()],
        "listed": len(model["class_names"]) <= NAMED,
    }


def _rendered(runtime: Runtime, context: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(path in the folder, text) of each template of the runtime's languages; one that comes out empty is left out."""
    environment = Environment(
        loader=FileSystemLoader([runtime.app, TEMPLATES]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = as_json
    wanted = ("README.md.jinja", *(f"{name}/" for name in ("python", *context["languages"])))
    for name in environment.list_templates(filter_func=lambda name: name.startswith(wanted)):
        text = environment.get_template(name).render(context)
        if text.strip():
            yield name.removesuffix(".jinja").removeprefix("python/"), text


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    names = {path.relative_to(folder): path for path in files}
    return {
        name.as_posix(): "a link" if path.is_symlink() else sha256_of(path)
        for name, path in names.items()
        if not set(LEFT) & set(name.parts)
    }


def _module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("answer", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _safe(name: str) -> str:
    return re.sub(r'["\\$`*\r\n]', "_", name)


def _short(number: float) -> float:
    """A float32 with as many digits as it has."""
    return float(f"{number:.9g}") if isinstance(number, float) else number


def _json(value: Any) -> str:
    """Readable: a list of numbers on one line. What looks like one in a text stays as it is."""
    text = as_json(value, indent=1)
    parts = re.compile(r'"(?:[^"\\]|\\.)*"|\[\s+[-\d.e,\s]+\]')
    return parts.sub(lambda found: found[0] if found[0][0] == '"' else " ".join(found[0].split()), text) + "\n"
