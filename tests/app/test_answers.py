"""What apps make of a model's outputs is what the project makes of them."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from handlens.models.detect.ssd import SSD
from handlens.preprocess import Preprocess
from handlens.tasks import TASKS

NAMES = ("a", "b", "c", "d", "e", "f")
SIZES = ((50, 80), (161, 53), (64, 64), (31, 500))
RNG = np.random.default_rng(0)


def boxes(count: int) -> dict[str, np.ndarray]:
    """Of many sizes, some beyond the image or without area, with padding at the end; scores fall."""
    corners = np.sort(RNG.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4)
    corners[:2] = (0, 0, 1, 1), (0.2, 0.2, 0.2, 0.9)
    scores = np.sort(RNG.uniform(0, 1, count))[::-1].copy()
    scores[-3:] = corners[-3:] = 0
    return {
        "boxes": corners.astype(np.float32),
        "scores": scores.astype(np.float32),
        "labels": RNG.integers(0, len(NAMES), count),
    }


def outputs(task: str, preprocess: Preprocess) -> dict[str, np.ndarray]:
    if task == "detect":
        return boxes(40)
    if task == "segment":
        blocks = RNG.integers(0, len(NAMES), (8, 8)).repeat(8, axis=0).repeat(12, axis=1)
        return {"classes": blocks[: preprocess.height, : preprocess.width].astype(np.uint8)}
    values = RNG.uniform(0, 1, len(NAMES)).astype(np.float32)
    return {TASKS[task].outputs[0]: values / values.sum() if task == "classify" else values}


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("task", TASKS)
def test_answer_is_the_result(task: str, resize: Any):
    if (task, resize) == ("segment", "crop"):
        pytest.skip("a mask of a crop is none of the image")
    preprocess = Preprocess(height=64, width=96, resize=resize, short_side=100)
    thresholds = {"tag": (0.1, 0.3, 0.5, 0.6, 0.7, 0.9), "detect": (0.4,)}.get(task, ())
    module = import_module(f"handlens.tasks.{task}.answer")
    model = {
        "class_names": list(NAMES),
        "thresholds": list(thresholds),
        "suppress": True,
        "preprocess": preprocess.to_dict(),
    }
    for height, width in SIZES:
        arrays = outputs(task, preprocess)
        place = preprocess.placement(height, width)
        found = module.answer(arrays, model=model, height=height, width=width, place=place)
        expected = TASKS[task].answer(arrays, height, width, preprocess=preprocess, names=NAMES, thresholds=thresholds)
        assert found == expected.to_dict()
        assert module.caption(found)
    told = TASKS[task].for_apps({}, {name: values[None] for name, values in arrays.items()}, exact=True)
    assert told.answer.samefile(module.__file__) and set(told.meanings) == set(TASKS[task].outputs)


def test_what_is_left_to_the_app_is_suppressed_as_torchvision_does():
    module = import_module("handlens.tasks.detect.answer")
    arrays = boxes(300)
    arrays["labels"] %= 2
    found = module.suppress(arrays["boxes"], arrays["scores"], arrays["labels"])
    real = arrays["scores"] > 0
    tensors = [torch.from_numpy(arrays[name][real]) for name in ("boxes", "scores", "labels")]
    expected = batched_nms(*tensors, module.SAME_OBJECT).tolist()
    assert found == expected and 10 < len(found) < 290
    of_the_graph = inspect.signature(SSD.decode).parameters["threshold"].default
    assert of_the_graph == module.SAME_OBJECT
