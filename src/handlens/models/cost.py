"""What a net costs: parameters, multiply-adds, memory and receptive field, layer by layer.

One convention for all figures, for one image:

- A product and the sum it goes into are one multiply-add. Convolutions and matrix products count. Biases, batch norm,
  activations and pooling do not: at inference the norm is part of the convolution, and the rest is small.
- Memory is that of the maps between operators, the image included, while weights stay where they are. An operator
  needs its inputs, its output and what later ones wait for. One that works number by number (a norm, an activation, a
  sum) writes over an input that nothing else needs, and padding is part of the convolution behind it.
- Where "padded" is said, padding counts as LiteRT does it: free where it is none or TensorFlow's "SAME", which puts the
  odd row below and right, and otherwise a copy of the map before the layer, with its zeros. PyTorch's symmetric padding
  is "SAME" at stride 1 and a copy at stride 2.
- "arena" is what TFLite Micro's planner makes of the same maps (models.arena), a little more than the peak where they
  do not fit together.
- "block by block" takes the stem, each block and so on as one operator that needs its input and its output, as the
  MobileNetV2 paper counts its bottlenecks (Sandler et al. 2018, section 5.1).
- A receptive field is the side of the square of pixels that one place of a map can depend on.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from handlens.models.arena import arena
from handlens.models.memory import blocks, buffers, micro_bytes, peak
from handlens.models.recorder import Layer, Recorder

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """
    Attributes:
        layers: every operator but views and padding.
        parameters: learnable numbers, `trainable` of which learn; a module that does not run (an auxiliary head) too.
        statistics: numbers that are kept and do not learn, such as batch norm's.
        peak_numbers: the most numbers that are held between operators at once; `peak_at`: by which layer.
        peak_numbers_blocks, peak_at_block: the same, block by block.
        peak_numbers_padded, peak_at_padded: the same, where padding is a copy of the map, as in LiteRT.
        arena_numbers: what TFLite Micro needs for the maps, in numbers of one byte, `padding_numbers` of it for the
            copies that are padded.
        bookkeeping_bytes, file_bytes: about what it keeps beside them, and the size of the file, in int8.
    """

    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    statistics: int
    multiply_adds: int
    peak_numbers: int
    peak_at: str
    peak_numbers_blocks: int
    peak_at_block: str
    peak_numbers_padded: int
    peak_at_padded: str
    arena_numbers: int
    padding_numbers: int
    bookkeeping_bytes: int
    file_bytes: int

    @property
    def ram_bytes(self) -> int:
        """What TFLite Micro needs in int8, bookkeeping included."""
        return self.arena_numbers + self.bookkeeping_bytes

    def weight_bytes(self) -> dict[str, int]:
        """Of the weights alone, by precision; statistics are folded into them."""
        return {name: self.parameters * size for name, size in BYTES.items()}


def parameters(net: nn.Module) -> int:
    """Learnable numbers, batch norm's scale and shift included, its running statistics not."""
    return sum(parameter.numel() for parameter in net.parameters())


def multiply_adds(net: nn.Module, *, height: int, width: int, channels: int = 3) -> int:
    """In total, for one image; see `measure`."""
    return measure(net, height=height, width=width, channels=channels).multiply_adds


def measure(net: nn.Module, *, height: int, width: int, channels: int = 3) -> Cost:
    """Run a copy of a net for one image on the "meta" device, so that nothing is computed and the net stays as it is.

    Raises:
        ValueError: the net does not take images of this size.
    """
    shadow = copy.deepcopy(net).to("meta").eval()
    image = torch.empty(1, channels, height, width, device="meta")
    recorder = Recorder(shadow, image)
    with recorder.names(), recorder, torch.no_grad():
        answer = shadow(image)
    recorder.keep(answer)
    layers = recorder.layers()
    each = [[number] for number in range(len(recorder.calls))]
    peak_numbers, at = peak(recorder, each)
    peak_blocks, at_block = peak(recorder, blocks(recorder))
    peak_padded, at_padded = peak(recorder, each, padded=True)
    planned = arena(buffers(recorder))
    kept, file_bytes = micro_bytes(recorder)
    return Cost(
        layers=tuple(layers),
        parameters=parameters(net),
        trainable=sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad),
        statistics=sum(buffer.numel() for buffer in net.buffers() if buffer.is_floating_point()),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        peak_numbers=peak_numbers,
        peak_at=at,
        peak_numbers_blocks=peak_blocks,
        peak_at_block=at_block,
        peak_numbers_padded=peak_padded,
        peak_at_padded=at_padded,
        arena_numbers=planned,
        bookkeeping_bytes=kept,
        file_bytes=file_bytes,
        padding_numbers=planned - arena(buffers(recorder, padded=False)),
    )
