"""explain: where a prediction comes from, what a layer answers to an image, and what its channels look for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.errors import InputError
from handlens.flow.opened_model import OpenedModel
from handlens.reporter import QUIET, Reporter
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from handlens.explanation.filters import Ascent
    from handlens.tasks.pieces import Reason

MAXIMIZED = 16  # channels that images are made for: each costs hundreds of passes through the model


@dataclass(frozen=True)
class Explanation:
    """Where a part of a prediction comes from.

    Attributes:
        path: of the image.
        image: (height, width, 3) uint8, as the model was given it: resized, and cut where its preprocessing cuts.
        title: the part: "tulip 97.3 %".
        heat: (height, width) float32 from 0 to 1: how much each place speaks for it, relative to the hottest.
        method: that made it.
        layer: whose map it was taken from; None of a method that needs none.
        box: left, top, right, bottom in pixels of `image`, of a part with a place.
    """

    path: Path
    image: NDArray[np.uint8]
    title: str
    heat: NDArray[np.float32]
    method: str
    layer: str | None
    box: tuple[float, float, float, float] | None = None

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8: the heat over the image in gray, and the box."""
        from handlens.drawing import with_boxes
        from handlens.explanation.pictures import with_heat

        drawn = with_heat(self.image, self.heat)
        return drawn if self.box is None else with_boxes(drawn, [self.box], [0], [""])


@dataclass(frozen=True)
class Activations:
    """What a layer answers to an image.

    Attributes:
        maps: (C, h, w) float32.
        order: (C,) channels, strongest first by the largest value.
        dead: channels that are nowhere above 0, neither in this image nor in those before it.
    """

    path: Path
    image: NDArray[np.uint8]
    layer: str
    maps: NDArray[np.float32]
    order: NDArray[np.int64]
    dead: tuple[int, ...]


@dataclass(frozen=True)
class FilterImages:
    """What channels look for.

    Attributes:
        images: (C, H, W, 3) uint8 that each channel answers most to, or its kernel where it sees the image itself.
        channels: their numbers.
        values: the mean of each channel's map for its image; None of kernels.
    """

    layer: str
    images: NDArray[np.uint8]
    channels: tuple[int, ...]
    values: NDArray[np.float32] | None


def explain(
    run: Path | str | Run,
    images: Iterable[Path | str],
    *,
    why: str | None = None,
    method: str | None = None,
    layer: str | None = None,
    model: Any = None,
    unreadable: list[str] | None = None,
    report: Reporter = QUIET,
) -> Iterator[list[Explanation]]:
    """Heat maps: for each image that can be read, one for each part of its prediction.

    Args:
        images: files and folders, as of `predict`.
        why: a class to explain in place of what was predicted. Of regression, one of its numbers.
        method: "gradcam", "gradcam++", "layercam", "scorecam" or "occlusion"; the last two need hundreds of passes
            through the model for each heat map. None is "gradcam", and "layercam" of a detector.
        layer: the name of a layer with a map, or a stride ("s16"); None is the last map before the head or, of a
            detector, the map that the box was found in.
        model: your own, a constructor or a module, where the run's cannot be imported by its name.
        unreadable: a list to which the sentence about each file that cannot be read is added.

    Raises:
        InputError: at once: no such run, class, method or layer, or no image.
    """
    from handlens.explanation.heat import METHODS

    if method is not None and method not in METHODS:
        raise InputError(f"no method {method!r}; available: {', '.join(METHODS)}.")
    opened = OpenedModel(run, model=model, report=report)
    method = method or TASKS[opened.run.task].heat_method
    wanted = opened.class_index(why)
    layers = () if method == "occlusion" else opened.layers(layer)
    if method == "occlusion" and layer is not None:
        raise InputError("occlusion needs no layer; omit --layer.")
    files = _files(images)
    return _explained(opened, files, wanted, method, layers, unreadable, report)


def _explained(
    opened: OpenedModel,
    files: Sequence[Path],
    wanted: int | None,
    method: str,
    layers: Sequence[str],
    unreadable: list[str] | None,
    report: Reporter,
) -> Iterator[list[Explanation]]:
    from handlens.explanation.heat import IndependentError

    for path, shown, image in opened.read_each(files, unreadable, report.steps("explaining")):
        found = []
        for reason in opened.reasons(image, wanted):
            try:
                heat, layer = heat_of(opened.net, image, reason, method, layers)
            except IndependentError:  # a box of another map than that of --layer
                report.say(f"{path.name}: {reason.title} does not depend on {', '.join(layers)}.")
                continue
            height, width = shown.shape[:2]
            box = None
            if reason.box is not None:
                left, top, right, bottom = reason.box
                box = (left * width, top * height, right * width, bottom * height)
            found.append(Explanation(path, shown, reason.title, heat, method, layer, box))
        yield found


