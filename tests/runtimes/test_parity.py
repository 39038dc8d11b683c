"""The gate must be able to say no."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handlens.preprocess import Preprocess
from handlens.runtimes import RUNTIMES
from handlens.runtimes.comparison import Proof, measure_parity, prepare
from handlens.runtimes.graph import DeployGraph
from handlens.runtimes.names import PROBABILITIES
from handlens.runtimes.onnx.convert import export_onnx
from handlens.runtimes.parity import OWN
from handlens.runtimes.resizers import RESIZERS
from handlens.runtimes.source import Source
from handlens.tasks import TASKS

TASK = TASKS["classify"]
PREPROCESS = Preprocess(height=32, width=32, short_side=32)


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.linear = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 3 * self.linear(self.conv(images).relu().mean(dim=(2, 3)))


@pytest.fixture
def images() -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(str(i), rng.integers(0, 256, (40 + 3 * i, 50, 3), dtype=np.uint8) // (1 + i % 3)) for i in range(12)]


def first_class(arrays: dict[str, np.ndarray], keep=None) -> float:
    return float((arrays[PROBABILITIES][keep].argmax(axis=1) == 0).mean())


def parity_of(tmp_path: Path, exported: nn.Module, reference: nn.Module, images, *, score=first_class, **options):
    path = export_onnx(Source(deployed(exported), PREPROCESS, (PROBABILITIES,), {}), tmp_path / "a.onnx")
    graph = deployed(reference)
    folder = tmp_path / "proof"
    folder.mkdir()
    proof = prepare(
        folder,
        images,
        preprocess=PREPROCESS,
        reference=lambda batch: graph.arrays(batch, (PROBABILITIES,)),
        score=score,
        available=20,
    )
    return measure_parity(
        path, proof, task=TASK.name, compare=TASK.compare, changed=TASK.changed, runtime=RUNTIMES["onnx"], **options
    )


def measure(tmp_path: Path, images, *, shift: float, **options):
    other = TinyNet().eval()
    with torch.no_grad():
        other.linear.bias[0] += shift
    return parity_of(tmp_path, TinyNet().eval(), other, images, **options)


def deployed(net: nn.Module) -> DeployGraph:
    return DeployGraph(net, PREPROCESS, last_step=TASK.last_step)


def test_the_same_net_passes(tmp_path, images):
    parity = measure(tmp_path, images, shift=0)
    assert parity.passed
    (row,) = parity.rows
    assert row.largest_difference < 1e-5
    assert (row.images, parity.available, row.pixels) == (12, 20, OWN)
    assert [entry["pixels"] for entry in parity.resizers] == [OWN, *RESIZERS]
    own, *others = parity.resizers
    assert own["changed"] == 0 and own["score"] == row.score
    assert {entry["changed"] for entry in others} == {0.0}  # this net looks at averages


def test_a_slightly_different_net_fails(tmp_path, images):
    parity = measure(tmp_path, images, shift=0.003)
    assert not parity.passed
    assert all(1e-4 < row.largest_difference < 1e-2 for row in parity.rows)


def test_answers_that_are_not_numbers_fail_and_have_no_score(tmp_path, images):
    def score(arrays, keep=None):
        if not np.isfinite(arrays[PROBABILITIES]).all():
            raise ValueError("as the metrics of evaluate do")
        return 0.5

    broken = TinyNet().eval()
    with torch.no_grad():
        broken.linear.bias[0] = float("nan")
    parity = parity_of(tmp_path, broken, TinyNet().eval(), images, score=score)
    assert not parity.passed
    assert {(row.score, row.reference_score) for row in parity.rows} == {(None, 0.5)}


def test_differing_labels_are_named(tmp_path, images):
    parity = measure(tmp_path, images, shift=30)
    assert not parity.passed
    assert parity.rows[0].equal < 1
    assert set(parity.rows[0].differing) <= {name for name, _ in images}
    assert parity.rows[0].differing


def test_resizers_differ_from_each_other(images):
    made = [resize(images[5][1], PREPROCESS) for resize in RESIZERS.values()]
    assert all(image.shape == (32, 32, 3) for image in made)
    assert len({image.tobytes() for image in made}) == len(made)


@pytest.mark.parametrize(("its", "passed"), [(0.895, True), (0.89, True), (0.885, False)])
def test_what_is_not_float32_may_lose_so_much_of_the_score_and_no_more(tmp_path, images, its: float, passed: bool):
    scores = iter([0.90, its])  # PyTorch's comes first
    parity = measure(tmp_path, images, shift=0.01, score=lambda arrays, keep=None: next(scores, 0.5), max_drop=0.01)
    assert parity.passed == passed


def test_without_labels_it_must_answer_alike(tmp_path, images):
    assert measure(tmp_path, images, shift=0.01, score=lambda arrays, keep=None: None, max_drop=0.01).passed
    (tmp_path / "worse").mkdir()
    parity = measure(tmp_path / "worse", images, shift=30, score=lambda arrays, keep=None: None, max_drop=0.01)
    assert parity.rows[0].equal < 0.95 and not parity.passed


def test_the_change_of_the_metric_has_its_interval(tmp_path, images):
    rng = np.random.default_rng(1)
    right = rng.random(2000) < 0.8
    lost = right & (rng.random(2000) < 0.05)  # what the other file gets wrong in addition

    def score(arrays, keep=None):
        return float(arrays["right"][keep].mean())

    proof = Proof(tmp_path, tuple(map(str, range(2000))), {"right": right}, score, 2000, (), False)
    low, high = proof.interval({"right": right & ~lost})
    change = -lost.mean()
    # The standard error of a share of changed images, as it is known for single proportions.
    expected = 1.96 * np.sqrt(lost.mean() * (1 - lost.mean()) / 2000)
    assert (low + high) / 2 == pytest.approx(change)
    assert 0.5 * expected < (high - low) / 2 < 2 * expected
    assert low < change < high < 0
    few = Proof(tmp_path, tuple(map(str, range(99))), {"right": right[:99]}, score, 99, (), False)
    assert few.interval({"right": right[:99]}) is None
