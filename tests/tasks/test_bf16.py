"""Steps of training where the processor computes in bf16, forced here so that every machine tests them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from handlens.models import build
from handlens.preprocess import Preprocess
from handlens.tasks import TASKS
from handlens.tasks.classify.training import ClassifierTraining
from handlens.tasks.detect.training import DetectorTraining
from handlens.tasks.segment.training import SegmenterTraining
from handlens.tasks.tag.training import TaggerTraining
from handlens.training.module import TaskTraining
from handlens.training.recipe import Recipe

SIZE = 96
PREPROCESS = Preprocess(height=SIZE, width=SIZE, resize="stretch")
BOXES = [torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.5, 0.4, 0.9, 0.9]]), torch.zeros(0, 4)]
LABELS = [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.long)]


def classifier() -> tuple[TaskTraining, tuple[Tensor]]:
    training = ClassifierTraining(
        build("mobilenet_v2", num_classes=3, width=0.35),
        recipe=Recipe().settled("scratch", TASKS["classify"].defaults),
        preprocess=PREPROCESS,
        total_steps=1,
        num_classes=3,
        class_weights=torch.tensor([1.0, 2.0, 0.5]),
    )
    return training, (torch.tensor([0, 2]),)


def tagger() -> tuple[TaskTraining, tuple[Tensor]]:
    training = TaggerTraining(
        build("mobilenet_v2", num_classes=3, width=0.35),
        recipe=Recipe().settled("scratch", TASKS["tag"].defaults),
        preprocess=PREPROCESS,
        total_steps=1,
        num_classes=3,
        class_weights=torch.tensor([1.0, 2.0, 0.5]),
    )
    return training, (torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),)


def segmenter(**recipe) -> tuple[TaskTraining, tuple[Tensor]]:
    training = SegmenterTraining(
        build("deeplab_v3", num_classes=3),
        recipe=Recipe(**recipe).settled("scratch", TASKS["segment"].defaults),
        preprocess=PREPROCESS,
        total_steps=1,
        num_classes=3,
    )
    return training, (torch.arange(2 * SIZE * SIZE).reshape(2, SIZE, SIZE).remainder(3).to(torch.uint8),)


def detector(scores: str, **recipe) -> tuple[TaskTraining, tuple[list[Tensor], list[Tensor]]]:
    training = DetectorTraining(
        build("ssdlite", num_classes=2, scores=scores),
        recipe=Recipe(**recipe).settled("scratch", TASKS["detect"].defaults),
        preprocess=PREPROCESS,
        total_steps=1,
        class_names=("bread", "roll"),
    )
    return training, (BOXES, LABELS)


@pytest.mark.parametrize(
    "make",
    [
        classifier,
        tagger,
        segmenter,
        lambda: segmenter(pixel_loss="focal"),
        lambda: detector("softmax"),
        lambda: detector("sigmoid"),
        lambda: detector("sigmoid", box_loss="focal"),
    ],
    ids=["classify", "tag", "segment", "segment focal", "detect", "detect sigmoid", "detect focal"],
)
def test_a_step_and_a_validation_in_bf16_are_those_of_float32(make):
    torch.manual_seed(0)
    training, targets = make()
    untrained = {name: value.clone() for name, value in training.net.state_dict().items()}
    computed: set[torch.dtype] = set()
    for part in training.net.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _part, _given, answer: computed.add(answer.dtype))
    batch = (torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8), *targets)
    losses, validated = {}, {}
    for bf16 in (False, True):
        computed.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            training.train()
            training.loss(batch).backward()
            training.net.load_state_dict(untrained)
            training.eval()  # batch norm of two images would make much of little differences
            loss = training.loss(batch)
            training.reset_validation()
            with torch.no_grad():
                training.validation_step(batch, 0)
        assert computed == {torch.bfloat16 if bf16 else torch.float32}
        assert loss.dtype == torch.float32
        assert all(part.grad is None or part.grad.isfinite().all() for part in training.net.parameters())
        losses[bf16], validated[bf16] = float(loss.detach()), training.validation_result()
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
    assert validated[True][1] == pytest.approx(validated[False][1], rel=0.05)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_boxes_are_decoded_in_float32_from_bf16_answers(scores):
    net = build("ssdlite", num_classes=2, scores=scores).eval()
    with torch.no_grad():
        raw = net(torch.randn(1, 3, SIZE, SIZE))
        short = raw._replace(offsets=raw.offsets.bfloat16(), logits=raw.logits.bfloat16())
        boxes, probabilities, _ = net.decode(short)
        as_float = net.decode(short._replace(offsets=short.offsets.float(), logits=short.logits.float()))
    assert (boxes.dtype, probabilities.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close((boxes, probabilities), as_float[:2], rtol=0, atol=0)
