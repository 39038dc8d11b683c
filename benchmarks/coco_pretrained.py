"""The pretrained SSDLite on 128 images of COCO val2017: python benchmarks/coco_pretrained.py

At least, at score > 0.3 and IoU >= 0.5: precision over all boxes 0.65, recall of objects above 5 % of the image 0.85.
The published mAP, 22.1, is on test-dev: different images, and with COCO's crowd annotations, which YOLO labels lack.
"""

import numpy as np
import torch
from common import shared_images, store

from handlens.data.decode import decode
from handlens.data.labels.boxes import Box
from handlens.evaluation.detection import best_threshold, detection_metrics, match_boxes
from handlens.models import build
from handlens.models.loading import load_into
from handlens.models.pretrained import load_weights
from handlens.results import Boxes
from handlens.weights import SOURCES

NAME = "ssdlite_mobilenet_v2_coco"
THRESHOLD, LARGE = 0.3, 0.05  # score; share of the image
data = shared_images("coco_val128")
source = SOURCES[NAME]
net = build(NAME, num_classes=len(source.class_names)).eval()
load_into(net, load_weights(NAME), new_head=False)


def answer(image: np.ndarray, *, suppress_above: float) -> Boxes:
    height, width = image.shape[:2]
    pixels = source.preprocess.normalize(source.preprocess.pixels(image))
    with torch.inference_mode():
        raw = net(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        boxes, scores, labels = (value[0].numpy() for value in net.decode(raw, threshold=suppress_above))
    boxes = boxes * [width, height, width, height]
    return Boxes.clipped(boxes, labels, scores, source.class_names, height=height, width=width)


def objects(stem: str, height: int, width: int) -> list[Box]:
    file = data / "labels" / f"{stem}.txt"  # YOLO: class, center x, center y, width, height
    rows = np.loadtxt(file, ndmin=2) if file.is_file() else np.zeros((0, 5))
    low, high = rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2
    corners = np.hstack([low, high]).clip(0, 1) * [width, height, width, height]
    return [
        Box(label=int(label), left=left, top=top, right=right, bottom=bottom)
        for label, (left, top, right, bottom) in zip(rows[:, 0], corners.tolist(), strict=True)
    ]


images = {file.stem: decode(file) for file in sorted((data / "images").iterdir())}
truths = [objects(stem, *image.shape[:2]) for stem, image in images.items()]
rows = []
for suppress_above in (0.45, 0.5, 0.6):
    answers = [answer(image, suppress_above=suppress_above) for image in images.values()]
    metrics = detection_metrics(answers, truths, source.class_names, threshold=THRESHOLD)
    found = large = 0
    for image, boxes, truth in zip(images.values(), answers, truths, strict=True):
        matched = match_boxes(boxes, truth)
        for box, score in zip(truth, matched.found, strict=True):
            if (box.right - box.left) * (box.bottom - box.top) > LARGE * image.shape[0] * image.shape[1]:
                large += 1
                found += score > THRESHOLD
    rows.append(
        {
            "doubles above IoU": suppress_above,
            "images": len(images),
            "objects": metrics["objects"],
            "precision": metrics["operating_point"]["precision"],
            "boxes": metrics["operating_point"]["count"],
            "recall of large": found / large,
            "large objects": large,
            "recall": metrics["operating_point"]["recall"],
            "mAP": metrics["map"],
            "mAP50": metrics["map50"],
            "mAP large": metrics["map_large"],
            "best threshold by F1": best_threshold(answers, truths),
        }
    )
notes = [
    "Published mAP on COCO test-dev: 22.1 % (Sandler et al. 2018, Table 6).",
    "128 images have few objects of most classes, no crowds are marked, and the authors split val2014 in their own "
    "way, so that their net may have learned some of these: the mAP here is not comparable.",
]
store("coco_pretrained", rows, notes=notes)
