"""A linear head on frozen features: computed through the engine once per image, fitted by cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.data.labels.finding import counted
from handlens.reporter import Reporter
from handlens.tasks.image_level import image_transform
from handlens.tasks.pieces import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.data.check import Audit
    from handlens.data.record import Record
    from handlens.preprocess import Preprocess
    from handlens.runtimes.engine import Engine
    from handlens.runtimes.stream import Load, Loaded
    from handlens.training.head import Head
    from handlens.training.recipe import Recipe

FOLDS = 5


@dataclass(frozen=True)
class FrozenBackbone:
    """All of a net before its classifier; features are computed by the engine, once per image.

    Attributes:
        net: its weights before the classifier do not change while this is used.
        preprocess: what the net is fed.
        audit: of the images, which are known by their contents.
        recipe: how images are augmented, and the precision.
        report: of the progress.
        own: the code is the caller's, and may change under the same names.
    """

    net: nn.Module
    preprocess: Preprocess
    audit: Audit
    recipe: Recipe
    report: Reporter
    own: bool = False

    def features(self, records: Sequence[Record], *, copy: int = 0, of_middle: bool = False) -> NDArray[np.float32]:
        """(N, D). Copy 0 is the image as it is predicted; the others are augmented, seeded by (seed, copy, content).

        Args:
            of_middle: of the middle of each image alone (`preprocess.middle`), of copy 0.
        """
        from handlens.preprocess import MIDDLE
        from handlens.runtimes.stream import load_middle, load_pixels
        from handlens.training.features import cached_features

        recipe, digests = self.recipe, self.audit.digests
        contents = {record.path: digests[record.id] for record in records}
        made, what = "", "features"
        load: Load = load_pixels
        if of_middle:
            made, what, load = f"middle {MIDDLE:g}", "features of the middle", load_middle
        elif copy:
            made = f"copy {copy} seed {recipe.seed} {recipe.augment.model_dump_json()}"
            what = f"features, augmented copy {copy}"
            load = _augmented_loader(recipe, self.preprocess, copy, contents)
        return cached_features(
            records,
            engine=lambda: self._engine,
            preprocess=self.preprocess,
            backbone=self._digest,
            precision=recipe.precision,
            digests=digests,
            augmented=made,
            progress=self.report.steps(what),
            load=load,
        )

    @cached_property
    def converted(self) -> Any:
        """The graph of its features as an OpenVINO model, to which a fitted head can be added (`add_head`)."""
        from handlens.runtimes.graph import EmbedGraph
        from handlens.runtimes.names import FEATURES
        from handlens.runtimes.openvino.convert import to_openvino

        return to_openvino(EmbedGraph(self.net.eval(), self.preprocess), self.preprocess, outputs=(FEATURES,))

    @cached_property
    def _engine(self) -> Engine:
        from handlens.runtimes.openvino.engine import OpenVINOEngine

        return OpenVINOEngine(self.converted, precision=self.recipe.precision)

    @cached_property
    def _digest(self) -> str:
        return backbone_digest(self.net, self.preprocess, own=self.own or self.recipe.has_own_blocks)


def fit_frozen_head(frozen: Frozen, backbone: FrozenBackbone, records: Sequence[Record], names: Sequence[str]) -> Head:
    """Features of every record through the engine, then the linear head by cross-validation."""
    import numpy as np

    from handlens.data.split import folds

    recipe, audit, report = backbone.recipe, backbone.audit, backbone.report
    copies = [backbone.features(records, copy=number) for number in range(recipe.augmented_copies + 1)]
    report.say(f"Fitting the head on {counted(len(records), 'image')} by {FOLDS}-fold cross-validation.")
    report.progress("fitting the head", 0, None)
    return frozen.fit(
        np.stack(copies, axis=1).reshape(len(records) * len(copies), -1),
        records,
        folds(records, audit.dataset.kind, count=FOLDS, seed=recipe.seed, together=audit.duplicates),
        copies=len(copies),
        recipe=recipe,
        names=names,
    )


def install_head(net: nn.Module, head: Head) -> None:
    """Put a fitted head into the net's `classifier`."""
    import torch

    with torch.no_grad():
        net.classifier.weight.copy_(head.weight)  # type: ignore[union-attr, operator]
        net.classifier.bias.copy_(head.bias)  # type: ignore[union-attr, operator]


def _augmented_loader(recipe: Recipe, preprocess: Preprocess, copy: int, contents: Mapping[Path, str]) -> Load:
    """Loads an image augmented, by its content as the cache names it: two names of one image give one copy.

    torchvision, which takes 2 s to import, is needed only here.
    """
    import torch

    from handlens.data.augment import seeded, smallest_training_decode
    from handlens.data.decode import decode

    augment = recipe.augment
    transform = image_transform(preprocess, augment)

    def load(path: Path, preprocess: Preprocess) -> Loaded:
        decoded = decode(path, at_least=smallest_training_decode(preprocess, crop_area=augment.crop_area))
        key = (recipe.seed, "copy", copy, contents[path])
        image = seeded(transform, torch.tensor(decoded).permute(2, 0, 1), key=key)
        return image.permute(1, 2, 0).contiguous().numpy(), (decoded.shape[0], decoded.shape[1])

    return load


def backbone_digest(net: nn.Module, preprocess: Preprocess, *, own: bool) -> str:
    """SHA-256 over the names and values of everything before the classifier.

    Args:
        own: the code is the caller's and may change under the same names: what it gives for an image counts too.
    """
    digest = hashlib.sha256(type(net).__name__.encode())
    if own:
        digest.update(_features_of_noise(net, preprocess))
    for name, value in sorted(net.state_dict().items()):
        if not name.startswith("classifier."):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _features_of_noise(net: nn.Module, preprocess: Preprocess) -> bytes:
    """What the frozen backbone gives for two images of noise, to three digits."""
    import torch

    from handlens.runtimes.graph import EmbedGraph

    size = (2, preprocess.height, preprocess.width, preprocess.channels)
    noise = torch.randint(256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = EmbedGraph(net.eval(), preprocess)(noise)
    return " ".join(f"{value:.2e}" for value in features.flatten().tolist()).encode()


def validate_head(frozen: Frozen, backbone: FrozenBackbone, records: Sequence[Record]) -> tuple[float, float]:
    """(metric, -loss) of the net's head on the frozen features of the validation images."""
    import torch

    features = torch.from_numpy(backbone.features(records))
    with torch.inference_mode():
        return frozen.score(backbone.net.classifier(features), records)  # type: ignore[operator]


def cross_validated(frozen: Frozen, head: Head, records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
    """What model.json says of a head's validation.

    Raises:
        FindingsError: there are too few images.
    """
    return frozen.validation(head, records, names) | {
        "count": len(records),
        "how": "5-fold cross-validation",
        "weight_decay": head.weight_decay,
        "losses_by_weight_decay": {str(decay): loss for decay, loss in head.losses.items()},
    }
