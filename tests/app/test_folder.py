"""The folder beside an export: what it holds, what its self-test catches, and what it does not replace."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import openvino
import pytest
from PIL import Image, ImageOps

import handlens
from command import handlens as command
from handlens.app.folder import _json, refuse_others
from handlens.app.golden import LONGEST, golden_images
from handlens.data.decode import decode
from handlens.errors import InputError
from handlens.files import write_json
from handlens.flow.runs import find_run
from handlens.reading.parsed import read_json

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
RECIPE = {"model": "lenet_color", "mode": "scratch", "image_size": 64, "epochs": 1, "workers": 0}


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its own golden images, and probabilities that depend on the image. Tests must not change it."""
    return handlens.train(data, out=tmp_path_factory.mktemp("app") / "run 1", recipe=RECIPE)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file. Tests must not change it."""
    out = tmp_path_factory.mktemp("out") / "빵 $1.xml"
    done = command("export", run, "--to", "openvino", "--out", out, "--max-images", "4", "--json")
    whole = json.loads(done.stdout)
    jsonschema.validate(whole, read_json(SCHEMAS / "export.json"))
    assert whole["exports"][0]["app"] == f"{out}-app"
    return out


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """The folder, beside a copy of the file."""
    shutil.copytree(exported.parent, tmp_path / "copy")
    return tmp_path / "copy" / f"{exported.name}-app"


def self_test(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", str(folder / "selftest.py"), *map(str, arguments)], capture_output=True, text=True
    )


def test_it_passes_anywhere_and_needs_no_handlens(copy: Path):
    script = (copy / "selftest.py").read_text(encoding="utf-8")
    watched = "\nassert not {'handlens', 'torch', 'jinja2', 'cv2'} & set(sys.modules)\nsys.exit(1 if failed else 0)"
    assert script.count("\nsys.exit(1 if failed else 0)") == 1
    (copy / "selftest.py").write_text(script.replace("\nsys.exit(1 if failed else 0)", watched), encoding="utf-8")
    done = self_test(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("OpenVINO ") and done.stdout.splitlines()[-1].endswith(": passed")
    assert sum(line.startswith("ok   ") for line in done.stdout.splitlines()) == 2 + 1 + 3 + 4
    (copy / "selftest.py").write_text(script.replace("from PIL import Image", "from no import Image"), encoding="utf-8")
    assert self_test(copy).returncode == 0  # decoding is not checked then
    moved = copy.parent / "elsewhere"
    moved.mkdir()
    for file in copy.parent.glob("*.[xb]*"):
        if file.is_file():
            file.rename(moved / file.name)
    assert "is missing" in self_test(copy).stderr
    assert self_test(copy, next(moved.glob("*.xml"))).returncode == 0


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return apply


def permuted_classes(folder: Path) -> None:
    model = read_json(folder / "model.json")
    write_json(folder / "model.json", model | {"class_names": model["class_names"][::-1]})


def other_weights(folder: Path) -> None:
    """With their digest in model.json, so that the outputs alone show it."""
    path = next(folder.parent.glob("*.bin"))
    content = np.frombuffer(path.read_bytes(), dtype=np.float32).copy()
    content[-200:] = content[-200:][::-1]
    path.write_bytes(content.tobytes())
    model = read_json(folder / "model.json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(folder / "model.json", model | {"files": model["files"] | {path.name: digest}})


def other_file(folder: Path) -> None:
    path = next(folder.parent.glob("*.xml"))
    path.write_bytes(path.read_bytes() + b"\n")


def turned_image(folder: Path) -> None:
    with Image.open(folder / "golden" / "0.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "golden" / "0.jpg")


DAMAGE = {
    "permuted classes": (permuted_classes, "those of model.json are not those of the file"),
    "names read backwards": (
        change("answer.py", "np.argsort(-probabilities", "np.argsort(probabilities"),
        "answer.py and model.json make something else",
    ),
    "mean subtracted": (
        change("preprocess.py", "np.ascontiguousarray(made)", "(made - np.uint8(20))"),
        "the resize is off by up to",
    ),
    "channels swapped": (
        change("preprocess.py", "np.ascontiguousarray(made)", "np.ascontiguousarray(made[:, :, ::-1])"),
        "preprocess.py gives other pixels",
    ),
    "no antialiasing": (
        change("preprocess.py", "2 * max(size, new_size)", "2 * new_size"),
        "the resize is off by up to",
    ),
    "crop rounded otherwise": (
        change("preprocess.py", "-round((new_width - WIDTH) / 2)", "-((new_width - WIDTH + 1) // 2)"),
        "the resize is off by up to",
    ),
    "other weights": (other_weights, "largest difference"),
    "other file": (other_file, "another file than this folder was made for"),
    "normalized outside": (
        change("selftest.py", "given = pixels(image)", "given = pixels(image) // 2"),
        "largest difference",
    ),
    "turned image": (turned_image, "is its orientation applied?"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_whatever_is_wrong_the_self_test_fails(name: str, copy: Path):
    damage, sentence = DAMAGE[name]
    damage(copy)
    done = self_test(copy)
    assert done.returncode == 1, done.stdout
    assert sentence in done.stdout and "FAILED: " in done.stdout.splitlines()[-1], done.stdout + done.stderr


@pytest.mark.slow
def test_the_cpp_program_runs_the_model(copy: Path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not here")
    home = Path(openvino.__file__).parent
    library = next((home / "libs").glob("libopenvino.so*"), None)
    if library is None or not (home / "include" / "openvino").is_dir():
        pytest.skip("this OpenVINO package has no C++ files")
    words = ["g++", "-std=c++17", "check.cpp", f"-I{home / 'include'}", library, f"-Wl,-rpath,{library.parent}"]
    done = subprocess.run([*map(str, words), "-o", "check"], cwd=copy / "cpp", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = next(copy.parent.glob("*.xml"))
    done = subprocess.run(["./check", "../golden", model], cwd=copy / "cpp", capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("ok ")) == (0, 7 + 4), done.stdout + done.stderr
    other_weights(copy)
    done = subprocess.run(["./check", "../golden", model], cwd=copy / "cpp", capture_output=True, text=True)
    assert done.returncode == 1 and "FAIL 0 probabilities" in done.stdout


def test_its_images_are_the_golden_ones_with_pytorchs_answers(run: Path, exported: Path):
    folder = Path(f"{exported}-app")
    of_run = read_json(run / "golden" / "golden.json")["files"]
    arrays = np.load(run / "golden" / "golden.npz")
    places = {entry["id"]: place for place, entry in enumerate(of_run)}
    images = read_json(folder / "golden" / "golden.json")["images"]
    assert len(images) == 4
    for entry in images:
        place = places[entry["id"]]
        np.testing.assert_allclose(entry["outputs"]["probabilities"], arrays["probabilities"][place], atol=1e-6)
        assert entry["answer"]["class"] == of_run[place]["predicted"]
        with Image.open(folder / "golden" / entry["input"]) as image:
            np.testing.assert_array_equal(np.asarray(image), arrays["images"][place])
        assert (folder / "golden" / entry["file"]).read_bytes() == (run / "golden" / of_run[place]["file"]).read_bytes()
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "딸기 빵" in text and "1 x 64 x 64 x 3" in text and "# 빵 _1.xml" in text  # a "$" would begin a variable


@pytest.mark.slow
def test_a_file_that_no_export_wrote_is_not_replaced(run: Path, tmp_path: Path):
    out = tmp_path / "a.xml"
    (tmp_path / "a.bin").write_text("my own words")
    with pytest.raises(InputError, match=r"holds a\.bin, which no export wrote and this one would replace: move it"):
        handlens.export(run, to="openvino", out=out, images=4, app=False)
    assert (tmp_path / "a.bin").read_text() == "my own words" and not out.exists()
    (tmp_path / "a.bin").unlink()
    handlens.export(run, to="openvino", out=out, images=4, app=False)
    handlens.export(run, to="openvino", out=out, images=4, app=False)  # its own file is replaced
    handlens.export(run, to="openvino", out=out, images=4)
    with pytest.raises(InputError, match=r"a\.xml-app is a folder for apps; the model is .*a\.xml\.$"):
        find_run(tmp_path / "a.xml-app")


@pytest.mark.slow
def test_a_new_export_replaces_it_and_nothing_else_does(run: Path, tmp_path: Path):
    out = tmp_path / "a.xml"
    folder = tmp_path / "a.xml-app"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"a\.xml-app holds what handlens did not write: notes\.txt; the export would"):
        handlens.export(run, to="openvino", out=out, images=4)
    assert (folder / "notes.txt").read_text() == "mine" and not out.exists()
    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(InputError, match="holds what handlens did not write; the export would replace it"):
        handlens.export(run, to="openvino", out=out, images=4)
    folder.unlink()
    handlens.export(run, to="openvino", out=out, images=4)
    assert self_test(folder).returncode == 0
    before = (folder / "manifest.json").stat().st_ino
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"left by running it")
    handlens.export(run, to="openvino", out=out, images=4)
    assert (folder / "manifest.json").stat().st_ino != before and not (folder / "__pycache__").exists()
    (folder / "README.md").write_text("my own words")
    with pytest.raises(InputError, match=r"did not write: README\.md"):
        handlens.export(run, to="openvino", out=out, images=4)
    assert (folder / "README.md").read_text() == "my own words"
    shutil.rmtree(folder)
    done = command("export", run, "--to", "openvino", "--out", out, "--max-images", "4", "--no-app", "--json")
    assert json.loads(done.stdout)["exports"][0]["app"] is None and not folder.exists()
    command("export", run, "--to", "openvino", "--out", out, "--max-images", "4", "--quiet")
    command("export", run, "--to", "openvino", "--out", out, "--max-images", "4", "--no-app", "--quiet")
    assert not folder.exists()  # it would be that of an earlier file
    command("export", run, "--to", "openvino", "--out", out, "--max-images", "4", "--quiet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml", "a.xml-app", "a.xml.parity.json"]


def test_an_image_that_pillow_turns_by_its_xmp_block_alone_is_stored_as_it_is_seen(tmp_path: Path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:Description tiff:Orientation="6"/></x:xmpmeta>'
    made = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    made.save(tmp_path / "a.jpg", xmp=xmp)
    made.save(tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert ImageOps.exif_transpose(image).size == (40, 60)  # else this tests nothing
    turned, plain = golden_images([("a.jpg", tmp_path / "a.jpg"), ("b.jpg", tmp_path / "b.jpg")])
    assert turned.file.endswith(".png") and plain.file.endswith(".jpg")
    assert turned.image.shape == plain.image.shape == (40, 60, 3)


def test_images_are_small_and_what_they_decode_to(tmp_path: Path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (900, 1700, 3), dtype=np.uint8)).save(tmp_path / "large.jpg")
    Image.fromarray(rng.integers(0, 256, (20, 30), dtype=np.uint8)).save(tmp_path / "gray.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "bad.jpg").write_bytes(b"words")
    found = golden_images([(path.name, path) for path in sorted(tmp_path.iterdir())])
    assert [(image.id, image.file) for image in found] == [
        ("gray.tiff", "0.png"),
        ("large.jpg", "1.png"),
        ("turned.jpg", "2.jpg"),
    ]
    assert [image.image.shape for image in found] == [(20, 30, 3), (339, LONGEST, 3), (30, 20, 3)]
    for image in found:
        (tmp_path / "again").write_bytes(image.content)
        np.testing.assert_array_equal(decode(tmp_path / "again"), image.image)
    with pytest.raises(InputError, match="none of the images for the app folder can be read"):
        golden_images([("bad.jpg", tmp_path / "bad.jpg")])


def test_somebody_elses_manifest_is_not_ours(tmp_path: Path):
    folder = tmp_path / "a.xml-app"
    folder.mkdir()
    for text in ('{"name": "mine"}', '["mine"]'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(InputError, match=r"holds what handlens did not write: manifest\.json"):
            refuse_others(folder)


def test_only_numbers_are_put_on_one_line():
    value = {"class_names": ["[ 5  -  10 ]", 'a "[ 1,\n 2 ]"'], "mean": [0.5, -1e-3]}
    text = _json(value)
    assert json.loads(text) == value and '"mean": [ 0.5, -0.001 ]' in text
