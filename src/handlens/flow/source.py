"""What a runtime's converter takes of a run, and what becomes of its complaints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from handlens.errors import InputError
from handlens.runtimes.source import Source
from handlens.tasks import TASKS
from handlens.training.model_info import metadata
from handlens.training.run import Run

if TYPE_CHECKING:
    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.runtime import Runtime

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal


def source_of(run: Run, graph: DeployGraph) -> Source:
    """A run's whole graph, with batch norm folded and the metadata that its file will have."""
    import torch

    from handlens.runtimes.fold import folded

    preprocess, task = run.preprocess, TASKS[run.task]
    example = torch.zeros((2, preprocess.height, preprocess.width, preprocess.channels), dtype=torch.uint8)
    return Source(folded(graph, example), preprocess, task.outputs, metadata_of(run))


def metadata_of(run: Run, *, resizes: bool = False, suppress: bool = True) -> dict[str, Any]:
    """What a file says of itself.

    Args:
        resizes, suppress: as of `ExportOptions`.
    """
    return metadata(
        task=run.task,
        architecture=run.model.architecture,
        class_names=run.class_names,
        preprocess=run.preprocess,
        chosen=run.model.chosen,
        resizes=resizes,
        suppress=suppress,
    )


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: some exporters catch that too, and raise one of their own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def one_sentence(run: Run, runtime: Runtime) -> Iterator[None]:
    """Around a converter or a quantizer.

    Raises:
        InputError: the runtime does not take this model, or the converter failed: it may raise whatever it likes, for a
            model of one's own may be anything.
    """
    reason = runtime.refuses(run.model.architecture.name)
    if reason is not None:
        raise InputError(reason)
    try:
        yield
    except (InputError, MemoryError, OSError):
        raise
    except Exception as error:
        if _interrupted(error):
            raise KeyboardInterrupt from None
        plain = ESCAPES.sub("", str(error)).strip()
        first = next(iter(plain.splitlines()), type(error).__name__)
        raise InputError(f"{run.folder.name} cannot be converted to {runtime.name}: {first}") from error
