"""Eight of the user's images with the expected answers, kept in the run for whoever ships the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlens.files import write_json

if TYPE_CHECKING:
    from torch import nn

    from handlens.data.record import Dataset
    from handlens.preprocess import Preprocess

GOLDEN_IMAGES = 8


def write_golden(folder: Path, net: nn.Module, preprocess: Preprocess, dataset: Dataset) -> None:
    """The images as they are, as the net sees them, and what PyTorch fp32 answers, by output name."""
    import numpy as np
    import torch

    from handlens.runtimes.graph import DeployGraph
    from handlens.runtimes.names import OUTPUTS
    from handlens.runtimes.stream import load_pixels

    names = dataset.class_names
    pool = dataset.part("test") or dataset.part("validation") or dataset.records
    chosen = [pool[i] for i in np.linspace(0, len(pool) - 1, min(GOLDEN_IMAGES, len(pool))).astype(int)]
    golden = folder / "golden"
    golden.mkdir(exist_ok=True)
    pixels = np.stack([load_pixels(record.path, preprocess) for record in chosen])
    with torch.inference_mode():
        answers = DeployGraph(net.eval(), preprocess, task=dataset.task)(torch.from_numpy(pixels))
    parts = answers if isinstance(answers, tuple) else (answers,)
    expected = {name: part.numpy() for name, part in zip(OUTPUTS[dataset.task], parts, strict=True)}
    files = []
    for number, record in enumerate(chosen):
        name = f"{number}{record.path.suffix}"
        shutil.copyfile(record.path, golden / name)
        entry: dict[str, Any] = {"file": name, "id": record.id}
        if dataset.task == "classify":
            entry["label"] = None if record.target is None else names[record.target]
            entry["predicted"] = names[int(parts[0][number].argmax())]
        if dataset.task == "tag":
            entry["labels"] = [names[tag] for tag in record.tags or ()]
        files.append(entry)
    np.savez(golden / "golden.npz", images=pixels, **expected)
    write_json(golden / "golden.json", {"files": files, "class_names": list(names)})
