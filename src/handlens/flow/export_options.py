"""What an export may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handlens.errors import InputError

MAX_DROP = 1.0  # points, where nobody says how many
FINE_TUNE = 3  # epochs, where nobody says how many


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """
    Attributes:
        out: the file, of several exports a folder; None is <run>/exports/<run> with the runtime's suffix.
        data: images for the parity check, labeled or not; None is the run's own test or validation images, or else its
            golden ones.
        with_resize: the graph takes images of any size, one at a time, and resizes inside.
        suppress: False leaves non-maximum suppression (NMS) to the app; for detectors.
        split, strips: at most so many parts of an expansion, strips of the first blocks, for less memory
            (models.split); the comparison is with the whole net.
        fp16: weights of 16 bits.
        int8: weights and activations of 8 bits. The runtime's settings are tried on the validation images until one
            loses no more than `max_drop`.
        max_drop: points of the task's metric that fp16 or int8 may lose; None is MAX_DROP.
        keep_float: how many of the layers that int8 hurts most keep 32 bits, in every setting. None is none, and where
            no setting is within `max_drop`, as few as suffice, at most four.
        equalize: rescale channels between layers before int8 (quantization.equalization).
        correct_bias: correct biases for the shift in mean activations that rounding weights causes (quantization.bias),
            where a runtime's quantizer does not.
        fine_tune: epochs of quantization-aware fine-tuning where no setting is within `max_drop`; 0 is none, None is
            FINE_TUNE.
        calibrate: a folder of images that int8 is calibrated with; None is the run's own training images.
        app: also write the folder for whoever builds an app, with copies of a few images.
        images: how many are compared at most, spread evenly; None is as many as take a minute of processor time.

    Raises:
        InputError: two that exclude each other.
    """

    out: Path | str | None = None
    data: Path | str | None = None
    with_resize: bool = False
    suppress: bool = True
    split: int = 1
    strips: int = 1
    fp16: bool = False
    int8: bool = False
    max_drop: float | None = None
    keep_float: int | None = None
    equalize: bool = False
    correct_bias: bool = True
    fine_tune: int | None = None
    calibrate: Path | str | None = None
    app: bool = True
    images: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        if self.max_drop is not None and not (self.fp16 or self.int8):
            raise InputError("--max-drop belongs to --fp16 and --int8.")
        if self.fp16 and self.int8:
            raise InputError("--fp16 and --int8 exclude each other.")
        if self.keep_float is not None and (self.keep_float < 0 or not self.int8):
            raise InputError(f"--keep-float is a number of layers, for --int8; got {self.keep_float}.")
        for option, given in (
            ("equalize", self.equalize),
            ("no-correct-bias", not self.correct_bias),
            ("fine-tune", self.fine_tune is not None),
        ):
            if given and not self.int8:
                raise InputError(f"--{option} belongs to --int8.")
        if self.fine_tune is not None and self.fine_tune < 0:
            raise InputError(f"--fine-tune is a number of epochs, 0 for none; got {self.fine_tune}.")
        if self.calibrate is not None and not self.int8:
            raise InputError("--calibrate belongs to --int8.")
        if (self.fp16 or self.int8) and self.with_resize:
            raise InputError(
                f"--{self.precision} and --with-resize exclude each other: the resize inside a graph needs float32."
            )

    @property
    def allowed_drop(self) -> float:
        """`max_drop` as a fraction."""
        return (MAX_DROP if self.max_drop is None else self.max_drop) / 100

    @property
    def epochs(self) -> int:
        """Of quantization-aware fine-tuning."""
        return FINE_TUNE if self.fine_tune is None else self.fine_tune

    @property
    def precision(self) -> Literal["fp32", "fp16", "int8"]:
        return "int8" if self.int8 else "fp16" if self.fp16 else "fp32"

    def name(self, run: str) -> str:
        """Of the file, without suffix."""
        parts = ["any-size"] if self.with_resize else []
        parts += [] if self.suppress else ["no-nms"]
        parts += [f"split{self.split}"] if self.split > 1 else []
        parts += [f"strips{self.strips}"] if self.strips > 1 else []
        parts += [] if self.precision == "fp32" else [self.precision]
        return "-".join([run, *parts])
