"""Eight of the user's images with the expected answers, kept in the run for whoever ships the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.files import write_json
from handlens.reading.arrays import read_arrays
from handlens.tasks import TASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from handlens.data.record import Dataset
    from handlens.preprocess import Preprocess
    from handlens.runtimes.engine import Arrays
    from handlens.tasks.task import Task

GOLDEN_IMAGES = 8
PIXELS = "golden.npz"  # as the net sees them, with its outputs


def write_golden(folder: Path, net: nn.Module, preprocess: Preprocess, dataset: Dataset) -> None:
    """The images as they are, as the net sees them, and what PyTorch fp32 answers, by output name."""
    import numpy as np

    from handlens.runtimes.stream import load_pixels

    task, names = TASKS[dataset.task], dataset.class_names
    pool = dataset.part("test") or dataset.part("validation") or dataset.records
    chosen = [pool[i] for i in np.linspace(0, len(pool) - 1, min(GOLDEN_IMAGES, len(pool))).astype(int)]
    golden = folder / "golden"
    golden.mkdir(exist_ok=True)
    pixels = np.stack([load_pixels(record.path, preprocess)[0] for record in chosen])
    expected = _expect(golden, pixels, net, preprocess, task)
    files = []
    for number, record in enumerate(chosen):
        name = f"{number}{record.path.suffix}"
        shutil.copyfile(record.path, golden / name)
        arrays = {output: values[number] for output, values in expected.items()}
        entry = {"file": name, "id": record.id} | task.golden(record, names, arrays)
        files.append(entry)
    write_json(golden / "golden.json", {"files": files, "class_names": list(names)})


def expect_again(folder: Path, net: nn.Module, preprocess: Preprocess, task: Task) -> None:
    """What the net predicts now for the golden images of a run, where it has some; it predicts the same classes."""
    golden = folder / "golden"
    if (golden / PIXELS).is_file():
        _expect(golden, read_arrays(golden / PIXELS)["images"], net, preprocess, task)


def _expect(golden: Path, pixels: NDArray[np.uint8], net: nn.Module, preprocess: Preprocess, task: Task) -> Arrays:
    """The outputs (N, ...) by name for pixels (N, H, W, C), which are kept with them."""
    import numpy as np

    from handlens.runtimes.graph import DeployGraph

    expected = DeployGraph(net.eval(), preprocess, last_step=task.last_step).arrays(pixels, task.outputs)
    kept: dict[str, Any] = {"images": pixels, **expected}
    np.savez(golden / PIXELS, **kept)
    return expected
