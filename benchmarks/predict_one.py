"""Wall time of interactive commands: python benchmarks/predict_one.py

At most: `predict` of one image 1.5 s; `--help` 0.4 s.
"""

from common import handlens, interleaved, shared_images, store

image = min((shared_images("flowers") / "test" / "rose").iterdir())
handlens("predict", "mobilenet_v2", image)  # the first time makes the net's run folder
times = interleaved(
    {
        "predict one image": lambda: handlens("predict", "mobilenet_v2", image)[0],
        "--help": lambda: handlens("--help")[0],
        "train --help": lambda: handlens("train", "--help")[0],
    },
    rounds=7,
)
store("predict_one", [{"command": name, "seconds": seconds} for name, seconds in times.items()])
