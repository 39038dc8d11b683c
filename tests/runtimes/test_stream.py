"""Files to answers: in order, lazily, with bad files in their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlens.preprocess import Preprocess
from handlens.runtimes.engine import TorchEngine
from handlens.runtimes.stream import AHEAD, answers, load_pixels

PREPROCESS = Preprocess(height=8, width=8, short_side=8)


def mean_engine() -> TorchEngine:
    return TorchEngine(lambda images: {"mean": images.mean(axis=(1, 2, 3))}, runtime="test")


def write_gray(path: Path, level: int) -> Path:
    Image.new("RGB", (12, 10), (level,) * 3).save(path)
    return path


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("bad", [(), (0,), (4, 5, 6), (19,), tuple(range(20))])
def test_answers_keep_the_order_and_bad_files_their_place(tmp_path, batch_size, bad):
    paths = []
    for number in range(20):
        path = tmp_path / f"{number:02d}.png"
        if number in bad:
            path.write_bytes(b"not an image")
        else:
            write_gray(path, 10 * number)
        paths.append(path)
    results = list(answers(iter(paths), mean_engine(), preprocess=PREPROCESS, batch_size=batch_size))
    assert [result.path for result in results] == paths
    for number, result in enumerate(results):
        if number in bad:
            assert result.arrays is None
            assert result.error is not None and paths[number].name in result.error
        else:
            assert result.arrays is not None
            assert float(result.arrays["mean"]) == pytest.approx(10 * number)


def test_paths_are_taken_only_when_needed(tmp_path):
    path = write_gray(tmp_path / "a.png", 100)
    taken = []

    def many():
        for number in range(10_000):
            taken.append(number)
            yield path

    stream = answers(many(), mean_engine(), preprocess=PREPROCESS)
    next(stream)
    assert len(taken) <= AHEAD + 4
    stream.close()


def test_no_files_no_answers():
    assert list(answers(iter(()), mean_engine(), preprocess=PREPROCESS)) == []


def test_pixels_are_preprocess_pixels(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    engine = TorchEngine(lambda images: {"pixels": images}, runtime="test")
    (answer,) = answers([tmp_path / "a.png"], engine, preprocess=PREPROCESS)
    assert answer.arrays is not None
    np.testing.assert_array_equal(answer.arrays["pixels"], PREPROCESS.pixels(image))


def test_what_nobody_thought_of_is_the_finding_of_one_file(tmp_path):
    paths = [write_gray(tmp_path / f"{number}.png", 10) for number in range(3)]

    def load(path, preprocess):
        if path == paths[1]:
            raise KeyError("a decoder's own mistake")
        return load_pixels(path, preprocess)

    results = list(answers(iter(paths), mean_engine(), preprocess=PREPROCESS, load=load))
    assert [result.error is None for result in results] == [True, False, True]
    assert results[1].error.startswith(f"{paths[1]}: an unexpected KeyError")
