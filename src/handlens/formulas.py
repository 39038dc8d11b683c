"""The formulas of single layers, worked with numbers: what `handlens explain-layer` prints. Needs no torch.

Sources: Howard et al. 2017, arXiv:1704.04861, section 3.1 (separable convolutions); Sandler et al. 2018,
arXiv:1801.04381, section 3.1 and Table 1 (inverted residuals); Dumoulin and Visin 2016, arXiv:1603.07285 (sizes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from handlens.errors import InputError

LARGEST = 1_000_000  # of every number that is asked about
SYMBOLS = (
    "h, w: height and width of the input; h', w': of the output; d_i, d_j: channels of the input and the output; "
    "k: kernel size; s: stride; p: padding per side; t: expansion factor"
)
KEEPS_CHANNELS = ("depthwise", "pool")
NAMES = {"inside": "input channels", "outside": "output channels"}
WITHOUT_BIAS = ("inverted_residual", "pool")


@dataclass(frozen=True)
class Step:
    """One line: what is asked, its formula, the formula with the numbers put in, and the result."""

    what: str
    formula: str
    worked: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Question:
    """A layer on a map.

    Attributes:
        inside, outside: channels of the map before and behind, d_i and d_j.
        kernel, stride: k and s.
        padding: pixels on each side, or "same" (the output is as large as the input over the stride) or "valid" (none).
        size: side of the map, h = w.
        expansion: t, of an inverted residual.
        bias: whether the layer has one.
    """

    inside: int
    outside: int
    kernel: int = 3
    stride: int = 1
    padding: int | str = "same"
    size: int = 224
    expansion: int = 6
    bias: bool = False

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: a number out of range.
        """
        for name in ("inside", "outside", "kernel", "stride", "size", "expansion"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise InputError(f"{NAMES.get(name, name)} must be from 1 to {LARGEST:,}, got {getattr(self, name)}.")
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            raise InputError(f"padding must be pixels, same or valid, got {self.padding!r}.")
        if isinstance(self.padding, int) and not 0 <= self.padding <= LARGEST:
            raise InputError(f"padding must be from 0 to {LARGEST:,}, got {self.padding}.")


def explain(kind: str, question: Question) -> list[Step]:
    """
    Raises:
        InputError: no such kind of layer; what it does not have; a kernel larger than the padded map.
    """
    if kind not in KINDS:
        raise InputError(f"unknown layer {kind!r}; available: {', '.join(KINDS)}.")
    if kind in KEEPS_CHANNELS and question.outside != question.inside:
        raise InputError(f"{kind} keeps the number of channels, got {question.inside} in and {question.outside} out.")
    if kind in WITHOUT_BIAS and question.bias:
        raise InputError(f"{kind} has no bias.")
    return KINDS[kind](question)


def output_size(question: Question) -> Step:
    """The side of the map behind a layer."""
    size, kernel, stride, padding = question.size, question.kernel, question.stride, question.padding
    if padding == "same":
        return Step("output size", "ceil(h / s)", f"ceil({size} / {stride})", -(-size // stride))
    pixels = padding if isinstance(padding, int) else 0
    left = size - kernel + 2 * pixels
    if left < 0:
        raise InputError(f"a kernel of {kernel} is larger than an input of {size} with {pixels} pixels of padding.")
    return Step(
        "output size",
        "floor((h - k + 2·p) / s) + 1",
        f"floor(({size} - {kernel} + 2·{pixels}) / {stride}) + 1",
        left // stride + 1,
    )


def _conv(q: Question) -> list[Step]:
    out = output_size(q)
    h = int(out.value)
    weights = q.kernel**2 * q.inside * q.outside
    depthwise, pointwise = q.kernel**2 * q.inside, q.inside * q.outside
    share = 1 / q.outside + 1 / q.kernel**2
    return [
        out,
        _parameters("k²·d_i·d_j", f"{q.kernel}²·{q.inside}·{q.outside}", weights, q.outside, q.bias),
        Step("multiply-adds", "h'·w'·k²·d_i·d_j", f"{h}·{h}·{q.kernel}²·{q.inside}·{q.outside}", h * h * weights),
        Step("output values", "h'·w'·d_j", f"{h}·{h}·{q.outside}", h * h * q.outside),
        Step(
            "multiply-adds if separable",
            "h'·w'·d_i·(k² + d_j)",
            f"{h}·{h}·{q.inside}·({q.kernel}² + {q.outside})",
            h * h * (depthwise + pointwise),
        ),
        Step("as a fraction of the standard convolution", "1/d_j + 1/k²", f"1/{q.outside} + 1/{q.kernel}²", share),
        Step("times cheaper", "1 / (1/d_j + 1/k²)", f"1 / {share:.4f}", 1 / share),
    ]


def _separable(q: Question) -> list[Step]:
    out = output_size(q)
    h = int(out.value)
    weights = q.inside * (q.kernel**2 + q.outside)
    share = 1 / q.outside + 1 / q.kernel**2
    numbers = f"{q.inside}·({q.kernel}² + {q.outside})"
    return [
        out,
        _parameters("d_i·(k² + d_j)", numbers, weights, q.inside + q.outside, q.bias),
        Step("multiply-adds", "h'·w'·d_i·(k² + d_j)", f"{h}·{h}·{numbers}", h * h * weights),
        Step("as a fraction of the standard convolution", "1/d_j + 1/k²", f"1/{q.outside} + 1/{q.kernel}²", share),
    ]


def _depthwise(q: Question) -> list[Step]:
    out = output_size(q)
    h = int(out.value)
    weights = q.kernel**2 * q.inside
    numbers = f"{q.kernel}²·{q.inside}"
    return [
        out,
        _parameters("k²·d_i", numbers, weights, q.inside, q.bias),
        Step("multiply-adds", "h'·w'·k²·d_i", f"{h}·{h}·{numbers}", h * h * weights),
    ]


def _inverted_residual(q: Question) -> list[Step]:
    """With t = 1 there is no expansion; at a stride, the expansion alone sees the large map."""
    out = output_size(q)
    before, behind = q.size, int(out.value)
    hidden = q.inside * q.expansion
    wide = q.inside * hidden if q.expansion > 1 else 0
    narrow = hidden * (q.kernel**2 + q.outside)
    steps = [out, Step("channels inside", "t·d_i", f"{q.expansion}·{q.inside}", hidden)]
    if wide:
        cost = Step(
            "multiply-adds",
            "h·w·d_i·t·d_i + h'·w'·d_i·t·(k² + d_j)",
            f"{before}²·{q.inside}·{q.expansion}·{q.inside} + "
            f"{behind}²·{q.inside}·{q.expansion}·({q.kernel}² + {q.outside})",
            before**2 * wide + behind**2 * narrow,
        )
    else:
        cost = Step(
            "multiply-adds",
            "h'·w'·d_i·(k² + d_j)",
            f"{behind}²·{q.inside}·({q.kernel}² + {q.outside})",
            behind**2 * narrow,
        )
    formula = "d_i·t·(d_i + k² + d_j)" if wide else "d_i·(k² + d_j)"
    added = f"{q.inside} + " if wide else ""
    numbers = f"{q.inside}·{q.expansion}·({added}{q.kernel}² + {q.outside})"
    norms = 2 * (hidden * (2 if wide else 1) + q.outside)
    steps += [
        Step("parameters of the convolutions", formula, numbers, wide + narrow),
        Step(
            "with batch norm scale and shift",
            "+ 2·(channels of each norm)",
            f"{wide + narrow} + {norms}",
            wide + narrow + norms,
        ),
        cost,
    ]
    if wide and before == behind:
        whole = wide + narrow
        steps.append(
            Step("the same in one product", "h·w·d_i·t·(d_i + k² + d_j)", f"{before}²·{numbers}", before**2 * whole)
        )
    skip = q.stride == 1 and before == behind and q.inside == q.outside
    steps.append(
        Step(
            "skip: stride 1, same size and channels",
            "0 or 1",
            f"{q.stride}, {before} and {behind}, {q.inside} and {q.outside}",
            int(skip),
        )
    )
    return steps


def _dense(q: Question) -> list[Step]:
    """Flatten a map, then a linear layer: it grows with the area of the image, a convolution does not."""
    places = q.size**2 * q.inside
    half = (q.size // 2) ** 2 * q.inside
    return [
        Step("numbers in", "h·w·d_i", f"{q.size}·{q.size}·{q.inside}", places),
        _parameters("h·w·d_i·d_j", f"{places}·{q.outside}", places * q.outside, q.outside, q.bias),
        Step("multiply-adds", "h·w·d_i·d_j", f"{places}·{q.outside}", places * q.outside),
        *(
            []
            if q.size == 1
            else [
                Step(
                    "weights at half the side", "floor(h/2)·floor(w/2)·d_i·d_j", f"{half}·{q.outside}", half * q.outside
                ),
                Step(
                    "weights of a 3x3 convolution, any size",
                    "9·d_i·d_j",
                    f"9·{q.inside}·{q.outside}",
                    9 * q.inside * q.outside,
                ),
            ]
        ),
    ]


def _pool(q: Question) -> list[Step]:
    out = output_size(q)
    h = int(out.value)
    return [out, Step("output values", "h'·w'·d_i", f"{h}·{h}·{q.inside}", h * h * q.inside)]


def _parameters(formula: str, worked: str, weights: int, outputs: int, bias: bool) -> Step:
    if not bias:
        return Step("parameters", formula, worked, weights)
    return Step("parameters", f"{formula} + biases", f"{worked} + {outputs}", weights + outputs)


KINDS: dict[str, Callable[[Question], list[Step]]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "separable": _separable,
    "inverted_residual": _inverted_residual,
    "dense": _dense,
    "pool": _pool,
}
