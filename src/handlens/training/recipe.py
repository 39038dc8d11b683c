"""The hyperparameters of a training, in one strict object; command-line options override its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from handlens.errors import InputError
from handlens.names import as_yaml
from handlens.training.parts import constructor, found, is_part_name, name_of, named

Mode = Literal["auto", "head", "finetune", "scratch"]


class Augment(BaseModel):
    """Training transforms. Each may be 0 to switch it off."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    flip: float = Field(0.5, ge=0, le=1, description="Horizontal flip probability.")
    vertical_flip: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Vertical flip probability; for images without a natural orientation, such as cells or maps.",
    )
    crop_area: float = Field(
        0.35,
        gt=0,
        le=1,
        description="Smallest fraction of the image area that a random crop keeps; 1.0 trains on the same crop as "
        "prediction.",
    )
    zoom_out: float | None = Field(
        None,
        ge=1,
        le=8,
        description="Largest factor by which the field of view exceeds the image (segmenters and detectors); "
        "if none, 1.25 for segmenters and 2 for detectors.",
    )
    color: float = Field(0.2, ge=0, le=1, description="Strength of brightness, contrast and saturation jitter.")
    mixup: float = Field(0.0, ge=0, le=10, description="Alpha of mixup (classifiers); 0 is off.")
    cutmix: float = Field(
        0.0, ge=0, le=10, description="Alpha of CutMix (classifiers); 0 is off. With mixup, batches alternate."
    )
    rotate: float = Field(
        0.0,
        ge=0,
        le=180,
        description="Largest rotation in degrees, either way (classifiers and regression); corners are filled "
        "by reflection.",
    )
    trivial: bool = Field(
        False, description="Also apply one random TrivialAugment operation (classifiers and regression)."
    )
    mosaic: float = Field(
        0.0, ge=0, le=1, description="Fraction of the training images that are mosaics of four (detectors)."
    )


