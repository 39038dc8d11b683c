"""Do heat maps point at what the prediction depends on? python benchmarks/heat_maps.py [--images N]

MobileNetV2 on imagenet_val500. Pixels are replaced by the mean color in an order (deletion), or shown in it on that
color (insertion), in equal steps; the probability of the class that was predicted, averaged over the steps, is the area
under the curve (Petsiuk et al. 2018, arXiv:1806.07421). The orders: each heat map; a random one of single pixels; a
random one of places as coarse as the heat, 7 x 7 numbers enlarged alike; a Gaussian in the center. Also the time of a
heat map in forward passes of the same net, interleaved.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from common import shared_images, store

from handlens.explanation.heat import BY_GRADIENT, heat_by_gradient, on_image
from handlens.flow.opened_model import OpenedModel
from handlens.reporter import QUIET
from handlens.tasks.pieces import output_of

STEPS = 14

parser = argparse.ArgumentParser()
parser.add_argument("--images", type=int, default=500)
asked = parser.parse_args()
files = sorted((shared_images("imagenet_val500") / "images").iterdir())[: asked.images]
opened = OpenedModel("mobilenet_v2", model=None, report=QUIET)
net = opened.net


def areas(image: torch.Tensor, order: torch.Tensor, index: int) -> tuple[float, float]:
    """Of deletion and of insertion.

    Args:
        image: (1, 3, H, W); 0 is the mean color. order: (H, W), most important highest.
    """
    ranks = order.flatten().argsort(descending=True).argsort().view(1, 1, *order.shape) / order.numel()
    shares = torch.arange(STEPS + 1).view(-1, 1, 1, 1) / STEPS
    gone = ranks < shares  # (STEPS + 1, 1, H, W)
    with torch.inference_mode():
        found = net(torch.cat([image * ~gone, image * gone])).softmax(dim=1)[:, index]
    deletion, insertion = found.view(2, -1).tolist()
    return float(np.trapezoid(deletion, dx=1 / STEPS)), float(np.trapezoid(insertion, dx=1 / STEPS))


rng = np.random.default_rng(0)
found: dict[str, list[tuple[float, float]]] = {}
forward, heat_time = [], []
for place, path in enumerate(files):
    _, image = opened.read(path)
    height, width = image.shape[2:]
    begin = time.perf_counter()
    with torch.inference_mode():
        index = int(net(image).argmax())
    forward.append(time.perf_counter() - begin)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    coarse = torch.from_numpy(rng.random((1, 7, 7), dtype=np.float32))
    orders = {
        "random pixels": torch.from_numpy(rng.random((height, width), dtype=np.float32)),
        "random places": on_image(coarse, height, width)[0],
        "centered Gaussian": torch.from_numpy(np.exp(-(x**2 + y**2)).astype(np.float32)),
    }
    for method in BY_GRADIENT:
        begin = time.perf_counter()
        heat, _ = heat_by_gradient(net, image, output_of(index), layers=["head"], method=method)
        orders[method] = on_image(heat, height, width)[0]
        if method == "gradcam":
            heat_time.append(time.perf_counter() - begin)
    for name, order in orders.items():
        found.setdefault(name, []).append(areas(image, order, index))
    if place % 50 == 49:
        print(place + 1, flush=True)

mean = {name: np.mean(values, axis=0) for name, values in found.items()}
rows = [
    {
        "order": name,
        "images": len(files),
        "deletion": round(float(value[0]), 4),
        "insertion": round(float(value[1]), 4),
        "deletion, of random pixels": round(float(value[0] / mean["random pixels"][0]), 3),
        "deletion, of random places": round(float(value[0] / mean["random places"][0]), 3),
        "deletion, of the Gaussian": round(float(value[0] / mean["centered Gaussian"][0]), 3),
    }
    for name, value in mean.items()
]
ratio = statistics.median(a / b for a, b in zip(heat_time, forward, strict=True))
store("heat_maps", [*rows, {"order": "gradcam, in forward passes", "images": len(files), "ratio": round(ratio, 2)}])
