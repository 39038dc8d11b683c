"""Order and augmentation depend on (seed, epoch, index) alone, and a stopped epoch goes on where it was."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from handlens.data.augment import image_augment, smallest_training_decode
from handlens.data.decode import decode
from handlens.data.examples import ImageExamples
from handlens.data.loaders import EpochBatches, ResumableLoader, fastest_workers, loading_seconds
from handlens.data.record import Record
from handlens.preprocess import Preprocess
from handlens.tasks.classify.mixing import mixup
from handlens.tasks.classify.training import class_of

PREPROCESS = Preprocess(height=32, width=32, short_side=32)


@pytest.fixture
def examples(tmp_path: Path) -> ImageExamples:
    records = []
    for number in range(11):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        records.append(Record(path=path, id=path.name, label=number))
    transform = image_augment(PREPROCESS, flip=0.5, crop_area=0.3, color=0.3)
    return ImageExamples(records, preprocess=PREPROCESS, transform=transform, at_least=(32, 32), label=class_of, seed=3)


def epoch_of(loader: ResumableLoader) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images.clone(), targets.clone()) for images, targets in loader]


def loader(examples: ImageExamples, workers: int = 0) -> ResumableLoader:
    return ResumableLoader(examples, batch_size=4, seed=3, shuffle=True, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(examples, workers):
    alone, together = loader(examples), loader(examples, workers)
    for _ in range(2):
        for (images, targets), (others, other_targets) in zip(epoch_of(alone), epoch_of(together), strict=True):
            torch.testing.assert_close(images, others, rtol=0, atol=0)
            torch.testing.assert_close(targets, other_targets, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("count", "size", "batches"), [(9, 4, [4, 5]), (8, 4, [4, 4]), (7, 4, [4, 3]), (1, 4, [1]), (0, 4, [])]
)
def test_no_image_is_left_out_and_none_trains_alone(count, size, batches):
    sampler = EpochBatches(count, batch_size=size, seed=0, shuffle=True)
    assert [len(batch) for batch in sampler] == batches
    assert len(sampler) == len(batches)
    assert sorted(index for batch in sampler for _, index in batch) == list(range(count))


def test_two_epochs_differ_in_order_and_pixels_and_lose_nothing(examples):
    one = loader(examples)
    first, second = epoch_of(one), epoch_of(one)
    orders = [torch.cat([targets for _, targets in epoch]) for epoch in (first, second)]
    assert orders[0].tolist() != orders[1].tolist()
    assert sorted(orders[0].tolist()) == sorted(orders[1].tolist()) == list(range(11))
    pixels = [
        torch.cat([images for images, _ in epoch])[order.argsort()]
        for epoch, order in zip((first, second), orders, strict=True)
    ]
    assert (pixels[0] != pixels[1]).flatten(1).any(dim=1).all()  # every image was augmented anew


@pytest.mark.parametrize("used", [0, 1, 2, 3])
def test_a_stopped_epoch_goes_on_where_it_was(examples, used):
    whole = loader(examples)
    expected = epoch_of(whole) + epoch_of(whole)
    stopped = loader(examples)
    iterator = iter(stopped)
    for _ in range(used):
        next(iterator)
    state = stopped.state_dict()
    resumed = loader(examples)
    resumed.load_state_dict(state)
    rest = epoch_of(resumed) + (epoch_of(resumed) if used < 3 else [])
    assert len(rest) == len(expected) - used
    for (images, targets), (others, other_targets) in zip(expected[used:], rest, strict=True):
        torch.testing.assert_close(images, others, rtol=0, atol=0)
        torch.testing.assert_close(targets, other_targets, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loading", "step", "expected"),
    [(0.01, 0.01, 0), (0.002, 0.5, 0), (0.1, 0.6, 1), (0.1, 0.06, 2), (0.3, 0.02, 2)],
)
def test_a_worker_is_taken_only_where_it_pays(loading: float, step: float, expected: int):
    assert fastest_workers(load_seconds=loading, step_seconds=step, choices=[0, 1, 2]) == expected


def test_what_is_kept_is_loaded_faster_again(examples, monkeypatch):
    def slow(path: Path, **how: object) -> np.ndarray:
        time.sleep(0.05)
        return decode(path, **how)

    monkeypatch.setattr("handlens.data.examples.decode", slow)
    first, again = loading_seconds(loader(examples))
    assert first >= 4 * 0.05  # a batch
    assert again < first - 0.1


def test_augmentation_leaves_the_random_state_alone(examples):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    examples[(0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_shuffling_the_order_is_the_files():
    batches = EpochBatches(5, batch_size=2, seed=0, shuffle=False)
    assert [[index for _, index in batch] for batch in batches] == [[0, 1], [2, 3, 4]]


def test_mixup_blends_images_and_targets_alike():
    images = torch.arange(4.0).reshape(4, 1, 1, 1)
    targets = torch.eye(4)
    mixed, blended = mixup(images, targets, alpha=1.0, key=(0, "mixup", 5))
    torch.testing.assert_close(mixed.flatten(), blended @ torch.arange(4.0))
    torch.testing.assert_close(blended.sum(dim=1), torch.ones(4))
    again, _ = mixup(images, targets, alpha=1.0, key=(0, "mixup", 5))
    torch.testing.assert_close(mixed, again, rtol=0, atol=0)


def test_the_smallest_crop_is_not_enlarged_for_want_of_pixels():
    height, width = smallest_training_decode(PREPROCESS, crop_area=0.25)
    assert height >= 64
    assert width >= 64


LEFT_ALONE = """
import multiprocessing, sys, time
from torch.utils.data import DataLoader, Dataset
from handlens.data.loaders import _follow_the_parent

class Numbers(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return index

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    batches = iter(DataLoader(Numbers(), num_workers=2, worker_init_fn=_follow_the_parent))
    next(batches), next(batches)  # one of each
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "method",
    ["fork", pytest.param("spawn", marks=pytest.mark.slow), pytest.param("forkserver", marks=pytest.mark.slow)],
)
def test_a_loader_process_outlives_being_told_to_end_and_not_its_training(method: str, tmp_path: Path):
    script = tmp_path / "training.py"
    script.write_text(LEFT_ALONE)
    training = subprocess.Popen([sys.executable, script, method], stdout=subprocess.PIPE, text=True)
    try:
        loaders = [psutil.Process(int(pid)) for pid in training.stdout.readline().split()]
        assert len(loaders) == 2
        for loader in loaders:
            loader.terminate()
        gone, _ = psutil.wait_procs(loaders, timeout=1)
        assert gone == []
    finally:
        training.kill()
        training.wait()
        training.stdout.close()
    _, left = psutil.wait_procs(loaders, timeout=30)
    assert left == []
