"""Everything that decides how a training goes, in one strict object. What the command line asks for ends here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from handlens.errors import InputError, nearest

Mode = Literal["auto", "head", "finetune", "scratch"]


class Augment(BaseModel):
    """Training transforms. Each may be 0 to switch it off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal mirror image")
    vertical_flip: float = Field(
        0.0, ge=0, le=1, description="probability of turning it upside down, for what has no above: cells, parts, maps"
    )
    crop_area: float = Field(
        0.35, gt=0, le=1, description="smallest share of the image a random crop keeps; 1.0: what prediction sees"
    )
    zoom_out: float | None = Field(
        None,
        ge=1,
        le=8,
        description="how many times longer the sides of what is seen can be than the image's, of "
        "segmenters and detectors; none: 1.25 and 2",
    )
    color: float = Field(0.2, ge=0, le=1, description="strength of brightness, contrast and saturation changes")
    mixup: float = Field(0.0, ge=0, le=10, description="of classifiers: Beta parameter of mixup; 0 is off")
    cutmix: float = Field(
        0.0, ge=0, le=10, description="of classifiers: Beta parameter of CutMix; 0 is off; with mixup they take turns"
    )
    rotate: float = Field(
        0.0,
        ge=0,
        le=180,
        description="of classifiers: degrees that it is turned at most, either way; it is mirrored at its edges",
    )
    trivial: bool = Field(False, description="of classifiers: one operation of TrivialAugment more")
    mosaic: float = Field(0.0, ge=0, le=1, description="of detectors: share of the images put together of four")


