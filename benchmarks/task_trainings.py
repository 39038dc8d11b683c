"""Training of segmenters and detectors on real images: python benchmarks/task_trainings.py [camvid] [bccd] [bakery]

At least: camvid within 60 minutes, mean IoU 0.62 on test; bccd within 45 minutes, mAP50 0.80 on test; both tasks on the
generated bakery within 5 minutes, close to 100 %. Learning curves are stored.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path

from common import handlens, shared_images, store

CAMVID = """
format: masks
class_names: [sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, cyclist]
masks: {values: {11: ignore}}
"""
RECIPES = {
    "camvid": """
epochs: 25
image_size: [360, 480]
options: {decoder: 128}
augment: {color: 0.6}
""",
    "bccd": """
epochs: 20
augment: {zoom_out: 1.3, vertical_flip: 0.5}
""",
    "bakery segment": "epochs: 10\noptions: {decoder: 128}",
    "bakery detect": "epochs: 7",
}


def measured(name: str, data: Path, scratch: Path, *options: str | Path) -> dict:
    recipe = scratch / "recipe.yaml"
    recipe.write_text(RECIPES[name])
    run = scratch / "run"
    seconds, _ = handlens("train", data, "--recipe", recipe, "--out", run, *options)
    result = json.loads(handlens("evaluate", run, "--json", "--precision", "fp32")[1])
    metrics = result["metrics"]
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        curve = list(csv.DictReader(file))
    return {
        "data": name,
        "minutes": seconds / 60,
        "epochs": len(curve),
        **{key: metrics[key] for key in ("miou", "pixel_accuracy", "map50", "map") if key in metrics},
        "per_class": {row["class"]: row.get("iou", row.get("ap50")) for row in metrics["per_class"]},
        "operating_point": {
            key: value for key, value in (metrics.get("operating_point") or {}).items() if key != "per_class"
        },
        "curve": curve,
    }


wanted = sys.argv[1:] or ["camvid", "bccd", "bakery"]
rows = []
if "camvid" in wanted:
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "camvid.yaml"
        config.write_text(CAMVID)
        rows.append(measured("camvid", shared_images("camvid"), Path(scratch), "--data-config", config))
if "bccd" in wanted:
    with tempfile.TemporaryDirectory() as scratch:
        rows.append(measured("bccd", shared_images("bccd"), Path(scratch)))
if "bakery" in wanted:
    for task in ("segment", "detect"):
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / "breads"
            handlens("sample", "bakery", data, "--task", task)
            rows.append(measured(f"bakery {task}", data, Path(scratch)))
store(f"task_trainings_{'_'.join(wanted)}", rows)
