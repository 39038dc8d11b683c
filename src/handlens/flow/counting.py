"""What one net costs, with or without weights, whole or split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from handlens.errors import InputError
from handlens.tasks import TASKS

if TYPE_CHECKING:
    from torch import nn

    from handlens.models.cost import Cost
    from handlens.models.split import Lean

LARGEST = 16_384  # pixels a side that a net is counted for
LARGEST_CLASSES = 1_000_000


class Counted(NamedTuple):
    cost: Cost
    lean: Lean


def one_image_ms(
    name: str,
    *,
    size: int,
    num_classes: int | None = None,
    precision: Literal["fp32", "auto"] = "auto",
    runs: int = 30,
    split: int = 1,
    strips: int = 1,
    **options: Any,
) -> float:
    """Milliseconds that a net with fresh weights needs for one image, all of DeployGraph: the median of `runs`.

    OpenVINO on this machine's processor, on the cores it takes by itself to answer soon.
    """
    import time
    from statistics import median

    import numpy as np

    from handlens.models import CATALOGUE
    from handlens.models.split import lean
    from handlens.preprocess import Preprocess
    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.openvino.convert import to_openvino
    from handlens.runtimes.openvino.engine import OpenVINOEngine

    net = _built(name, size=size, num_classes=num_classes, **options).eval()
    net = lean(net, height=size, width=size, channels=channels_of(net), split=split, strips=strips).net
    gray: dict[str, Any] = {"color": "gray", "mean": (0.5,), "std": (0.5,)} if channels_of(net) == 1 else {}
    preprocess = Preprocess(height=size, width=size, resize="stretch", **gray)
    task = TASKS[CATALOGUE[name].task]
    graph = DeployGraph(net, preprocess, last_step=task.last_step)
    engine = OpenVINOEngine(to_openvino(graph, preprocess, outputs=task.outputs), precision=precision, latency=True)
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, preprocess.channels), dtype=np.uint8)
    times = []
    for _ in range(5 + runs):
        begin = time.perf_counter()
        engine.run(image)
        times.append(time.perf_counter() - begin)
    return 1000 * median(times[5:])  # the first ones find memory and places


def cost_of(name: str, *, size: int, num_classes: int | None = None, **options: Any) -> Cost:
    return counted(name, size=size, num_classes=num_classes, **options).cost


def counted(
    name: str,
    *,
    size: int,
    num_classes: int | None = None,
    split: int = 1,
    strips: int = 1,
    enough: int = 0,
    **options: Any,
) -> Counted:
    """What a net of the catalogue costs, in parts and strips where asked for (models.split.lean).

    Raises:
        InputError: no such net or option, a size that it does not take, or it cannot be split.
    """
    net = shadow(name, size=size, num_classes=num_classes, **options)
    shape = {"height": size, "width": size, "channels": channels_of(net)}
    return count(net, name, **shape, split=split, strips=strips, enough=enough)


def shadow(name: str, *, size: int, num_classes: int | None, **options: Any) -> nn.Module:
    """A net without numbers."""
    import torch

    try:
        with torch.device("meta"):
            return _built(name, size=size, num_classes=num_classes, **options)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{name}: {error}.") from None
    except TypeError as error:
        raise InputError(f"{name} does not take {options}: {error}.") from None


def count(
    net: nn.Module,
    name: str,
    *,
    height: int,
    width: int,
    channels: int,
    split: int = 1,
    strips: int = 1,
    enough: int = 0,
) -> Counted:
    """The same of a net that is there; `name` is what errors call it."""
    from handlens.models.cost import measure
    from handlens.models.split import lean

    for side in (height, width):
        _require_side(side)
    shape = {"height": height, "width": width, "channels": channels}
    try:
        made = lean(net, **shape, split=split, strips=strips, enough=enough)
        return Counted(measure(made.net, **shape), made)
    except InputError:
        raise
    except (ValueError, RuntimeError) as error:  # a RuntimeError of code that makes tensors on a device of its own
        raise InputError(f"{name} cannot be counted at {height} x {width} pixels: {str(error).rstrip('.')}.") from None


def _built(name: str, *, size: int, num_classes: int | None, **options: Any) -> nn.Module:
    """
    Raises:
        InputError: no such net, or more classes or pixels than anybody counts.
        ValueError: the net does not take an option, or images of this size.
    """
    from handlens.models import build, flattens

    _require_side(size)
    if num_classes is not None and not 1 <= num_classes <= LARGEST_CLASSES:
        raise InputError(f"the number of classes must be from 1 to {LARGEST_CLASSES:,}, got {num_classes}.")
    if flattens(name):
        options = {"image_size": size} | options
    return build(name, num_classes=classes_of(name) if num_classes is None else num_classes, **options)


def _require_side(pixels: int) -> None:
    if not 1 <= pixels <= LARGEST:
        raise InputError(f"the input size must be from 1 to {LARGEST:,} pixels, got {pixels}.")


def classes_of(name: str) -> int:
    from handlens.models import CATALOGUE

    if name not in CATALOGUE:
        return 1  # `build` names the nearest
    return CATALOGUE[name].num_classes or TASKS[CATALOGUE[name].task].published_classes


def channels_of(net: nn.Module) -> int:
    """Of the images it takes: those of its first layer."""
    from torch import nn

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 1