class Recipe(BaseModel):
    """How to train. Units in the descriptions; defaults are our choice unless a source is named."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field("mobilenet_v2", description="name in the catalogue")
    width: float | None = Field(None, gt=0, description="width multiplier; none is the net's own, 1.0")
    image_size: int | list[int] | None = Field(
        None, description="pixels, or [height, width]; none is the net's own, or what suits the images"
    )
    options: dict[str, Any] = Field({}, description="further arguments of the net, by name")
    anchors: Literal["fitted", "paper"] = Field("fitted", description="of detectors: k-means over the training boxes")
    box_loss: Literal["mined", "focal"] = Field("mined", description="of detectors: Liu et al. 2016, Lin et al. 2017")
    pixel_loss: Literal["cross-entropy", "focal"] = Field(
        "cross-entropy", description="of segmenters; focal: Lin et al. 2017, for pixels most of which are easy"
    )
    number_loss: Literal["l1", "l2", "huber"] = Field(
        "huber", description="of regression, on numbers scaled to variance 1; huber: l2 below 1, l1 beyond"
    )
    dice: float = Field(0.0, ge=0, description="of segmenters: weight of the Dice loss beside the pixel loss")
    mode: Mode = Field(
        "auto",
        description="head: frozen backbone, of classifiers; finetune: all, a classifier's head first; "
        "scratch: no pretrained weights",
    )
    weights: str | None = Field(None, description="a file of the user's own in place of the published weights")
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "auto"] = Field("auto", description="auto: bf16 where the processor computes in it")

    validation: float = Field(0.15, gt=0, lt=1, description="share of the training images kept for validation")
    epochs: int = Field(3, ge=0, le=10_000, description="passes over the training images, finetune and scratch")
    batch_size: int = Field(32, ge=1, description="images")
    optimizer: Literal["adamw", "adam", "rmsprop", "sgd"] = Field("adamw", description="what moves the weights")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd and rmsprop; 0 is off")
    schedule: Literal["cosine", "constant", "exponential"] = Field(
        "cosine",
        description="of the learning rate behind the warmup: a cosine to 0; none; decay times it per epoch",
    )
    decay: float = Field(0.98, gt=0, le=1, description="of the exponential schedule")
    learning_rate: float = Field(2e-4, gt=0, description="at its peak, for the backbone's last block")
    layer_decay: float = Field(0.9, gt=0, le=1, description="learning rate of each block relative to the next one")
    weight_decay: float = Field(
        0.02, ge=0, description="not on biases and batch norm; adamw's own form, of the others in the gradient"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each target spread over all classes; of classifiers and of segmenters with cross-entropy",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="of classifiers; balanced: rare classes count as much as frequent ones; of several labels, "
        "those that an image has as much as those that it lacks",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="of classifiers, share left out before the last layers; none is the net's own, as its paper has it",
    )
    freeze_batch_norm: bool = Field(True, description="keep batch-norm statistics")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights per step; 0 is off")
    choose_by: Literal["metric", "loss"] = Field(
        "metric",
        description="what the best epoch has on validation: the highest accuracy, mAP, mIoU or mAP50, or the lowest "
        "loss; where two are equal, the other decides",
    )
    patience: int = Field(0, ge=0, description="epochs that are no better before stopping; 0 is off")
    views: int = Field(0, ge=0, le=64, description="augmented views per image in head mode")
    workers: int | None = Field(None, ge=0, description="loader processes; none: measured")
    checkpoint_seconds: float = Field(60.0, gt=0, description="longest time that a kill can cost")
    augment: Augment = Augment()  # type: ignore[call-arg]

    @field_validator("image_size")
    @classmethod
    def _sides(cls, value: int | list[int] | None) -> int | list[int] | None:
        sides = value if isinstance(value, list) else [value, value]
        if value is not None and (len(sides) != 2 or not all(8 <= side <= 4096 for side in sides if side is not None)):
            raise ValueError("one number of pixels, or [height, width], from 8 to 4096")
        return value

    def size(self) -> tuple[int, int]:
        """(height, width) that were asked for, pixels."""
        assert self.image_size is not None
        height, width = self.image_size if isinstance(self.image_size, list) else (self.image_size, self.image_size)
        return height, width

    def settled(self, mode: Mode, defaults: Mapping[str, Any] | None = None) -> Recipe:
        """This recipe for one mode and task: what was not asked for and has another default there is replaced.

        Args:
            defaults: those of the task.
        """
        wanted = (FROM_SCRATCH if mode == "scratch" else {}) | dict(defaults or {})
        augment = {k: v for k, v in wanted.pop("augment", {}).items() if k not in self.augment.model_fields_set}
        changed = {key: value for key, value in wanted.items() if key not in self.model_fields_set}
        changed["augment"] = self.augment.model_copy(update=augment)
        return self.model_copy(update=changed | {"mode": mode})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


# The defaults of mode scratch, where they are not those above: there is nothing that was learned and could be spoilt.
FROM_SCRATCH: dict[str, Any] = {
    "epochs": 40,
    "learning_rate": 3e-3,
    "layer_decay": 1.0,
    "freeze_batch_norm": False,
}


def read_recipe(path: Path | None, **overrides: Any) -> Recipe:
    """A recipe from a YAML file and the fields given by name; a field given by name wins.

    Raises:
        InputError: missing file, not YAML, a key that does not exist (its nearest is named), a wrong type or range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"recipe {path} cannot be read: {error}.") from None
        except yaml.YAMLError as error:
            raise InputError(f"recipe {path} is not YAML: {str(error).splitlines()[0]}.") from None
        loaded = {} if loaded is None else loaded  # an empty file: all defaults
        if not isinstance(loaded, dict):
            raise InputError(f"recipe {path} must be a list of 'key: value' lines, got {type(loaded).__name__}.")
        values = loaded
    values |= {key: value for key, value in overrides.items() if value is not None}
    return make_recipe(values)


def make_recipe(values: dict[str, Any]) -> Recipe:
    """
    Raises:
        InputError: as `read_recipe`.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *parents, key = map(str, first["loc"])
        if not parents and key in Augment.model_fields:
            return f"the recipe has no key {key!r}; it stands below augment: 'augment: {{{key}: ...}}'."
        owner, known = ("augment", Augment.model_fields) if parents else ("the recipe", Recipe.model_fields)
        return f"{owner} has no key {key!r}; {nearest(key, known)}."
    hint = ""
    if isinstance(first["input"], str) and first["type"] in ("float_type", "int_type"):
        hint = " (YAML reads a number such as 1e-3 as text: write 1.0e-3, and no quotes)"
    return f"recipe: {where} = {first['input']!r} is not accepted: {first['msg'].lower()}{hint}."