class Recipe(BaseModel):
    """How to train. Units in the descriptions; defaults are our choice unless a source is named."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    model: Any = Field(
        "mobilenet_v2",
        description="Model name; `handlens models` lists them. Or your own: package.module:Name, from Python also the "
        "constructor or the torch.nn.Module itself (docs/python.md).",
    )
    width: float | None = Field(None, gt=0, description="Width multiplier; if none, the model's default, 1.0.")
    image_size: int | list[int] | None = Field(
        None,
        description="Input size in pixels, or [height, width]; if none, the model's default, or a size that suits "
        "the images.",
    )
    options: dict[str, Any] = Field(
        {}, description="Additional arguments of the model, by name; classes and functions as package.module:Name."
    )
    anchors: Literal["fitted", "paper"] = Field(
        "fitted", description="fitted: k-means over the training boxes; paper: the published ones (detectors)."
    )
    box_loss: Literal["mined", "focal"] = Field(
        "mined",
        description="Class loss of detectors; mined: hard negative mining (Liu et al. 2016); focal: Lin et al. 2017.",
    )
    pixel_loss: Literal["cross-entropy", "focal"] = Field(
        "cross-entropy",
        description="Loss per pixel (segmenters); focal: Lin et al. 2017, for data where most pixels are easy.",
    )
    number_loss: Literal["l1", "l2", "huber"] = Field(
        "huber", description="Loss of regression, on targets scaled to variance 1; huber: l2 below 1, l1 beyond."
    )
    loss: Any = Field(
        None,
        description="Your own loss in place of the task's: package.module:Name, from Python also the function "
        "(docs/python.md).",
    )
    dice: float = Field(0.0, ge=0, description="Weight of the Dice loss beside the pixel loss (segmenters).")
    mode: Mode = Field(
        "auto",
        description="head: fit a linear layer on frozen features; finetune: train all layers, after fitting a "
        "head if the task has one; scratch: no pretrained weights.",
    )
    weights: str | None = Field(
        None,
        description="Weights to start from: a file of your own, or a name of `handlens weights list`; if none, the "
        "first published ones that are available.",
    )
    normalization: Literal["imagenet", "half", "unit", "lite"] | None = Field(
        None,
        description="Scaling of the input, for your own model or weights; imagenet: by ImageNet's mean and standard "
        "deviation; half: -1 to 1; unit: 0 to 1; lite: (pixel - 127) / 128; if none, that of the weights, or imagenet.",
    )
    seed: int = Field(0, ge=0, description="Seed of the split, the initial weights, the order and the augmentation.")
    precision: Literal["fp32", "auto"] = Field("auto", description="auto: bf16 on CPUs with native bf16, else fp32.")

    validation: float = Field(0.15, gt=0, lt=1, description="Fraction of the training images used for validation.")
    epochs: int = Field(3, ge=0, le=10_000, description="Passes over the training images (finetune and scratch).")
    batch_size: int = Field(32, ge=1, description="Images per batch.")
    optimizer: Literal["adamw", "adam", "rmsprop", "sgd"] = Field("adamw", description="Optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd and rmsprop; 0 is off.")
    schedule: Literal["cosine", "constant", "exponential", "plateau"] = Field(
        "cosine",
        description="Learning rate after the warmup; cosine: down to 0; exponential: times decay per epoch; plateau: "
        "times decay where validation has not improved for plateau_epochs.",
    )
    decay: float | None = Field(
        None, gt=0, le=1, description="Factor of the schedules exponential (if none, 0.98) and plateau (if none, 0.1)."
    )
    plateau_epochs: int = Field(2, ge=1, description="Epochs without improvement before plateau lowers the rate.")
    learning_rate: float = Field(
        2e-4,
        gt=0,
        description="Peak learning rate of the backbone's last block. By default, after a head was fitted and with "
        "fewer than 250 steps, it is scaled by sqrt(steps / 250).",
    )
    layer_decay: float = Field(0.9, gt=0, le=1, description="Learning rate of each block relative to the next one.")
    weight_decay: float = Field(
        0.02,
        ge=0,
        description="Weight decay, except on biases and batch norm; decoupled with adamw, L2 regularization "
        "with the others.",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Fraction of all steps with linear learning rate warmup.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Label smoothing (classifiers, and segmenters with cross-entropy)."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: weigh classes inversely to their frequency; multi-label: weigh positives as "
        "much as negatives (classifiers).",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout rate before the classifier (classifiers and regression); if none, the model's default, "
        "as in its paper.",
    )
    freeze_batch_norm: bool = Field(True, description="Keep the batch norm statistics of the pretrained weights.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay per step of the exponential moving average of the weights; 0 is off."
    )
    choose_by: Literal["metric", "loss"] = Field(
        "metric",
        description="How the best epoch is chosen on validation: the highest metric or the lowest loss; ties "
        "are broken by the other.",
    )
    patience: int = Field(0, ge=0, description="Epochs without improvement before early stopping; 0 is off.")
    augmented_copies: int = Field(0, ge=0, le=64, description="Augmented copies per image in head mode.")
    workers: int | None = Field(None, ge=0, description="Data loader processes; if none, chosen by measurement.")
    checkpoint_seconds: float = Field(60.0, gt=0, description="Maximum number of seconds between checkpoints.")
    transform: Any = Field(
        None,
        description="Your own training transform in place of flips, crops and colors: package.module:Name, from Python "
        "also the function (docs/python.md).",
    )
    tensorboard: Literal["scalars", "full"] = Field(
        "scalars",
        description="full: also predictions, histograms of weights and gradients, the graph, the recipe and the "
        "seconds of each part of a step.",
    )
    callbacks: list[str] = Field(
        [],
        description="Names of the Lightning callbacks that were passed from Python; to resume they are passed again.",
    )
    augment: Augment = Augment()

    @field_validator("image_size")
    @classmethod
    def _sides(cls, value: int | list[int] | None) -> int | list[int] | None:
        sides = value if isinstance(value, list) else [value, value]
        if value is not None and (len(sides) != 2 or not all(8 <= side <= 4096 for side in sides if side is not None)):
            raise ValueError("one number of pixels, or [height, width], from 8 to 4096")
        return value

    @field_validator("options")
    @classmethod
    def _no_nested_parts(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, entry in value.items():
            if isinstance(entry, (list, tuple, dict)) and any(map(callable, _leaves(entry))):
                raise ValueError(f"{key}: a class or a function stands by itself, not in a list")
        return value

    @field_validator("model", "loss", "transform")
    @classmethod
    def _parts(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "model" and not (isinstance(value, str) or callable(value)):
            raise ValueError("a name, a constructor or a torch.nn.Module")
        if info.field_name != "model" and not (value is None or callable(value) or is_part_name(value)):
            raise ValueError("a function, or its name as package.module:Name")
        return value

    @property
    def own_model(self) -> bool:
        """Whether the model is the caller's own and not one of the catalogue."""
        return not isinstance(self.model, str)

    @property
    def needs_epochs(self) -> bool:
        """Whether it has parts that only training by epochs makes use of."""
        return bool(self.own_model or self.loss or self.transform or self.callbacks)

    def size(self) -> tuple[int, int]:
        """The requested (height, width), pixels."""
        assert self.image_size is not None
        height, width = self.image_size if isinstance(self.image_size, list) else (self.image_size, self.image_size)
        return height, width

    def settled(self, mode: Mode, defaults: Mapping[str, Any] | None = None) -> Recipe:
        """This recipe for one mode and task: fields that were not set take the defaults of that mode and task.

        Args:
            defaults: those of the task.
        """
        wanted = (FROM_SCRATCH if mode == "scratch" else {}) | dict(defaults or {})
        augment = {k: v for k, v in wanted.pop("augment", {}).items() if k not in self.augment.model_fields_set}
        changed = {key: value for key, value in wanted.items() if key not in self.model_fields_set}
        changed["augment"] = self.augment.model_copy(update=augment)
        return self.model_copy(update=changed | {"mode": mode})

    @property
    def has_own_blocks(self) -> bool:
        """Whether the model is one of the catalogue with parts that published weights know nothing of."""
        return any(callable(value) for value in self.options.values())

    def with_parts(self, passed: Recipe | None = None) -> Recipe:
        """With the parts themselves where a file had their names.

        Args:
            passed: a recipe with those that need not be imported, each under its own key.

        Raises:
            InputError: one was not passed and cannot be imported.
        """

        def part(value: Any, given: Any, key: str) -> Any:
            return found(value, given, keyword=f"recipe={{{key!r}: ...}}") if is_part_name(value) else value

        given = passed or Recipe.model_validate({})
        options = {key: part(value, given.options.get(key), "options") for key, value in self.options.items()}
        model = self.model
        if is_part_name(model):
            same = callable(given.model) and name_of(given.model) == model
            model = given.model if same else constructor(model)
        own = {
            "model": model,
            "loss": part(self.loss, given.loss, "loss"),
            "transform": part(self.transform, given.transform, "transform"),
            "options": options,
        }
        asked = {key: value for key, value in own.items() if key in self.model_fields_set}  # others keep their default
        return self.model_copy(update=asked)

    def part_names(self) -> str:
        """The parts of the caller's own, for sentences."""
        values = [self.model, self.loss, self.transform, *self.options.values()]
        return ", ".join(name_of(value) for value in values if callable(value))

    def asked(self) -> dict[str, Any]:
        """The fields that were set, parts as they are."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return fields | ({"augment": self.augment.model_dump(exclude_unset=True)} if "augment" in fields else {})

    def stated(self) -> dict[str, Any]:
        """As files have it: parts by their names."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return dict(named(fields | {"augment": self.augment.model_dump()}))

    def to_yaml(self) -> str:
        """
        Raises:
            InputError: an option that a file cannot hold.
        """
        try:
            return as_yaml(self.stated())
        except yaml.YAMLError as error:
            raise InputError(f"options of the recipe must be numbers, text, lists, or parts: {error}.") from None


# Defaults of mode scratch that differ from those above: there are no pretrained weights that training could destroy.
FROM_SCRATCH: dict[str, Any] = {
    "epochs": 40,
    "learning_rate": 3e-3,
    "layer_decay": 1.0,
    "freeze_batch_norm": False,
}


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    return [leaf for entry in value for leaf in _leaves(entry)] if isinstance(value, (list, tuple)) else [value]
