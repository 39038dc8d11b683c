"""Batches on several threads: each runs once, in order, on a model that nobody else uses meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from handlens.runtimes.engine import FileEngine


class Model:
    runtime, precision, metadata = "Test 1", "f32", {}

    def __init__(self, threads: int | None) -> None:
        self.threads = threads
        self.busy = threading.Lock()

    def run(self, images: np.ndarray) -> dict[str, Any]:
        assert self.busy.acquire(blocking=False), "two threads use one model"
        try:
            value = int(images[0, 0, 0, 0])
            if value == 255:
                raise RuntimeError("no such image")
            time.sleep(0.002 * (value % 3))
            return {"mean": images.mean(axis=(1, 2, 3))}
        finally:
            self.busy.release()


def batches(values: list[int], taken: list[int] | None = None):
    for value in values:
        if taken is not None:
            taken.append(value)
        yield f"key {value}", np.full((2, 4, 4, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("latency", [False, True])
def test_answers_come_in_order_with_their_keys(latency: bool):
    values = list(range(60))
    found = list(FileEngine(Model, latency=latency).stream(batches(values)))
    assert [key for key, _ in found] == [f"key {value}" for value in values]
    assert [arrays["mean"].tolist() for _, arrays in found] == [[value, value] for value in values]


def test_batches_are_taken_only_when_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("handlens.runtimes.engine.cores", lambda: 3)
    taken: list[int] = []
    stream = FileEngine(Model).stream(batches(list(range(200)), taken))
    next(stream)
    assert len(taken) <= 4
    stream.close()  # and does not wait for the rest


def test_what_goes_wrong_in_a_thread_is_raised():
    with pytest.raises(RuntimeError, match="no such image"):
        list(FileEngine(Model).stream(batches([1, 2, 255, 3])))


def test_one_image_gets_all_threads_and_many_images_one_each():
    opened: list[int | None] = []

    def make(threads: int | None) -> Model:
        opened.append(threads)
        return Model(threads)

    FileEngine(make, latency=True)
    assert opened == [None]
    opened.clear()
    FileEngine(make)
    assert set(opened) == {1}
