"""A classifier's head on frozen features: computed through the engine, fitted by cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.errors import FindingsError
from handlens.flow.tasks import classifier_transform
from handlens.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.data.check import Audit
    from handlens.data.record import Record
    from handlens.preprocess import Preprocess
    from handlens.runtimes.engine import Engine
    from handlens.runtimes.stream import Pixels
    from handlens.training.head import Head
    from handlens.training.recipe import Recipe


def fit_frozen_head(
    net: nn.Module,
    records: Sequence[Record],
    audit: Audit,
    recipe: Recipe,
    preprocess: Preprocess,
    num_classes: int,
    report: Reporter,
) -> Head:
    """Features of every record through the engine, then the linear head by cross-validation.

    Records with tags get a head that answers for each class on its own.
    """
    import numpy as np

    from handlens.data.record import tag_targets
    from handlens.data.split import folds
    from handlens.training.head import balanced_tag_weights, balanced_weights, fit_head

    numbers = range(recipe.views + 1)
    views = [frozen_features(net, records, audit, recipe, preprocess, report, view=number) for number in numbers]
    report.say("Fitting the head.")
    report.progress("fitting the head", 0, None)
    several = records[0].tags is not None
    if several:
        targets = tag_targets(records, num_classes)
        weights = balanced_tag_weights(targets)
    else:
        labels = np.array([record.target for record in records], dtype=np.int64)
        targets = np.eye(num_classes, dtype=np.float32)[labels]
        weights = balanced_weights(labels, num_classes)
    return fit_head(
        np.stack(views, axis=1).reshape(len(records) * len(views), -1),
        targets,
        several=several,
        folds=folds(records, count=5, seed=recipe.seed, together=audit.duplicates),
        views=len(views),
        label_smoothing=recipe.label_smoothing,
        class_weights=weights if recipe.class_weights == "balanced" else None,
    )


def install_head(net: nn.Module, head: Head) -> None:
    """Put a fitted head into the net's `classifier`."""
    import torch

    with torch.no_grad():
        net.classifier.weight.copy_(head.weight)  # type: ignore[union-attr, operator]
        net.classifier.bias.copy_(head.bias)  # type: ignore[union-attr, operator]


def frozen_features(
    net: nn.Module,
    records: Sequence[Record],
    audit: Audit,
    recipe: Recipe,
    preprocess: Preprocess,
    report: Reporter,
    *,
    view: int = 0,
) -> NDArray[np.float32]:
    """(N, D). View 0 is the image as it is predicted; the others are augmented, seeded by (seed, view, content)."""
    from handlens.runtimes.engine import OpenVINOEngine
    from handlens.runtimes.graph import EmbedGraph
    from handlens.runtimes.names import FEATURES
    from handlens.runtimes.openvino.convert import to_openvino
    from handlens.runtimes.stream import load_pixels
    from handlens.training.features import cached_features

    def engine() -> Engine:
        graph = EmbedGraph(net.eval(), preprocess)
        return OpenVINOEngine(to_openvino(graph, preprocess, outputs=(FEATURES,)), precision=recipe.precision)

    contents = {record.path: audit.digests[record.id] for record in records}
    name = "" if view == 0 else f"view {view} seed {recipe.seed} {recipe.augment.model_dump_json()}"
    return cached_features(
        records,
        engine=engine,
        preprocess=preprocess,
        backbone=_backbone_digest(net),
        precision=recipe.precision,
        digests=audit.digests,
        view=name,
        progress=report.steps("features" if view == 0 else f"features, view {view}"),
        load=load_pixels if view == 0 else _view_loader(recipe, preprocess, view, contents),
    )


def _view_loader(
    recipe: Recipe, preprocess: Preprocess, view: int, contents: Mapping[Path, str]
) -> Callable[[Path, Preprocess], Pixels]:
    """Loads an image augmented, by its content as the cache names it: two names of one image give one view.

    torchvision, which takes 2 s to import, is needed only here.
    """
    import torch

    from handlens.data.augment import seeded, smallest_training_decode
    from handlens.data.decode import decode

    augment = recipe.augment
    transform = classifier_transform(preprocess, augment)

    def load(path: Path, preprocess: Preprocess) -> Pixels:
        decoded = decode(path, at_least=smallest_training_decode(preprocess, crop_area=augment.crop_area))
        key = (recipe.seed, "view", view, contents[path])
        image = seeded(transform, torch.tensor(decoded).permute(2, 0, 1), key=key)
        return image.permute(1, 2, 0).contiguous().numpy()

    return load


def _backbone_digest(net: nn.Module) -> str:
    """SHA-256 over the names and values of everything before the classifier."""
    digest = hashlib.sha256(type(net).__name__.encode())
    for name, value in sorted(net.state_dict().items()):
        if not name.startswith("classifier."):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def validate_head(
    net: nn.Module, records: Sequence[Record], audit: Audit, recipe: Recipe, preprocess: Preprocess, report: Reporter
) -> tuple[float, float]:
    """(top1 or, with tags, map; -loss) of the head on the frozen features of the validation images."""
    import torch
    import torch.nn.functional as F

    from handlens.data.record import tag_targets
    from handlens.evaluation.tags import mean_average_precision

    features = torch.from_numpy(frozen_features(net, records, audit, recipe, preprocess, report))
    with torch.inference_mode():
        logits = net.classifier(features)  # type: ignore[operator]
    if records[0].tags is not None:
        truth = tag_targets(records, logits.shape[1])
        loss = float(F.binary_cross_entropy_with_logits(logits, torch.from_numpy(truth)))
        return mean_average_precision(logits.sigmoid().numpy(), truth > 0), -loss
    targets = torch.tensor([record.target for record in records])
    right = int((logits.argmax(dim=1) == targets).sum())
    return right / len(records), -float(F.cross_entropy(logits, targets))


def thresholds_of_folds(head: Head, records: Sequence[Record], names: Sequence[str]) -> list[float]:
    """Per label the threshold with the best F1 on images that the head of their fold had not seen."""
    from handlens.data.record import tag_targets
    from handlens.evaluation.tags import best_thresholds

    assert head.out_of_fold is not None
    return best_thresholds(head.out_of_fold, tag_targets(records, len(names)) > 0)


def fold_metrics(head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
    import numpy as np

    from handlens.data.record import tag_targets
    from handlens.evaluation.metrics import classification_metrics
    from handlens.evaluation.tags import mean_average_precision

    if head.out_of_fold is None:
        raise FindingsError("there are too few images to validate on: every class needs at least two.")
    if records[0].tags is not None:
        truth = tag_targets(records, len(names)) > 0
        metrics = {"map": mean_average_precision(head.out_of_fold, truth), "loss": head.losses[head.weight_decay]}
    else:
        labels = np.array([record.target for record in records], dtype=np.int64)
        measured = classification_metrics(head.out_of_fold, labels, names)
        metrics = {"top1": measured["top1"], "loss": measured["loss"]}
    return metrics | {
        "count": len(records),
        "how": "5-fold cross-validation",
        "weight_decay": head.weight_decay,
        "losses_by_weight_decay": {str(k): v for k, v in head.losses.items()},
    }
