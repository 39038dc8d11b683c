"""Running statistics of batch norm that fit the weights they are used with."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import nn

from handlens.models.blocks import BatchNorm


class EpochStatistics(pl.Callback):
    """Batch norms begin their running statistics anew in each epoch, as a true average over its first batches.

    A norm that always takes the same share of a batch (PyTorch 0.1, TensorFlow 0.01) keeps some of what it began with,
    mean 0 and variance 1, and some of what earlier weights gave. In a short training layer upon layer of that is enough
    to guess in eval mode (benchmarks/norm_statistics.py). From 1 / share batches on a norm takes its own share; one
    that averages over everything (momentum None) and one that is frozen stay as they are.
    """

    def __init__(self) -> None:
        self._shares: list[tuple[nn.modules.batchnorm._BatchNorm, float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        norms = [module for module in pl_module.modules() if isinstance(module, BatchNorm)]
        self._shares = [(norm, norm.momentum) for norm in norms if norm.momentum is not None]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seen = trainer.global_step % int(trainer.num_training_batches)  # resumed within an epoch, too
        for norm, share in self._shares:
            norm.momentum = max(share, 1 / (seen + 1))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for norm, share in self._shares:
            norm.momentum = share