def heat_of(
    net: nn.Module, image: Tensor, reason: Reason, method: str, layers: Sequence[str]
) -> tuple[NDArray[np.float32], str | None]:
    """How much each place of an image speaks for a part of its prediction: (height, width) from 0 to 1, and the layer.

    Args:
        image: (1, C, height, width) as the model takes it.
        layers: coarsest first.
    """
    from handlens.explanation import heat

    if method == "occlusion":
        coarse, layer = heat.occlusion(net, image, reason.score), None
    else:
        by_gradient = method if method in heat.BY_GRADIENT else "gradcam"  # which also finds the layer of a box
        coarse, layer = heat.heat_by_gradient(net, image, reason.score, layers=layers, method=by_gradient)
        if method == "scorecam":
            coarse = heat.score_cam(net, image, reason.score, layer=layer)
    return heat.on_image(coarse, *image.shape[2:])[0].numpy(), layer


def activations(
    run: Path | str | Run,
    images: Iterable[Path | str],
    *,
    layer: str | None = None,
    model: Any = None,
    unreadable: list[str] | None = None,
    report: Reporter = QUIET,
) -> Iterator[Activations]:
    """What every channel of a layer answers to each image.

    Args:
        layer, unreadable: as of `explain`.

    Raises:
        InputError: at once: no such run or layer, or no image.
    """
    opened = OpenedModel(run, model=model, report=report)
    chosen = opened.layers(layer)[0]
    return _activations(opened, _files(images), chosen, unreadable, report)


def _activations(
    opened: OpenedModel, files: Sequence[Path], layer: str, unreadable: list[str] | None, report: Reporter
) -> Iterator[Activations]:
    import torch

    from handlens.explanation.maps import hooked

    kept: list[Tensor] = []
    above: NDArray[np.bool_] | None = None
    for path, shown, image in opened.read_each(files, unreadable, report.steps("activations")):
        kept.clear()
        with torch.inference_mode(), hooked(opened.net, [layer], lambda _name, output: kept.append(output.clone())):
            opened.net(image)
        maps = kept[-1][0].numpy()
        strongest = maps.max(axis=(1, 2))
        above = strongest > 0 if above is None else above | (strongest > 0)
        dead = tuple(int(channel) for channel in np.flatnonzero(~above))
        yield Activations(path, shown, layer, maps, np.argsort(-strongest, kind="stable"), dead)


def filters(
    run: Path | str | Run,
    *,
    layer: str,
    channels: Sequence[int] | None = None,
    ascent: Ascent | None = None,
    model: Any = None,
    report: Reporter = QUIET,
) -> FilterImages:
    """What channels of a layer look for: their kernels where they see the image itself, or else images made from noise
    by gradient ascent, at the size that the model is given.

    Args:
        channels: None is all, or the first 16 where images have to be made.
        ascent: None is `Ascent()`.

    Raises:
        InputError: no such run, layer or channel.
    """
    from handlens.explanation.filters import Ascent, first_kernels, images_by_gradient_ascent
    from handlens.explanation.maps import found_layer

    opened = OpenedModel(run, model=model, report=report)
    shapes = opened.shapes()
    chosen = found_layer(layer, shapes)
    count = next(one.channels for one in shapes if one.name == chosen)
    if channels is not None and not (channels and all(0 <= channel < count for channel in channels)):
        raise InputError(f"{chosen} has channels 0 to {count - 1}, got {', '.join(map(str, channels)) or 'none'}.")
    kernels = first_kernels(opened.net, chosen) if ascent is None else None
    if kernels is not None:
        asked = tuple(range(len(kernels)) if channels is None else channels)
        return FilterImages(chosen, np.repeat(kernels[list(asked)], 3 // kernels.shape[3], axis=3), asked, None)
    asked = tuple(range(min(count, MAXIMIZED)) if channels is None else channels)
    images, values = images_by_gradient_ascent(
        opened.net,
        chosen,
        asked,
        opened.run.preprocess,
        ascent=ascent or Ascent(),
        progress=report.steps("gradient ascent"),
    )
    return FilterImages(chosen, images, asked, values)


def _files(images: Iterable[Path | str]) -> list[Path]:
    from handlens.data import walk

    named = [Path(path) for path in images]
    files = list(walk(named))
    if not files:
        raise InputError(f"no images in {', '.join(map(str, named[:5])) or 'nothing'}.")
    return files
