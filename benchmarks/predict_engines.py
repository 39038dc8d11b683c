"""Files to a CSV by `predict`, with the engine that is measured here, in int8, and as another version does it:
python benchmarks/predict_engines.py BEFORE [ROUNDS]

BEFORE is a checkout of an earlier version, which runs with the same environment. Pretrained MobileNetV2 with exports to
LiteRT and ONNX Runtime and the int8 export to OpenVINO; 300 flowers as files. Each command runs once per round, in
turn; seconds are those of the predictions alone, without imports. At least: 1.15 x in float, 1.5 x in int8; beside two
busy processes 1.5 x.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, shared_images, store

import handlens
from handlens.errors import InputError, ParityError
from handlens.flow.engines import measure_engines
from handlens.flow.runs import find_run

before = Path(sys.argv[1]).resolve()
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
IMAGES = 300
CODE = """
import json, sys, time
from pathlib import Path
import handlens
from handlens.flow.predict import writing
from handlens.flow.runs import find_run
run, files, options = find_run(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
begin, used = time.perf_counter(), time.process_time()
with writing(run, csv=Path(sys.argv[4])) as write:
    for prediction in handlens.predict(run, [files], **options):
        write(prediction)
print(json.dumps([time.perf_counter() - begin, time.process_time() - used]))
"""


def predict(sources: Path, run: Path, files: Path, options: dict[str, str]) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    command = [sys.executable, "-c", CODE, str(run), str(files), json.dumps(options), str(files.parent / "out.csv")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(sources / "src")}
    )
    wall, used = json.loads(done.stdout)
    return wall, used


rows = []
with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    run = folder / "mobilenet_v2"
    shutil.copytree(find_run("mobilenet_v2").folder, run, ignore=shutil.ignore_patterns("exports", ".lock"))
    files, calibration = folder / "images", folder / "calibration"
    files.mkdir()
    calibration.mkdir()
    flowers = sorted((shared_images("flowers") / "test").rglob("*.jpg"))
    for number, file in enumerate(flowers[:: max(1, len(flowers) // IMAGES)][:IMAGES]):
        shutil.copyfile(file, files / f"{number:04}.jpg")
    training = sorted((shared_images("flowers") / "train").rglob("*.jpg"))
    coco = sorted((shared_images("coco_val128") / "images").iterdir())
    for number, file in enumerate([*training[:: len(training) // 50][:50], *coco[:50]]):
        shutil.copyfile(file, calibration / f"{number:03}.jpg")
    data = folder / "imagenet"
    shutil.copytree(shared_images("imagenet_val500"), data)
    (data / "handlens.yaml").write_text("csv: {label: class_index}\n", encoding="utf-8")
    loud = handlens.Reporter(say=print)
    for to, more in (
        ("litert", {"images": 24}),
        ("onnx", {"images": 24}),
        ("openvino", {"int8": True, "calibrate": calibration, "max_drop": 2.0, "images": 150}),
    ):
        try:
            handlens.export(run, to=to, data=data, report=loud, **more)
        except (InputError, ParityError) as error:
            print(f"{to}: {error}")
    measured = measure_engines(find_run(run), report=loud)
    print(json.dumps(measured, indent=1))
    contenders = {
        "before": (before, {}),
        "now": (ROOT, {}),
        "now, fp32": (ROOT, {"precision": "fp32"}),
        "now, int8": (ROOT, {"precision": "int8"}),
        "now, --engine litert": (ROOT, {"engine": "litert"}),
    }
    for beside in (0, 2):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(beside)]
        try:
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
            for number in range(rounds):
                order = list(contenders.items())
                for name, (sources, options) in order if number % 2 == 0 else reversed(order):
                    taken[name].append(predict(sources, run, files, options))
        finally:
            for process in busy:
                process.kill()
                process.wait()
        for name, values in taken.items():
            ratios = [old[0] / new[0] for old, new in zip(taken["before"], values, strict=True)]
            used = [old[1] / new[1] for old, new in zip(taken["before"], values, strict=True)]
            rows.append(
                {
                    "beside": f"{beside} busy processes",
                    "predict": name,
                    "images_per_second": len(list(files.iterdir())) / statistics.median(wall for wall, _ in values),
                    "times_before": statistics.median(ratios),
                    "processor_ms": 1000 * statistics.median(used for _, used in values) / IMAGES,
                    "processor_times_before": statistics.median(used),
                }
            )
load = f"Load of the machine at the end: {os.getloadavg()[0]:.1f}."
store("predict_engines", rows, notes=[load, f"Measured as predict runs them: {json.dumps(measured)}"])
