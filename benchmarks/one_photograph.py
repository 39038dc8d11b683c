"""One photograph, four ways: python benchmarks/one_photograph.py [--images N]

A file, an array, the command line, and the lines of the README in ONNX Runtime alone must agree: probabilities within
1e-3 and every label, on 500 photographs of 0.1 to 12 megapixels. They are the images of imagenet_val500, resized to
those sizes and saved as JPEG of many qualities, chroma subsamplings and orientations.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import ROOT, shared_images, store
from PIL import Image

import handlens

parser = argparse.ArgumentParser()
parser.add_argument("--images", type=int, default=500)
asked = parser.parse_args()
sources = sorted((shared_images("imagenet_val500") / "images").iterdir())[: asked.images]
rng = np.random.default_rng(0)


def photograph(source: Path, path: Path) -> float:
    """Write one of random size, and return its megapixels."""
    with Image.open(source) as image:
        image = image.convert("RGB")
    pixels = 10 ** rng.uniform(5, np.log10(12e6))
    scale = (pixels / (image.width * image.height)) ** 0.5
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))  # orientation
    image.save(
        path,
        quality=int(rng.integers(50, 98)),
        subsampling=int(rng.integers(0, 3)),
        progressive=bool(rng.integers(0, 2)),
        exif=exif,
    )
    return image.width * image.height / 1e6


def by_the_readme(files: list[Path], model: Path) -> np.ndarray:
    """(N, K) probabilities by the README's own lines, in a process without handlens."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "InferenceSession" in block)
    head, body = lines.split("\n\n", 1)
    wanted = predictor.preprocess
    assert "short, size = 224, 224" in body
    body = body.replace("short, size = 224, 224", f"short, size = {wanted.short_side}, {wanted.height}")
    body = body.replace('"photo.jpg"', "path").replace('onnxruntime.InferenceSession("model.onnx")', "session")
    code = f"{head}\nimport sys\nsession = onnxruntime.InferenceSession({str(model)!r})\nfound = []\n"
    code += "for path in sys.argv[2:]:\n" + "".join(f"    {line}\n" for line in body.splitlines())
    code += "    found.append(probabilities[0])\nassert 'handlens' not in sys.modules\nnp.save(sys.argv[1], found)\n"
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "found.npy"
        subprocess.run([sys.executable, "-I", "-c", code, destination, *files], check=True)
        return np.load(destination)


def by_the_command(files: list[Path]) -> np.ndarray:
    command = [sys.executable, "-m", "handlens", "predict", "mobilenet_v2", *map(str, files)]
    options = ["--precision", "fp32", "--json", "--top", str(len(names))]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    rows = []
    for line in done.stdout.splitlines():
        found = {entry["class"]: entry["probability"] for entry in json.loads(line)["top"]}
        rows.append([found[name] for name in names])
    return np.array(rows)


with tempfile.TemporaryDirectory() as scratch:
    files = [Path(scratch) / f"{number:03}.jpg" for number in range(len(sources))]
    megapixels = [photograph(source, file) for source, file in zip(sources, files, strict=True)]
    predictor = handlens.load("mobilenet_v2", precision="fp32")
    names = predictor.names
    begin = time.perf_counter()
    from_file = np.stack([predictor(file).probabilities for file in files])
    seconds = (time.perf_counter() - begin) / len(files)
    arrays = (np.asarray(handlens.data.decode.decode(file)) for file in files)
    from_array = np.stack([predictor(array).probabilities for array in arrays])
    model = Path(scratch) / "model.onnx"
    handlens.export("mobilenet_v2", to="onnx", out=model, data=shared_images("imagenet_val500"), images=20)
    answers = {
        "array": from_array,
        "command line": by_the_command(files),
        "README's lines, ONNX Runtime": by_the_readme(files, model),
    }
rows = [
    {
        "way": way,
        "images": len(files),
        "same labels": float((found.argmax(axis=1) == from_file.argmax(axis=1)).mean()),
        "largest difference of a probability": float(np.abs(found - from_file).max()),
    }
    for way, found in answers.items()
]
sizes = f"{min(megapixels):.2f} to {max(megapixels):.1f} megapixels, {1000 * seconds:.0f} ms a file"
store("one_photograph", rows, notes=[sizes])
assert all(row["same labels"] == 1 and row["largest difference of a probability"] < 1e-3 for row in rows), "too far"
