"""int8 of the pretrained detector and segmenter: python benchmarks/int8_tasks.py [RUNTIME ...] [--models A,B]

On the 128 images of coco_val128, calibrated on 64 images of imagenet_val500; each runtime's settings, one after the
other. The detector: recall of all objects at the precision that float32 has with scores above 0.3. These images have no
masks, so the segmenter's mean IoU is that with VOC's classes drawn as filled boxes, where pixels in boxes of two
classes do not count: coarse, but true, and the same for both. Beside it stand mean IoU and pixels that agree with
PyTorch's own masks. At least, in the best runtime: recall, or mean IoU, within 1.5 points of float32's.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import shared_images, store, stored_before

from handlens.data.decode import decode
from handlens.data.labels.boxes import Box
from handlens.evaluation.detection import match_boxes
from handlens.flow.runs import build_from, find_run
from handlens.quantization.sensitivity import layers_that_hurt
from handlens.runtimes import RUNTIMES
from handlens.runtimes.engine import Arrays
from handlens.runtimes.fold import folded
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.int8 import NET, Setting
from handlens.runtimes.source import Source
from handlens.tasks import TASKS

parser = argparse.ArgumentParser()
parser.add_argument("runtimes", nargs="*", default=list(RUNTIMES))
parser.add_argument("--keep-float", type=int, default=0, help="layers that hurt most stay in float")
parser.add_argument("--models", default="ssdlite_mobilenet_v2_coco,deeplab_v3_mobilenet_v2_voc")
asked = parser.parse_args()
THRESHOLD = 0.3
DATA = shared_images("coco_val128")
FILES = sorted((DATA / "images").iterdir())
IMAGES = [decode(file) for file in FILES]
COCO = find_run("ssdlite_mobilenet_v2_coco").class_names
CALIBRATION = sorted((shared_images("imagenet_val500") / "images").iterdir())[::8][:64]


def objects(file: Path, height: int, width: int) -> list[Box]:
    rows = DATA / "labels" / f"{file.stem}.txt"  # YOLO: class, center x, center y, width, height
    found = np.loadtxt(rows, ndmin=2) if rows.is_file() else np.zeros((0, 5))
    low, high = found[:, 1:3] - found[:, 3:5] / 2, found[:, 1:3] + found[:, 3:5] / 2
    corners = np.hstack([low, high]).clip(0, 1) * [width, height, width, height]
    return [
        Box(label=int(label), left=left, top=top, right=right, bottom=bottom)
        for label, (left, top, right, bottom) in zip(found[:, 0], corners.tolist(), strict=True)
    ]


TRUTHS = [objects(file, *image.shape[:2]) for file, image in zip(FILES, IMAGES, strict=True)]


def recall_at(arrays: Arrays, run, precision: float | None) -> tuple[float, float]:
    """(recall, precision) of all objects: at THRESHOLD, or at the lowest score from which the precision is reached."""
    task = TASKS[run.task]
    scored: list[tuple[float, bool]] = []
    total = sum(map(len, TRUTHS))
    for place, (image, truth) in enumerate(zip(IMAGES, TRUTHS, strict=True)):
        answer = {name: values[place] for name, values in arrays.items()}
        height, width = image.shape[:2]
        boxes = task.answer(answer, height, width, preprocess=run.preprocess, names=run.class_names, thresholds=())
        matched = match_boxes(boxes, truth)
        scored += list(zip(boxes.scores.tolist(), matched.right.tolist(), strict=True))
    scored.sort(reverse=True)
    scores = np.array([score for score, _ in scored])
    right = np.cumsum([good for _, good in scored])
    precisions = right / np.arange(1, len(right) + 1)
    if precision is None:
        last = int((scores > THRESHOLD).sum()) - 1
    else:
        last = int(np.flatnonzero(precisions >= precision)[-1])
    return float(right[last] / total), float(precisions[last])


# Where VOC calls a class otherwise than COCO.
VOC = {"airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor"}
VOC |= {"potted plant": "pottedplant", "dining table": "diningtable"}
UNCLEAR = 255


def filled_boxes(boxes: list[Box], height: int, width: int, names: tuple[str, ...]) -> np.ndarray:
    """(height, width) classes."""
    mask = np.zeros((height, width), np.uint8)
    for box in boxes:
        name = VOC.get(COCO[box.label], COCO[box.label])
        if name not in names:
            continue
        label = names.index(name)
        part = mask[round(box.top) : round(box.bottom), round(box.left) : round(box.right)]
        part[...] = np.where((part == 0) | (part == label), label, UNCLEAR)
    return mask


def iou_with_boxes(arrays: Arrays, run) -> float:
    """Mean over the classes that have boxes, and the background, of all images together."""
    task, number = TASKS[run.task], len(run.class_names)
    pairs = np.zeros((number, number), np.int64)
    for place, (image, boxes) in enumerate(zip(IMAGES, TRUTHS, strict=True)):
        height, width = image.shape[:2]
        answer = {name: values[place] for name, values in arrays.items()}
        found = task.answer(answer, height, width, preprocess=run.preprocess, names=run.class_names, thresholds=())
        truth = filled_boxes(boxes, height, width, run.class_names)
        clear = truth != UNCLEAR
        both = number * truth[clear].astype(int) + found.classes[clear]
        pairs += np.bincount(both, minlength=number**2).reshape(number, number)
    own = np.diag(pairs)
    shares = own / np.maximum(pairs.sum(0) + pairs.sum(1) - own, 1)
    return float(shares[pairs.sum(1) > 0].mean())


def mean_iou(masks: np.ndarray, expected: np.ndarray) -> float:
    shares = []
    for label in np.unique(expected):
        ours, theirs = masks == label, expected == label
        shares.append((ours & theirs).sum() / (ours | theirs).sum())
    return float(np.mean(shares))


def worst_layers(source: Source, calibration: np.ndarray, setting: Setting) -> list[str]:
    """As `handlens export --keep-float` finds them."""
    net = source.graph.get_submodule(NET)
    errors = layers_that_hurt(net, source.preprocess, calibration[:8], setting.scheme, calibration=calibration)
    return [error.name for error in errors][: asked.keep_float]


rows = []
for name in asked.models.split(","):
    run = find_run(name)
    task, preprocess = TASKS[run.task], run.preprocess
    graph = DeployGraph(build_from(run).eval(), preprocess, last_step=task.last_step)
    pixels = [preprocess.pixels(image) for image in IMAGES]
    parts = [graph.arrays(image[None], task.outputs) for image in pixels]
    expected = {output: np.concatenate([part[output] for part in parts]) for output in task.outputs}
    calibration = np.stack([preprocess.pixels(decode(file)) for file in CALIBRATION])
    source = Source(folded(graph, torch.from_numpy(pixels[0][None])), preprocess, task.outputs, {})
    detects = task.name == "detect"
    reference, precision = recall_at(expected, run, None) if detects else (iou_with_boxes(expected, run), None)
    for to in asked.runtimes:
        runtime = RUNTIMES[to]
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / f"whole{runtime.suffix}"
            runtime.convert(source, whole)
            for number, setting in enumerate(runtime.int8):
                path = Path(scratch) / f"{number}{runtime.suffix}"
                kept = worst_layers(source, calibration, setting) if asked.keep_float else []
                runtime.quantize(source, whole, path, images=calibration, setting=setting, keep_float=kept)
                model = runtime.open(path)
                parts = [model.run(image[None]) for image in pixels]
                values = {output: np.concatenate([part[output] for part in parts]) for output in task.outputs}
                reached = recall_at(values, run, precision)[0] if detects else iou_with_boxes(values, run)
                same = agreeing = None
                if not detects:
                    ours, theirs = (arrays[task.outputs[0]] for arrays in (values, expected))
                    same, agreeing = float((ours == theirs).mean()), mean_iou(ours, theirs)
                size = [sum(file.stat().st_size for file in runtime.files(made)) / 1e6 for made in (path, whole)]
                row = {"model": name, "runtime": to, "setting": setting.name, "float32": reference, "int8": reached}
                row |= {"layers in float": len(kept), "pixels equal": same, "IoU with float32": agreeing}
                row |= {"points": 100 * (reached - reference), "MB": size[0], "size": size[0] / size[1]}
                rows.append(row)
                print(row, flush=True)
known = {(row["model"], row["runtime"], row["layers in float"]) for row in rows}
others = [
    row
    for row in stored_before("int8_tasks")
    if (row["model"], row["runtime"], row.get("layers in float") or 0) not in known
]
keys = list(dict.fromkeys(key for row in [*others, *rows] for key in row))
store("int8_tasks", [{key: row.get(key) for key in keys} for row in [*others, *rows]])
