"""Every operator of a net as it runs, with what it takes and makes; `models.cost` says by which convention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from handlens.models.operators import CONVOLUTIONS, NORMS, POINTWISE, POOLS, PRODUCTS, VIEWS


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator of a net, in the order they run.

    Attributes:
        name: of the module, as in the state dict; with " add" and the like where it is no module of its own.
        kind: "Conv2d", "BatchNorm2d", "add", "cat" ...
        detail: kernel, stride and the like, for people.
        inputs: names of the layers that feed it, "image" for the first.
        shape: of the output for one image: (C, h, w), or (D,).
        parameters: its own, of which `trainable` learn. Both 0 for a module that ran before.
        stride, receptive_field: of a place of the map, in pixels of the image; None where the whole image counts.
        padded: numbers of the copy of its input that LiteRT makes to pad it; 0 where padding costs nothing.
    """

    name: str
    kind: str
    detail: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    stride: int | None
    receptive_field: int | None
    padded: int = 0


@dataclass
class Map:
    """A tensor between operators.

    Attributes:
        numbers: in it. made_by: the index of a call; -1 is the image. needed_by: those that read it; one more than
            there are for what the net returns.
        stride, receptive_field: as of Layer.
    """

    numbers: int
    made_by: int
    stride: int | None = 1
    receptive_field: int | None = 1
    needed_by: list[int] = field(default_factory=list)


@dataclass
class Call:
    """One operator as it ran.

    Attributes:
        operator: as ATen calls it. module: in which it ran, as in `named_modules()`.
        shape: of the output for one image.
        weights: numbers of its weight. The others are as of Layer.
    """

    operator: str
    module: str
    inputs: list[Map]
    output: Map
    shape: tuple[int, ...]
    multiply_adds: int = 0
    detail: str = ""
    padded: int = 0
    weights: int = 0


