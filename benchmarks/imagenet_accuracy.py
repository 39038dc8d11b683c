"""Top-1 of the pretrained models on 500 ImageNet validation images: python benchmarks/imagenet_accuracy.py

At least: mobilenet_v2 68 % at the stored size (224 x 224), 66 % through resize 256 + center crop 224.
Measured before: 68.6, 66.6, and 58.0 with 0.5/0.5 normalization; efficientnet_lite0 69.6, 63.4 with the wrong one.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from common import shared_images, store

import handlens
from handlens.flow.runs import find_run
from handlens.preprocess import SCALINGS

data = shared_images("imagenet_val500")
config = Path(tempfile.mkdtemp()) / "handlens.yaml"
config.write_text("csv: {label: class_index}\n")  # the CSV has two columns that could be the label
rows = []
for name, wrong in (("mobilenet_v2", "half"), ("efficientnet_lite0", "imagenet")):
    run = find_run(name)
    own = run.preprocess
    mean, std = SCALINGS[wrong]
    for how, preprocess in {
        "as they are": replace(own, short_side=224),
        "resize 256, crop 224": replace(own, short_side=256),
        f"as they are, wrong scaling ({wrong})": replace(own, short_side=224, mean=mean, std=std),
    }.items():
        result = handlens.evaluate(run, data, preprocess=preprocess, precision="fp32", config=config)
        rows.append({"net": name, "fed": how, "top1": result["metrics"]["top1"], "images": result["images"]})
store("imagenet_accuracy", rows)
