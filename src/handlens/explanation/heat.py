"""Class activation maps: where in an image a score comes from.

Each method weighs the maps of one layer; they differ in the weights. `scores` are of any kind: a logit, the mean logit
over a mask, the logit of one box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handlens.errors import InputError
from handlens.explanation.maps import hooked

Scores = Callable[[object], Tensor]  # what the model gives for N images -> (N,)
Weigh = Callable[[Tensor, Tensor], Tensor]

MASKED_AT_ONCE = 32  # images, of Score-CAM and occlusion
WINDOWS = 7  # across an image, of occlusion: each as large as a place of the last map at 224 pixels
STEPS = 2  # to a window: neighbors overlap by half


class IndependentError(InputError):
    """A score that depends on none of the layers that were asked for."""


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Each channel counts as much as its mean gradient.

    Args:
        maps, gradients: (N, C, h, w).

    Returns:
        (N, h, w), not below 0; no unit.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    return (gradients.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """Each channel counts as much as its positive gradients, weighed so that every object of the class counts once.

    Args, Returns: as of `grad_cam`.

    Source: Chattopadhay et al. 2018, arXiv:1710.11063, equations 10 and 19, for a score whose higher derivatives are
    powers of the first, as of exp(logit).
    """
    square, cube = gradients.square(), gradients.pow(3)
    denominator = 2 * square + maps.sum(dim=(2, 3), keepdim=True) * cube
    shares = torch.where(gradients != 0, square / (denominator + 1e-6), 0.0)
    return ((shares * gradients.relu()).sum(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()


def layer_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Each place of each channel counts as much as its own positive gradient: finer in early layers.

    Args, Returns: as of `grad_cam`.

    Source: Jiang et al. 2021, "LayerCAM", IEEE TIP 30, equations 6 and 7.
    """
    return (gradients.relu() * maps).sum(dim=1).relu()


BY_GRADIENT: dict[str, Weigh] = {"gradcam": grad_cam, "gradcam++": grad_cam_plus_plus, "layercam": layer_cam}
BY_MASKING = ("scorecam", "occlusion")  # hundreds of images through the model for each heat map
METHODS = (*BY_GRADIENT, *BY_MASKING)


def heat_by_gradient(
    net: nn.Module, images: Tensor, scores: Scores, *, layers: Sequence[str], method: str
) -> tuple[Tensor, str]:
    """One forward pass, and a backward pass as far as the layer.

    Args:
        images: (N, C, H, W) as the model takes them.
        layers: the first whose map the scores depend on is taken: a box of a finer map is not seen in a coarser one.
        method: of BY_GRADIENT.

    Returns:
        (N, h, w) not below 0, of the layer's map; the layer.

    Raises:
        IndependentError: the scores depend on none of the layers.
    """
    leaves: dict[str, Tensor] = {}

    def cut(name: str, output: Tensor) -> Tensor:
        leaves[name] = output.detach().requires_grad_()
        return leaves[name].clone()  # which may be changed in place

    with torch.enable_grad(), hooked(net, layers, cut):
        wanted = scores(net(images)).sum()
        if not wanted.requires_grad:
            raise IndependentError(_independent(layers))
        gradients = dict(
            zip(leaves, torch.autograd.grad(wanted, list(leaves.values()), allow_unused=True), strict=True)
        )
    for name in layers:
        if (gradient := gradients.get(name)) is not None and bool(gradient.any()):
            return BY_GRADIENT[method](leaves[name].detach(), gradient), name
    raise IndependentError(_independent(layers))


def _independent(layers: Sequence[str]) -> str:
    return f"the score does not depend on the map of {', '.join(layers)}; choose another layer."


def score_cam(net: nn.Module, image: Tensor, scores: Scores, *, layer: str) -> Tensor:
    """Each channel counts as much as the score of the image seen through it.

    Args:
        image: (1, C, H, W).

    Returns:
        (1, h, w), not below 0.

    Source: Wang et al. 2020, arXiv:1910.01279, algorithm 1; the baseline's score drops out of the softmax.
    """
    kept: list[Tensor] = []
    with torch.inference_mode():
        with hooked(net, [layer], lambda _name, output: kept.append(output.clone())):
            net(image)
        maps = kept[0]  # (1, C, h, w)
        found = []
        for part in maps[0][:, None].split(MASKED_AT_ONCE):
            masks = F.interpolate(part, size=image.shape[2:], mode="bilinear", align_corners=False)  # (M, 1, H, W)
            low, high = masks.amin(dim=(2, 3), keepdim=True), masks.amax(dim=(2, 3), keepdim=True)
            found.append(scores(net(image * (masks - low) / (high - low + 1e-8))))
        weights = torch.cat(found).softmax(dim=0)[None, :, None, None]
        return (weights * maps).sum(dim=1).relu()


def occlusion(net: nn.Module, image: Tensor, scores: Scores, *, fill: float = 0.0) -> Tensor:
    """How much the score falls where a window over the image is gray; the mean of the windows over each place.

    Args:
        image: (1, C, H, W).
        fill: of the window, in the model's own numbers; 0 is the mean that images are normalized with.

    Returns:
        (1, h, w), not below 0; a place is half a window.

    Source: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2.
    """
    height, width = image.shape[2:]
    places = WINDOWS * STEPS
    rows = torch.linspace(0, height, places + 1).round().int().tolist()
    columns = torch.linspace(0, width, places + 1).round().int().tolist()
    drops, counts = torch.zeros(places, places), torch.zeros(places, places)
    corners = [(y, x) for y in range(places - STEPS + 1) for x in range(places - STEPS + 1)]
    with torch.inference_mode():
        whole = scores(net(image))[0]
        for start in range(0, len(corners), MASKED_AT_ONCE):
            batch = corners[start : start + MASKED_AT_ONCE]
            covered = image.repeat(len(batch), 1, 1, 1)
            for one, (y, x) in zip(covered, batch, strict=True):
                one[:, rows[y] : rows[y + STEPS], columns[x] : columns[x + STEPS]] = fill
            for (y, x), score in zip(batch, scores(net(covered)), strict=True):
                drops[y : y + STEPS, x : x + STEPS] += whole - score
                counts[y : y + STEPS, x : x + STEPS] += 1
    return (drops / counts).relu()[None]


def on_image(heat: Tensor, height: int, width: int) -> Tensor:
    """(N, h, w) as large as the images, each from 0 to 1: (N, height, width). One that is 0 everywhere stays so."""
    whole = F.interpolate(heat[:, None].float(), size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    return whole / whole.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
