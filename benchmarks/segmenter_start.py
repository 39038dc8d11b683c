"""What DeepLabv3 starts from, on camvid: python benchmarks/segmenter_start.py

Mean IoU on validation after each of three epochs at a quarter of the size, from ImageNet's weights of the backbone and
from the whole model's weights for VOC, at both output strides and with the decoder; seconds of training.
"""

import tempfile
from pathlib import Path

from common import shared_images, store

import handlens
from handlens.training.run import read_metrics

VOC = "deeplab_v3_mobilenet_v2_voc"
STARTS = {
    "ImageNet, stride 16": {"model": "deeplab_v3"},
    "VOC, stride 16": {"model": VOC, "options": {"output_stride": 16}},
    "VOC, stride 8": {"model": VOC},
    "VOC at half the width, stride 8": {"model": "deeplab_v3_mobilenet_v2_05_voc"},
    "ImageNet, stride 16, decoder": {"model": "deeplab_v3", "options": {"decoder": 128}},
    "VOC, stride 16, decoder": {"model": VOC, "options": {"output_stride": 16, "decoder": 128}},
}
camvid = shared_images("camvid")
rows = []
with tempfile.TemporaryDirectory() as scratch:
    for name, recipe in STARTS.items():
        run = Path(scratch) / name
        size = [176, 240] if recipe["model"] == "deeplab_v3" else [177, 241]  # a multiple of 16, plus one as TensorFlow
        handlens.train(camvid, out=run, recipe={"mode": "finetune", "epochs": 3, "image_size": size, **recipe})
        epochs = read_metrics(run)
        shown = {f"epoch {row['epoch']}": round(float(row["validation_miou"]), 3) for row in epochs}
        rows.append({"start": name} | shown | {"seconds": float(epochs[-1]["seconds"])})
        print(rows[-1], flush=True)
store("segmenter_start", rows)
