"""The report of a comparison: what a file answers beside what PyTorch answers, and whether it passes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from handlens.runtimes.delegation import Delegation

OWN, FULL = "as handlens resizes", "full images, resized inside"


@dataclass(frozen=True)
class Row:
    """One engine at one precision against PyTorch fp32 on the same pixels.

    Attributes:
        pixels: OWN, or FULL where the model resizes.
        equal: share of the labels, of the pixels or of the boxes that are the same; of a file that is not float32,
            those that an app would show alike (`Task.changed`), where it would show any.
        largest_difference: of a probability, or of the scores of boxes that are the same; None for class maps.
        mean_difference: of the images' largest differences; of boxes, of all those that are the same.
        excused: ids whose label differs while the reference's top two lie within twice the tolerance.
        differing: ids that differ without that excuse.
        score: of these answers by the task's metric, None without labels or where they are not numbers.
        reference_score: PyTorch's.
        score_interval: 95 % interval of `score - reference_score` for other images like these; None without labels,
            with fewer than 100 images, and of rows that inform.
        passed: None where the row informs and does not decide.
        size_mb: of the files, 10^6 bytes.
        latency_ms: of one image, with all cores; median.
        peak_mb: memory of the process with one image, 10^6 bytes; None where the system does not say.
    """

    engine: str
    precision: str
    pixels: str
    images: int
    equal: float
    largest_difference: float | None
    mean_difference: float | None
    excused: tuple[str, ...]
    differing: tuple[str, ...]
    score: float | None
    reference_score: float | None
    score_interval: tuple[float, float] | None
    passed: bool | None
    size_mb: float
    latency_ms: float
    peak_mb: float | None


@dataclass(frozen=True)
class OtherKernels:
    """One int8 file with kernels other than those that are fastest here, against those.

    Attributes:
        images: how many; as many as take no longer than is bearable. 0 where it could not be run with them here.
        changed: as of `Task.changed`.
        passed: no more than `most`.
        most: what rounding explains: of labels `comparison.share_by_rounding`, else `MAPS_CHANGE`.
    """

    name: str
    images: int
    changed: float | None
    passed: bool
    most: float


@dataclass(frozen=True)
class Parity:
    """The report. `passed` is what the exit code follows.

    Attributes:
        task: decides what is compared: labels and probabilities, of one class or of each on its own, pixels, or boxes.
        tolerance: of a probability; of masks and boxes see `agreement`.
        available: how many images there were; `images` of a row is how many were compared.
        resizers: per way of resizing, our own first: what share of the file's answers is another than on our own pixels
            (`Task.changed`), and its score: what an app changes by resizing otherwise. Empty where the model resizes.
        max_drop: what the score may lose, of a file that is not float32.
        delegation: which operators the runtime's fast kernels run; None where it knows no other.
        kernels: of int8, what changes with those of other processors.
        tried: of int8, the settings that were tried on validation images: `flow.int8.quantize`.
    """

    task: str
    tolerance: float
    available: int
    rows: tuple[Row, ...]
    resizers: tuple[dict[str, Any], ...] = field(default=())
    tried: tuple[dict[str, Any], ...] = field(default=())
    max_drop: float | None = None
    delegation: Delegation | None = None
    kernels: tuple[OtherKernels, ...] = ()

    @property
    def passed(self) -> bool:
        decided = [row.passed for row in self.rows if row.passed is not None]
        held = not self.tried or any(entry["passed"] for entry in self.tried)
        return bool(decided) and all(decided) and held and all(entry.passed for entry in self.kernels)

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed} | asdict(self)


def is_report(value: Any) -> bool:
    """Whether it is what lies beside an export: `Parity.to_dict` and its file's name. Files of earlier versions lack
    something, and those of others all."""
    return (
        _is(value, Parity)
        and isinstance(value.get("file"), str)
        and Path(value["file"]).name == value["file"]
        and isinstance(value.get("to"), str)
        and len(value["rows"]) > 0
    )


def _is(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a type; of a dataclass, whether it has its fields."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return isinstance(value, dict) and all(name in value and _is(value[name], hints[name]) for name in hints)
    if isinstance(kind, UnionType):
        return any(_is(value, one) for one in get_args(kind))
    origin = get_origin(kind) or kind
    if origin is tuple:
        first, *others = get_args(kind)
        if not isinstance(value, list) or (Ellipsis not in others and len(value) != 1 + len(others)):
            return False
        return all(_is(one, first) for one in value)
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind is Any or isinstance(value, origin)
