"""Heads fitted on growing shares of the images, and what they give for the images that they did not see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from handlens.data.record import Record
from handlens.data.split import folds, kept_together
from handlens.tasks.heads import FOLDS
from handlens.tasks.pieces import Frozen

if TYPE_CHECKING:
    from handlens.data.labels.kind import Kind
    from handlens.training.recipe import Recipe

# The images that may be fitted are cut into so many stratified slices; a share is the first 2, 3, 4 ... of them, each
# about the root of 2 times the one before. Our choice.
SLICES = 32
SHARES = (2, 3, 4, 6, 8, 11, 16, 23, 32)


@dataclass(frozen=True)
class Fitted:
    """Outputs of heads for images that they did not see.

    Attributes:
        images: (S,) that a head was fitted on, ascending; the mean over folds and rounds.
        raw: (R, S, N, K) outputs, from R rounds of cross-validation with other folds and other shares.
    """

    images: NDArray[np.float64]
    raw: NDArray[np.float32]


def fit_shares(
    frozen: Frozen,
    features: NDArray[np.float32],
    records: Sequence[Record],
    *,
    kind: Kind,
    recipe: Recipe,
    names: Sequence[str],
    together: Sequence[Collection[str]],
    shares: Sequence[int],
    rounds: int,
    progress: Callable[[int, int], None],
) -> Fitted:
    """
    Args:
        features: (N, D), or (C, N, D) with augmented copies, the image itself first. Measured is the image itself.
        together: sets of ids that are all fitted or all measured.
        shares: of SHARES, ascending. A larger share holds the smaller ones.
        rounds: each measures every image once.
    """
    copies = features if features.ndim == 3 else features[None]
    images = np.zeros((rounds, FOLDS, len(shares)))
    raw: NDArray[np.float32] | None = None
    for round in range(rounds):
        seed = recipe.seed * rounds + round
        fold_of = folds(records, kind, count=FOLDS, seed=seed, together=together)
        for fold in range(FOLDS):
            measured = np.flatnonzero(fold_of == fold)
            pool = np.flatnonzero(fold_of != fold)
            slice_of = _slices(
                [records[int(place)] for place in pool], kind, seed=seed * FOLDS + fold, together=together
            )
            for place, share in enumerate(shares):
                chosen = pool[slice_of < share]
                those = [records[int(number)] for number in chosen]
                head = frozen.fit(
                    np.swapaxes(copies[:, chosen], 0, 1).reshape(len(those) * len(copies), -1),
                    those,
                    folds(those, kind, count=FOLDS, seed=seed, together=together),
                    copies=len(copies),
                    recipe=recipe,
                    names=names,
                )
                outputs = copies[0][measured] @ head.weight.numpy().T + head.bias.numpy()
                if raw is None:
                    raw = np.zeros((rounds, len(shares), len(records), outputs.shape[1]), dtype=np.float32)
                raw[round, place, measured] = outputs
                images[round, fold, place] = len(those)
                progress((round * FOLDS + fold) * len(shares) + place + 1, rounds * FOLDS * len(shares))
    assert raw is not None
    return Fitted(images.mean(axis=(0, 1)), raw)


def _slices(
    records: Sequence[Record], kind: Kind, *, seed: int, together: Sequence[Collection[str]]
) -> NDArray[np.int64]:
    """(N,) in [0, SLICES). In a random order: of a class with few images, `folds` fills the first."""
    order = np.random.default_rng(seed).permutation(SLICES)
    count = min(SLICES, len(kept_together(records, together)))  # of fewer images, some slices stay empty
    return np.asarray(order[folds(records, kind, count=count, seed=seed, together=together)])
