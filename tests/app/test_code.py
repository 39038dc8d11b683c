"""The code for apps gives, in every language, the pixels that Preprocess gives."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.folders import OUTPUTS, SIZES, WAYS, image, java_stubs, outputs_of, write
from handlens.preprocess import Preprocess
from handlens.runtimes import RUNTIMES
from handlens.tasks import TASKS

JARS = [
    Path(f"/usr/share/java/{name}.jar") for name in ("junit4", "hamcrest-core", "kotlin-stdlib", "kotlin-stdlib-jdk7")
]


# A model.hpp in the runtime's place, that knows what to answer.
STAND_IN = """#pragma once
#include <map>
#include <string>
#include <vector>
struct Model {{
    explicit Model(const std::string&) {{}}
    template <typename Pixels> std::map<std::string, std::vector<float>> run(const Pixels&, int, int) {{
        return {{ {{ "probabilities", {{ {values} }} }} }};
    }}
}};
"""


def needs(*commands: str) -> None:
    for command in commands:
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not here")


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True)


def damage(folder: Path) -> None:
    """Another level somewhere in one expected input."""
    path = next((folder / "golden").glob("2.input.*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("way", WAYS)
def test_python(way: str, tmp_path: Path):
    preprocess = Preprocess(**WAYS[way])
    folder = write(tmp_path / "app", preprocess)
    specification = importlib.util.spec_from_file_location("preprocess", folder / "preprocess.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for size in SIZES:
        expected = preprocess.pixels(image(*size))
        np.testing.assert_array_equal(module.pixels(image(*size)), expected)
        assert module.placement(*size) == preprocess.placement(*size)
    assert len(np.unique(expected)) > 20  # else nothing could fail


@pytest.mark.parametrize("way", WAYS)
def test_the_readmes_lines(way: str, tmp_path: Path):
    preprocess = Preprocess(**WAYS[way])
    text = (write(tmp_path / "app", preprocess) / "README.md").read_text(encoding="utf-8")
    lines = text.split("```python\n")[1].split("import onnxruntime")[0]
    for size in SIZES:
        Image.fromarray(image(*size)).save(tmp_path / "photo.png")
        names: dict[str, np.ndarray] = {}
        exec(lines.replace("photo.jpg", str(tmp_path / "photo.png")), names)
        np.testing.assert_array_equal(names["pixels"], preprocess.pixels(image(*size)))


@pytest.mark.parametrize("way", WAYS)
def test_javascript(way: str, tmp_path: Path):
    needs("node")
    folder = write(tmp_path / "app", Preprocess(**WAYS[way]))
    done = run("node", "check_preprocess.mjs", folder=folder / "javascript")
    assert (done.returncode, done.stdout.count("ok ")) == (0, len(SIZES) + 3), done.stdout + done.stderr
    damage(folder)
    done = run("node", "check_preprocess.mjs", folder=folder / "javascript")
    assert done.returncode == 1 and "FAIL 2\n" in done.stdout and done.stdout.count("FAIL") == 1


@pytest.mark.parametrize("way", WAYS)
def test_cpp(way: str, tmp_path: Path):
    needs("g++")
    folder = write(tmp_path / "app", Preprocess(**WAYS[way]))
    # In the runtime's place one that knows the answer, and that is right about one of two.
    values = ", ".join(map(str, OUTPUTS["probabilities"]))
    (folder / "cpp" / "model.hpp").write_text(STAND_IN.format(values=values))
    done = run(
        "g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "check.cpp", "-o", "check", folder=folder / "cpp"
    )
    assert done.returncode == 0, done.stderr
    done = run("./check", folder=folder / "cpp")
    assert (done.returncode, done.stdout.count("ok ")) == (0, 2 * len(SIZES) + 3), done.stdout + done.stderr
    damage(folder)
    done = run("./check", folder=folder / "cpp")
    assert done.returncode == 1 and "FAIL 2 preprocessing" in done.stdout and done.stdout.count("FAIL ") == 1


@pytest.mark.parametrize("values", ["0.25f, 0.75f, 0.0f", "0.251f, 0.75f"])  # one more; one that is not the largest
def test_cpp_compares_every_number(values: str, tmp_path: Path):
    needs("g++")
    folder = write(tmp_path / "app", Preprocess(**WAYS["crop"]))
    (folder / "cpp" / "model.hpp").write_text(STAND_IN.format(values=values))
    done = run("g++", "-std=c++17", "check.cpp", "-o", "check", folder=folder / "cpp")
    assert done.returncode == 0, done.stderr
    done = run("./check", folder=folder / "cpp")
    assert done.returncode == 1 and done.stdout.count("FAIL ") == len(SIZES)


# What PreprocessTests does, for where XCTest and bundles are not.
SWIFT = """
import Foundation