def _norm_of_nothing(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a batch norm makes of a tensor without numbers; PyTorch computes its shapes in 60 steps."""
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


class Recorder(TorchDispatchMode):
    """Writes down every operator, the module it ran in and the maps it took and made."""

    def __init__(self, net: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.net = net
        self.calls: list[Call] = []
        self.image = Map(image.numel(), -1)
        self._map_of: dict[int, Map] = {id(image): self.image}
        self._kept: list[Any] = [image]  # alive, so that no other tensor gets its id
        self._stack: list[str] = [""]
        self._pads: dict[int, tuple[int, ...]] = {}  # of tensors that were padded: left, right, top, bottom

    @contextmanager
    def names(self) -> Iterator[None]:
        """Hooks that tell which module is running."""
        hooks: list[Any] = []
        for name, module in self.net.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda _, __, name=name: self._stack.append(name)))
            hooks.append(module.register_forward_hook(lambda _, __, ___: self._stack.pop() and None))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = _norm_of_nothing(args[0]) if func in NORMS and args[0].is_meta else func(*args, **(kwargs or {}))
        inputs = [found for value in _tensors(args) if (found := self._map_of.get(id(value))) is not None]
        self._kept.append((args, made))
        if not inputs:  # about weights or numbers alone
            return made
        operator = func._schema.name.split("::")[1]
        outputs = list(_tensors([made]))
        if operator in VIEWS:
            for output in outputs:
                self._map_of[id(output)] = inputs[0]
            if operator == "constant_pad_nd":
                self._pads[id(outputs[0])] = tuple(args[1])
            return made
        self._note(operator, func, args, inputs, outputs[0])
        return made

    def _note(self, operator: str, func: Any, args: Any, inputs: list[Map], output: Tensor) -> None:
        number = len(self.calls)
        for found in inputs:
            found.needed_by.append(number)
        call = Call(operator, self._stack[-1], inputs, Map(output.numel(), number), tuple(output.shape[1:]))
        strides = [found.stride for found in inputs]
        fields = [found.receptive_field for found in inputs]
        stride = None if None in strides else max(s for s in strides if s is not None)
        seen = None if None in fields else max(f for f in fields if f is not None)
        if func in CONVOLUTIONS:
            _, weight, _, (step, *_), _, (dilation, *_), transposed, _, groups = args[:9]
            kernel = weight.shape[2:]
            call.weights = weight.numel()
            places = args[0].numel() if transposed else output.numel()
            call.multiply_adds = places * weight.shape[1] * math.prod(kernel)
            call.detail = _convolution(kernel, step, dilation, groups, transposed=transposed)
            if not transposed:
                call.padded = self._padded(args[0], kernel, args[3], args[4], args[5])
            if transposed and stride is not None:  # between the places of the map before
                stride = max(1, stride // step)
            elif stride is not None and seen is not None:
                seen += (max(kernel) - 1) * dilation * stride
                stride *= step
        elif func in PRODUCTS:
            left, right = args[-2:]
            call.multiply_adds = left.numel() * right.shape[-1]
            call.weights = right.numel()
            stride = seen = None
        elif func in POOLS:
            kernel, step = args[1], (args[2] if len(args) > 2 and args[2] else args[1])
            call.detail = f"{kernel[0]}x{kernel[-1]}, stride {step[0]}"
            call.padded = self._padded(args[0], kernel, step, args[3] if len(args) > 3 else (0, 0), (1, 1))
            if stride is not None and seen is not None:
                seen += (max(kernel) - 1) * stride
                stride *= step[0]
        elif operator == "avg_pool3d" and tuple(args[1][1:]) == (1, 1):
            pass  # over neighboring channels: a LocalResponseNorm
        elif operator not in POINTWISE and operator != "cat":
            stride = seen = None
        call.output.stride, call.output.receptive_field = stride, seen
        self._map_of[id(output)] = call.output
        self.calls.append(call)

    def _padded(self, x: Tensor, kernel: Sequence[int], step: Any, padding: Any, dilation: Any) -> int:
        """Numbers of the padded copy that LiteRT makes of what goes into a layer.

        Its convolutions and poolings know no padding and TensorFlow's "SAME"; any other is an operator before them.
        """
        left, right, top, bottom = self._pads.get(id(x), (0, 0, 0, 0))
        height, width = x.shape[-2:]  # of a padded tensor, with its zeros
        pads = (top + padding[0], bottom + padding[0], left + padding[-1], right + padding[-1])
        if not any(pads):
            return 0
        same: list[int] = []
        for axis, size in ((0, height - top - bottom), (-1, width - left - right)):
            reach = (kernel[axis] - 1) * dilation[axis] + 1
            total = max(0, (-(-size // step[axis]) - 1) * step[axis] + reach - size)
            same += [total // 2, total - total // 2]
        if pads == tuple(same):
            return 0
        return int(x.numel() // (height * width) * (height + 2 * padding[0]) * (width + 2 * padding[-1]))

    def keep(self, answer: Any) -> None:
        """What the net returns is needed at the end."""
        for value in _tensors([answer]):
            if id(value) in self._map_of:
                self._map_of[id(value)].needed_by.append(len(self.calls))

    def layers(self) -> list[Layer]:
        modules = dict(self.net.named_modules())
        names = self.call_names()
        layers: list[Layer] = []
        counted: set[int] = set()
        for number, (call, name) in enumerate(zip(self.calls, names, strict=True)):
            module = modules[call.module]
            if number and names[number - 1] == name:
                # A module of torch that runs as several operators: one layer, what comes out of the last.
                layers[-1] = replace(layers[-1], shape=call.shape)
                continue
            own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
            counted |= {id(p) for p in own}
            before = ["image" if found.made_by < 0 else names[found.made_by] for found in call.inputs]
            layers.append(
                Layer(
                    name=name,
                    kind=type(module).__name__ if _is_leaf(module) else call.operator.strip("_"),
                    detail=call.detail,
                    inputs=tuple(dict.fromkeys(before)),
                    shape=call.shape,
                    parameters=sum(p.numel() for p in own),
                    trainable=sum(p.numel() for p in own if p.requires_grad),
                    multiply_adds=call.multiply_adds,
                    stride=call.output.stride,
                    receptive_field=call.output.receptive_field,
                    padded=call.padded,
                )
            )
        return layers

    def call_names(self) -> list[str]:
        """Of every call: its module, and the operator where it is no module of its own. What is called again, as a
        pooling that several levels share, is "pool 2"; a module of torch that runs as several operators has one name.
        """
        modules = dict(self.net.named_modules())
        seen: dict[str, int] = {}
        names: list[str] = []
        last = None
        for number, call in enumerate(self.calls):
            leaf = _is_leaf(modules[call.module])
            name = call.module if leaf else f"{call.module} {call.operator.strip('_')}".strip()
            if leaf and name == last and call.inputs[-1].made_by == number - 1:
                names.append(names[-1])
                continue
            last, seen[name] = name, seen.get(name, 0) + 1
            names.append(f"{name} {seen[name]}" if seen[name] > 1 else name)
        return names


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None and type(module).__module__.startswith("torch.nn")


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _convolution(kernel: Sequence[int], stride: int, dilation: int, groups: int, *, transposed: bool) -> str:
    said = ["x".join(map(str, kernel))]
    said += [f"stride {stride}"] if stride != 1 else []
    said += [f"dilation {dilation}"] if dilation != 1 else []
    said += [f"groups {groups}"] if groups != 1 else []
    return ", ".join([*said, *(["transposed"] if transposed else [])])
