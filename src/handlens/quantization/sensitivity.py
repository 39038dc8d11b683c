"""Which layers int8 hurts: each quantized alone, and what it changes in the net's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from handlens.preprocess import Preprocess
from handlens.quantization.observe import observe
from handlens.quantization.simulation import Simulation
from handlens.quantization.unfolded import Unfolded
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.graph import Scale
from handlens.runtimes.int8 import Scheme

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGEST_BATCH = 8
PIXELS = 224 * 224  # of images up to which there are so many in a batch
Changed = Callable[[Any, Any], float | None]


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """
    Attributes:
        name: of the module, as in `net.named_modules()`.
        kind: for people, such as "3x3 depthwise".
        noise: of the output, as a share of its power, when this layer alone is quantized.
        signal_db: the same as signal to noise, decibels; None where nothing changes.
        changed: share of labels (pixels, boxes) that are others then; None where nobody counts them, or there are none.
        extra_bytes: that its weights take more in float.
        multiply_adds: of one image, that are computed in float then.
    """

    name: str
    kind: str
    noise: float
    signal_db: float | None
    changed: float | None
    extra_bytes: int
    multiply_adds: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def layers_that_hurt(
    net: nn.Module,
    preprocess: Preprocess,
    images: NDArray[np.uint8],
    scheme: Scheme,
    *,
    calibration: NDArray[np.uint8] | None = None,
    changed: Changed | None = None,
    report: Reporter = QUIET,
) -> list[LayerError]:
    """Every layer with weights, the one that hurts most first.

    Args:
        net: in float; is left as it is.
        images: (N, height, width, C) uint8, on which the error is measured.
        scheme: of a runtime's `Setting`.
        calibration: the same, for ranges of activations; None is `images`.
        changed: from what the net gives in float and in part in int8 to the share of labels that differ.

    Raises:
        InputError: torch.export cannot take the net.
        ValueError: no images.
    """
    pixels = normalized(images, preprocess)
    simulation = simulate(net, pixels if calibration is None else normalized(calibration, preprocess), scheme)
    return errors_by_layer(simulation, pixels, changed=changed, report=report)


def normalized(images: NDArray[np.uint8], preprocess: Preprocess) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32, what a net takes."""
    with torch.no_grad():
        return Scale(preprocess)(torch.tensor(images)).contiguous()


def simulate(net: nn.Module, calibration: Tensor, scheme: Scheme) -> Simulation:
    """
    Args:
        calibration: (N, C, H, W) float32, normalized.
    """
    if not len(calibration):
        raise ValueError("calibration needs at least one image")
    unfolded = unfold(net, calibration)
    return Simulation(unfolded, observe(unfolded, calibration), scheme)


def unfold(net: nn.Module, images: Tensor) -> Unfolded:
    """A net for batches that fit into memory with all their maps: of images of this shape.

    Args:
        images: (N, C, H, W) float32.
    """
    batch = max(1, min(LARGEST_BATCH, LARGEST_BATCH * PIXELS // math.prod(images.shape[2:])))
    return Unfolded(net, images[:1].expand(batch, *images.shape[1:]).clone())


def errors_by_layer(
    simulation: Simulation, images: Tensor, *, changed: Changed | None = None, report: Reporter = QUIET
) -> list[LayerError]:
    """As `layers_that_hurt`, of a simulation that is there.

    Args:
        images: (N, C, H, W) float32, normalized.
    """
    names = list(dict.fromkeys(layer.name for layer in simulation.layers))
    power: dict[str, float] = dict.fromkeys(names, 0.0)
    shares: dict[str, list[tuple[float, int]]] = {name: [] for name in names}  # with the number of images
    signal = 0.0
    size = simulation.batch
    done, total = 0, math.ceil(len(images) / size) * len(names)
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        whole: Any = None
        for name, raw in simulation.each_alone(batch):
            if name is None:
                whole, signal = raw, signal + _power(raw, None, len(batch))
                continue
            power[name] += _power(raw, whole, len(batch))
            share = None if changed is None else changed(whole, raw)
            if share is not None:
                shares[name].append((share, len(batch)))
            done += 1
            report.progress("layers in int8", done, total)
    found = []
    for name in names:
        runs = [layer for layer in simulation.layers if layer.name == name]
        noise = power[name] / max(signal, 1e-30)
        found.append(
            LayerError(
                name=name,
                kind=runs[0].kind,
                noise=noise,
                signal_db=decibels(noise),
                changed=_mean(shares[name]),
                extra_bytes=3 * runs[0].parameters,
                multiply_adds=sum(layer.multiply_adds for layer in runs),
            )
        )
    return sorted(found, key=lambda error: -error.noise)


def _mean(shares: Sequence[tuple[float, int]]) -> float | None:
    count = sum(number for _, number in shares)
    return sum(share * number for share, number in shares) / count if count else None


def noise_of(raw: Any, whole: Any, count: int) -> float:
    """Of an output, as a share of the power of what it is in float.

    Args:
        count: of images.
    """
    return _power(raw, whole, count) / max(_power(whole, None, count), 1e-30)


def decibels(noise: float) -> float | None:
    """Signal to noise; None without noise."""
    return None if noise <= 0 else -10 * math.log10(noise)


def _power(raw: Any, whole: Any | None, count: int) -> float:
    """The sum of squares of all that are images' numbers, less those of another output where one is given."""
    leaves = pytree.tree_leaves(raw)
    references: Sequence[Any] = [None] * len(leaves) if whole is None else pytree.tree_leaves(whole)
    total = 0.0
    for leaf, reference in zip(leaves, references, strict=True):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() > 1 and leaf.shape[0] == count:
            total += float((leaf if reference is None else leaf - reference).double().square().sum())
    return total