func read(_ path: String) -> (width: Int, height: Int, bytes: [UInt8]) {
    let content = [UInt8](try! Data(contentsOf: URL(fileURLWithPath: path)))
    let lines = content.split(separator: 10, maxSplits: 3, omittingEmptySubsequences: false)
    let size = String(decoding: lines[1], as: UTF8.self).split(separator: " ").map { Int($0)! }
    return (size[0], size[1], [UInt8](lines[3]))
}

for name in CommandLine.arguments.dropFirst(2) {
    let golden = CommandLine.arguments[1]
    let image = read("\\(golden)/\\(name).ppm")
    let found = Preprocess.pixels(rgb: image.bytes, width: image.width, height: image.height)
    print(found == read("\\(golden)/\\(name).input.EXTENSION").bytes ? "ok  " : "FAIL", name)
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_swift(way: str, tmp_path: Path):
    needs("swiftc")
    preprocess = Preprocess(**WAYS[way])
    folder = write(tmp_path / "app", preprocess, runtime="litert")
    extension = "ppm" if preprocess.channels == 3 else "pgm"
    main = tmp_path / "main.swift"
    main.write_text(SWIFT.replace("EXTENSION", extension), encoding="utf-8")
    done = run("swiftc", "-O", folder / "swift" / "Preprocess.swift", main, "-o", tmp_path / "try", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [path.name.split(".")[0] for path in sorted((folder / "golden").glob("*.input.*"))]
    done = run(tmp_path / "try", folder / "golden", *names, folder=tmp_path)
    assert done.returncode == 0 and done.stdout.count("ok ") == len(names) == len(SIZES) + 3, done.stdout + done.stderr
    damage(folder)
    assert run(tmp_path / "try", folder / "golden", *names, folder=tmp_path).stdout.count("FAIL 2\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [name for name, runtime in RUNTIMES.items() if (runtime.app / "swift").is_dir()])
def test_swift_of_every_runtime_and_task_is_parsed(runtime: str, tmp_path: Path):
    """The classes that run the model import what only Apple's platforms have."""
    needs("swiftc")
    for task in TASKS:
        preprocess = Preprocess(resize="pad" if task == "segment" else "crop")
        folder = write(tmp_path / task, preprocess, runtime=runtime, task=task) / "swift"
        done = run("swiftc", "-parse", *sorted(folder.glob("*.swift")), folder=folder)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "runtime", "task"),
    [("crop", "onnx", "classify"), ("stretch, gray", "litert", "detect"), ("pad, gray", "executorch", "segment")],
)
def test_kotlin(way: str, runtime: str, task: str, tmp_path: Path):
    """Its unit test is run; the model and its test, which need Android, are compiled."""
    needs("kotlinc", "java")
    if missing := [str(jar) for jar in JARS if not jar.exists()]:
        pytest.skip(f"{', '.join(missing)} is not here")
    folder = write(tmp_path / "app", Preprocess(**WAYS[way]), runtime=runtime, task=task)
    path = ":".join(map(str, JARS))
    sources = sorted((folder / "kotlin").glob("*.kt"))
    assert len(sources) == 5
    done = run("kotlinc", *sources, java_stubs(tmp_path / "java"), "-cp", path, "-d", "made", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    test = ("java", "-cp", f"made:{path}:{folder}", "org.junit.runner.JUnitCore", "PreprocessTest")
    done = run(*test, folder=tmp_path)
    assert done.returncode == 0 and "OK (1 test)" in done.stdout, done.stdout + done.stderr
    damage(folder)
    done = run(*test, folder=tmp_path)
    assert done.returncode == 1 and "2: arrays first differed at element" in done.stdout


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_language_is_complete_and_nothing_is_left_of_the_templates(runtime: str, task: str, tmp_path: Path):
    preprocess = Preprocess(resize="pad" if task == "segment" else "crop")
    names = ["{{ a }}", "b*/"]
    folder = write(tmp_path / "app", preprocess, runtime=runtime, task=task, class_names=names)
    for path in folder.rglob("*"):
        if path.suffix in {".py", ".md", ".kt", ".swift", ".hpp", ".cpp", ".mjs"}:
            text = path.read_text(encoding="utf-8")
            assert "{%" not in text and "{{" not in text.replace("{{ a }}", ""), path
            assert "\n\n\n\n" not in text and text.endswith("\n"), path
            widest = max(text.splitlines(), key=len)
            assert len(widest) <= 200, (path, widest)
    for language, names in {
        "kotlin": {"Preprocess.kt", "PreprocessTest.kt", "Golden.kt", "Model.kt", "ModelTest.kt"},
        "swift": {"Preprocess.swift", "PreprocessTests.swift", "Golden.swift", "Model.swift", "ModelTests.swift"},
        "cpp": {"preprocess.hpp", "model.hpp", "check.cpp"},
    }.items():
        found = {path.name for path in (folder / language).glob("*")}
        assert found in (names, set()), language
    assert (folder / "cpp").is_dir()
    done = run("ruff", "check", "--select", "E,F,W,B", "--line-length", "120", ".", folder=folder)
    assert done.returncode == 0, done.stdout
    if task != "segment" and shutil.which("node"):  # its checks are those of the task
        check = f"""
            import {{ readFileSync }} from "node:fs";
            import {{ golden, problem }} from "{folder}/javascript/golden.mjs";
            const entry = JSON.parse(readFileSync(golden("golden.json"), "utf8")).images[0];
            const changed = structuredClone(entry.outputs);
            changed["{next(iter(outputs_of(task, 1, 1)))}"][0] += 0.05;
            console.log(problem(entry.outputs, entry.outputs), "|", problem(changed, entry.outputs));
        """
        (tmp_path / "check.mjs").write_text(check)
        if (folder / "javascript").is_dir():
            fine, wrong = run("node", "check.mjs", folder=tmp_path).stdout.strip().split(" | ")
            assert fine == "null" and wrong.startswith("a box is missing: " if task == "detect" else "number 0 is ")


@pytest.mark.parametrize("runtime", [name for name, runtime in RUNTIMES.items() if runtime.takes_any_size])
def test_a_file_that_resizes_needs_no_resize(runtime: str, tmp_path: Path):
    folder = write(tmp_path / "app", Preprocess(), runtime=runtime, resizes=True)
    names = {path.name for path in folder.rglob("*")}
    assert {"0.ppm", "placement.py"} & names == {"0.ppm"} and "0.input.ppm" not in names
    assert not names & {"PreprocessTest.kt", "PreprocessTests.swift", "check_preprocess.mjs"}
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "takes one upright RGB image of any size" in text and ".resize(" not in text
    for path in (folder / "preprocess.py", folder / "javascript" / "preprocess.mjs", folder / "cpp" / "preprocess.hpp"):
        code = path.read_text(encoding="utf-8")
        assert "placement" in code and "taps" not in code
