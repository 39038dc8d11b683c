"""Choosing what a run tells images of its classes from others by: a score, on the images that it was trained on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.labels.finding import counted
from handlens.errors import InputError
from handlens.evaluation import unknown as scoring
from handlens.evaluation.unknown import FEWEST, KNN_ENERGY, MAHALANOBIS, Features, Floats, Gaussians
from handlens.flow.held_out import Learned, head_learned_all, learned_images
from handlens.flow.recognition import KEPT, Linear, Recognition, keep, kept, mean_features, score_of
from handlens.reporter import Reporter
from handlens.tasks import TASKS
from handlens.training.run import Run, locked

if TYPE_CHECKING:
    from handlens.data.record import Record
    from handlens.training.head import Head

MOST_LEFT_OUT = 5  # classes that take the part of the unknown: each costs the fit of a head
LEAST_LEFT_OUT = 3  # of fewer of which no other score is preferred
MOST_NEIGHBORS = 4096  # training images that are kept: 10 MB of 1280 features
MOST_FEATURES = 16_384  # of an image; of more, the neighbors would be larger than any model

Folds = NDArray[np.int64]


def recognition_of(run: Run, report: Reporter) -> Recognition:
    """As it was kept in the run, or made from its images.

    Raises:
        InputError: what was kept is damaged; the images are no longer as they were, or too few; the model has no
            embedding, or its classifier is not its last layer.
    """
    return kept(run) or _made(run, report)


def _made(run: Run, report: Reporter) -> Recognition:
    """From the images that the run was trained on, and kept in it.

    Known images are judged as new ones are: where the run's head has learned from all, by a head and the neighbors of
    the other folds, else those of the validation split by the run's own classifier.
    """
    learned = learned_images(run, report, what="the first use of --unknown")
    classifier = _classifier(learned, run)
    training, validation = learned.records["train"], learned.records["validation"]
    every = head_learned_all(run)
    records = [*training, *validation]
    known = records if every else validation
    if len(known) < FEWEST:
        raise InputError(
            f"{counted(len(known), 'image')} to take a threshold from are too few for --unknown; at least {FEWEST} "
            "are needed."
        )
    features = mean_features(learned.backbone.features(records), learned.backbone.features(records, of_middle=True))
    labels = np.array([record.label for record in records], dtype=np.int64)
    fold_of = _folds(learned, records)
    fitted = np.arange(len(records)) < (len(records) if every else len(training))
    held = fitted if every else ~fitted
    auroc, left_out = _compared(learned, records, features, labels, run, report)
    name = chosen_score(auroc)
    if every:
        head = _head(learned, records, features, fold_of, run.class_names)
        assert head.out_of_fold_logits is not None
        logits, scorer = head.out_of_fold_logits, _linear(head)
    else:
        scorer = classifier
        logits = scorer(features[held])
    report.progress("none of these", 0, None)
    chosen = _some(np.flatnonzero(fitted))
    bank = scoring.unit(features[chosen]).astype(np.float16).astype(np.float32)  # as it is kept
    distances = scoring.neighbor_distance(
        features[held], bank, folds=(fold_of[held], fold_of[chosen]) if every else None
    )
    spread = scoring.spreads(distances, logits)
    gaussians = Gaussians.of(features[fitted], labels[fitted]) if name == MAHALANOBIS else None
    if name == MAHALANOBIS and every:
        scores = _apart(features, labels, fold_of)
    else:
        scores = score_of(name, features[held], logits, distances, gaussians=gaussians, spread=spread)
    mean = {name: float(np.mean(values)) for name, values in auroc.items()}
    made = Recognition(name, classifier, scorer, bank, gaussians, spread, np.sort(scores), mean, left_out)
    with locked(run.folder):
        keep(run, made)
    told = f" It tells images of a left out class from the others with an AUROC of {mean[name]:.2f}." if mean else ""
    report.say(
        f"None of these: by {name}, from {counted(len(known), 'image')}, kept in {KEPT}.{told} What it costs: "
        f"handlens evaluate {shlex.quote(str(run.folder))} --unknown 0.05"
    )
    return made


def chosen_score(auroc: Mapping[str, Sequence[float]]) -> str:
    """KNN + energy, unless another score is better for every class that was left out, then the best of these: the mean
    over a handful of classes alone would choose by chance (benchmarks/unknown.py).

    Args:
        auroc: of every score, for each of these classes; empty where there were none.
    """
    usual = auroc.get(KNN_ENERGY, ())
    better = [
        name
        for name, values in auroc.items()
        if len(usual) >= LEAST_LEFT_OUT and all(one > other for one, other in zip(values, usual, strict=True))
    ]
    return max(better, key=lambda name: float(np.mean(auroc[name])), default=KNN_ENERGY)


def _compared(
    learned: Learned,
    records: Sequence[Record],
    features: Features,
    labels: NDArray[np.int64],
    run: Run,
    report: Reporter,
) -> tuple[dict[str, list[float]], list[str]]:
    """AUROC of every score for each of some classes that are left out in turn, and these classes.

    For each a head is fitted on the features of the others, whose images are known, judged by head and neighbors of the
    other folds. A model whose backbone was trained has seen the class, which helps all scores alike.
    """
    classes = len(run.class_names)
    if classes < 3:
        return {}, []
    names = [name for name in scoring.SCORES if name != MAHALANOBIS or features.shape[1] <= scoring.MOST_DIRECTIONS]
    taken = _some(np.arange(len(records)))
    records, features, labels = [records[int(place)] for place in taken], features[taken], labels[taken]
    chosen = np.unique(np.linspace(0, classes - 1, min(classes, MOST_LEFT_OUT)).astype(int))
    found: dict[str, list[float]] = {name: [] for name in names}
    left_out = []
    for done, out in enumerate(chosen, start=1):
        inside = labels != out
        others = [record for record, known in zip(records, inside, strict=True) if known]
        if len(others) in (0, len(records)):
            continue
        fold_of = _folds(learned, others)
        head = _head(learned, others, features[inside], fold_of, run.class_names)
        if head.out_of_fold_logits is None:
            continue
        there = [place for place in range(classes) if place != out]
        ours, theirs = features[inside], features[~inside]
        logits = head.out_of_fold_logits[:, there]
        new = _linear(head)(theirs)[:, there]
        bank = scoring.unit(ours)
        near, far = (
            scoring.neighbor_distance(ours, bank, folds=(fold_of, fold_of)),
            scoring.neighbor_distance(theirs, bank),
        )
        spread = scoring.spreads(near, logits)
        for name in names:
            if name == MAHALANOBIS:
                known = _apart(ours, labels[inside], fold_of)
                unknown = Gaussians.of(ours, labels[inside]).distance(theirs)
            else:
                known = score_of(name, ours, logits, near, gaussians=None, spread=spread)
                unknown = score_of(name, theirs, new, far, gaussians=None, spread=spread)
            found[name].append(scoring.auroc(known, unknown))
        left_out.append(run.class_names[int(out)])
        report.progress("none of these", done, len(chosen))
    return (found if left_out else {}), left_out


def _some(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MOST_NEIGHBORS of them, drawn evenly, in their order."""
    if len(places) <= MOST_NEIGHBORS:
        return places
    return np.sort(np.random.default_rng(0).permutation(places)[:MOST_NEIGHBORS])


