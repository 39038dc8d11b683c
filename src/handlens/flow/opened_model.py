"""A run's model as PyTorch computes it, with its maps and the parts of its predictions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handlens.data.decode import UnreadableImageError
from handlens.errors import InputError, nearest, require
from handlens.flow.runs import build_from, find_run
from handlens.reporter import Reporter
from handlens.tasks import TASKS
from handlens.training.run import Run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from handlens.explanation.maps import MapShape
    from handlens.tasks.pieces import Reason


class OpenedModel:
    """A model with its weights, ready to be looked into."""

    def __init__(self, run: Path | str | Run, *, model: Any, report: Reporter) -> None:
        """
        Args:
            model: your own, a constructor or a module, where the run's cannot be imported by its name.

        Raises:
            InputError: PyTorch is not installed, there is no such run, or its model cannot be built.
        """
        require("torch", extra="train", what="explain")
        from handlens.runtimes.graph import Scale

        self.run = find_run(run, report=report)
        self.task = TASKS[self.run.task]
        # A copy, for a module that was handed over keeps learning elsewhere.
        self.net: nn.Module = copy.deepcopy(build_from(self.run, model)).eval().requires_grad_(False)
        self.scale = Scale(self.run.preprocess)

    def read(self, path: Path) -> tuple[NDArray[np.uint8], Tensor]:
        """The pixels that the model is given, (height, width, 3) uint8, and (1, C, height, width) as it takes them.

        Raises:
            UnreadableImageError: the file is no image that can be read.
        """
        import torch

        from handlens.runtimes.stream import load_pixels

        pixels, _ = load_pixels(path, self.run.preprocess)
        shown = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        return shown, self.scale(torch.tensor(pixels)[None])

    def read_each(
        self, files: Sequence[Path], unreadable: list[str] | None, progress: Callable[[int, int], None]
    ) -> Iterator[tuple[Path, NDArray[np.uint8], Tensor]]:
        """The files that can be read, each as `read` gives it.

        Args:
            unreadable: takes the sentence about each of the others; None raises it.
        """
        for done, path in enumerate(files, start=1):
            try:
                shown, image = self.read(path)
            except UnreadableImageError as error:
                if unreadable is None:
                    raise
                unreadable.append(str(error))
            else:
                yield path, shown, image
            progress(done, len(files))

    def reasons(self, image: Tensor, wanted: int | None) -> list[Reason]:
        import torch

        with torch.inference_mode():
            raw = self.net(image)
        return self.task.reasons(
            self.net,
            raw,
            names=self.run.class_names,
            thresholds=self.task.thresholds(self.run.model.chosen),
            wanted=wanted,
        )

    def shapes(self) -> list[MapShape]:
        """The maps of its layers, for an image of the size that it is given."""
        import torch

        from handlens.explanation.maps import map_shapes

        prepare = self.run.preprocess
        return map_shapes(self.net, torch.zeros(1, prepare.channels, prepare.height, prepare.width))

    def class_index(self, name: str | None) -> int | None:
        """
        Raises:
            InputError: the run has no class of this name.
        """
        if name is None:
            return None
        if name not in self.run.class_names:
            raise InputError(f"{self.run.folder.name} has no class {name!r}; {nearest(name, self.run.class_names)}.")
        return self.run.class_names.index(name)

    def layers(self, layer: str | None) -> list[str]:
        """The layer of this name or stride; None: those that a heat map can be taken from, coarsest first.

        Raises:
            InputError: there is none.
        """
        from handlens.explanation.maps import found_layer, layers_to_explain

        return layers_to_explain(self.shapes()) if layer is None else [found_layer(layer, self.shapes())]