def _apart(features: Features, labels: NDArray[np.int64], fold_of: Folds) -> Floats:
    """Mahalanobis distances (N,) of known images, each by the Gaussians of the half of the folds that it is not in."""
    found = np.empty(len(features))
    for half in (fold_of % 2 == 0, fold_of % 2 == 1):
        if half.any() and not half.all():
            found[~half] = Gaussians.of(features[half], labels[half]).distance(features[~half])
    return found


def _folds(learned: Learned, records: Sequence[Record]) -> Folds:
    """(N,), as a head is fitted by; copies and groups are in one."""
    from handlens.data.split import folds
    from handlens.tasks.heads import FOLDS

    backbone = learned.backbone
    return folds(
        records,
        learned.dataset.kind,
        count=FOLDS,
        seed=backbone.recipe.seed,
        together=backbone.audit.duplicates,
    )


def _head(
    learned: Learned, records: Sequence[Record], features: Features, fold_of: Folds, names: Sequence[str]
) -> Head:
    """A head on features that were computed before; of all classes, also of those without an image."""
    frozen = TASKS[learned.dataset.task].frozen(learned.dataset)
    return frozen.fit(features, records, fold_of, copies=1, recipe=learned.backbone.recipe, names=names)


def _linear(head: Head) -> Linear:
    return Linear(head.weight.numpy(), head.bias.numpy())


def _classifier(learned: Learned, run: Run) -> Linear:
    """The last layer.

    Raises:
        InputError: a model of one's own has no such layer, or gives no features for it.
    """
    import torch

    from handlens.tasks.temperature import takes_temperature

    net, preprocess, name = learned.backbone.net, run.preprocess, run.model.architecture.name
    embed: Any = getattr(net, "embed", None)
    if not takes_temperature(net, preprocess) or not callable(embed):
        raise InputError(
            f"--unknown needs a model with a method embed(images) that returns features (N, D), and with a last layer "
            f"torch.nn.Linear called classifier that takes them; {name} is none."
        )
    layer: Any = net.classifier
    if layer.in_features > MOST_FEATURES:
        raise InputError(f"{name} has {layer.in_features:,} features; --unknown takes at most {MOST_FEATURES:,}.")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, preprocess.channels, preprocess.height, preprocess.width, generator=generator)
    with torch.inference_mode():
        made = layer(embed(noise))
        if made.shape != (2, len(run.class_names)) or not torch.allclose(made, net(noise), rtol=1e-3, atol=1e-4):
            raise InputError(f"classifier(embed(images)) of {name} is not what it gives for images.")
        weight = layer.weight.numpy()
        bias = np.zeros(len(weight), dtype=np.float32) if layer.bias is None else layer.bias.numpy()
    return Linear(weight, bias)
