"""The loss of a detector against torchvision's SSD, and the places where it could teach nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou, sigmoid_focal_loss

from handlens.losses.boxes import box_losses, class_losses, hardest
from handlens.losses.coding import Raw
from handlens.models import build
from handlens.models.detect.anchors import grid_anchors, map_grids, published_anchors

ANCHORS = grid_anchors(published_anchors(), map_grids(160, 160))
CLASSES = 6
NONE = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    torch.manual_seed(0)


def answers(images: int, *, outputs: int = CLASSES + 1) -> Raw:
    offsets, logits = torch.randn(images, len(ANCHORS), 4), torch.randn(images, len(ANCHORS), outputs)
    return Raw(offsets.requires_grad_(), logits.requires_grad_(), ANCHORS)


def some_target(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of which no two want one anchor: there torchvision's matching loses one."""
    while True:
        size = 0.1 + 0.6 * torch.rand(count, 2)
        corner = torch.rand(count, 2) * (1 - size)
        boxes = torch.cat([corner, corner + size], dim=1)
        if len(set(box_iou(boxes, ANCHORS).argmax(dim=1).tolist())) == count:
            return boxes, torch.randint(0, CLASSES, (count,))


def test_it_is_torchvisions_loss():
    reference = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    for _ in range(5):
        raw, targets = answers(3), [some_target(count) for count in (1, 4, 6)]
        logits = torch.cat([raw.logits[:, :, -1:], raw.logits[:, :, :-1]], dim=2)  # their background comes first
        theirs = reference.compute_loss(
            [{"boxes": boxes, "labels": labels + 1} for boxes, labels in targets],
            {"bbox_regression": raw.offsets, "cls_logits": logits},
            [ANCHORS] * 3,
            [SSDMatcher(0.5)(box_iou(boxes, ANCHORS)) for boxes, _ in targets],
        )
        located, classified = box_losses(raw, targets)
        torch.testing.assert_close(located, theirs["bbox_regression"])
        torch.testing.assert_close(classified, theirs["classification"])


def test_images_without_boxes_teach_the_background():
    """torchvision's mining takes three per box: of an image without boxes, none."""
    raw = answers(2)
    located, classified = box_losses(raw, [NONE, NONE])
    (located + classified).backward()
    assert located == 0
    assert raw.offsets.grad.abs().max() == 0
    taught = raw.logits.grad.abs().sum(dim=2) > 0
    assert taught.sum(dim=1).tolist() == [3, 3]
    gradient = raw.logits.grad[taught]
    assert (gradient[:, -1] < 0).all()  # the background has to grow
    assert (gradient[:, :-1] > 0).all()


@pytest.mark.parametrize("classes", ["mined", "focal"])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_batch_with_one_empty_image_has_finite_gradients(sigmoid, classes):
    raw = answers(2, outputs=CLASSES + (not sigmoid))
    sum(box_losses(raw, [NONE, some_target(3)], sigmoid=sigmoid, classes=classes)).backward()
    for gradient in (raw.offsets.grad, raw.logits.grad):
        assert gradient.isfinite().all()
    assert raw.offsets.grad[0].abs().max() == 0
    assert raw.offsets.grad[1].abs().max() > 0
    assert (raw.logits.grad.abs().amax(dim=(1, 2)) > 0).all()


def test_nothing_is_learned_inside_a_crowd():
    crowd = torch.tensor([[0.0, 0.0, 0.6, 1.0]])
    boxes, labels = torch.cat([crowd, torch.tensor([[0.7, 0.1, 0.9, 0.4]])]), torch.tensor([-1, 2])
    raw = answers(1)
    with torch.no_grad():
        raw.logits[0, :, -1] = -20  # everything is sure to be something: the hardest negatives are everywhere
    sum(box_losses(raw, [(boxes, labels)], classes="focal")).backward()
    centers = (ANCHORS[:, 0] + ANCHORS[:, 2]) / 2
    small = (ANCHORS[:, 2] - ANCHORS[:, 0]) < 0.2
    gradient = raw.logits.grad[0].abs().sum(dim=1)
    assert (gradient[(centers < 0.5) & small] == 0).all()
    assert (gradient[(centers > 0.8) & small] > 0).all()
    raw.logits.grad = None
    box_losses(raw, [(boxes, labels)])[1].backward()
    assert (raw.logits.grad[0].abs().sum(dim=1)[(centers < 0.5) & small] == 0).all()


def test_the_hardest_are_three_per_positive_of_each_image():
    losses = torch.arange(40.0).reshape(2, 20)
    positive, left_out = torch.zeros(2, 20, dtype=torch.bool), torch.zeros(2, 20, dtype=torch.bool)
    positive[0, [0, 19]] = True
    left_out[0, 18] = True
    chosen = hardest(losses, positive, left_out)
    assert chosen[0].nonzero()[:, 0].tolist() == [12, 13, 14, 15, 16, 17]
    assert chosen[1].nonzero()[:, 0].tolist() == [17, 18, 19]
    positive[1, :18] = True
    assert hardest(losses, positive, left_out)[1].sum() == 2  # no more than there are, and never a positive one


def test_class_losses_are_the_published_ones():
    logits, wanted = 3 * torch.randn(2, 50, 4), torch.randint(0, 4, (2, 50))
    plain = class_losses(logits, wanted, sigmoid=False, focal=False)
    torch.testing.assert_close(plain.mean(), F.cross_entropy(logits.flatten(0, 1), wanted.flatten()))
    truth = F.one_hot(wanted, 5)[:, :, :4].float()
    focal = class_losses(logits, wanted, sigmoid=True, focal=True)
    torch.testing.assert_close(focal.sum(), sigmoid_focal_loss(logits, truth, 0.25, 2.0, "sum"))
    # Two outputs under a softmax are one sigmoid of their difference: there the two focal losses are the same.
    two, wanted = logits[:, :, :2], wanted % 2
    as_sigmoid = sigmoid_focal_loss(two[:, :, 0] - two[:, :, 1], (wanted == 0).float(), 0.25, 2.0)
    torch.testing.assert_close(class_losses(two, wanted, sigmoid=False, focal=True), as_sigmoid, rtol=1e-4, atol=1e-6)


def test_a_detectors_loss_has_both_parts_and_knows_its_scores():
    net = build("ssdlite", num_classes=CLASSES, scores="sigmoid")
    images, target = torch.randn(2, 3, 96, 96), [some_target(2), NONE]
    loss = sum(net.loss(net(images), target))
    assert loss.shape == ()
    located, classified = box_losses(net(images), target, sigmoid=True)
    torch.testing.assert_close(loss, located + classified, rtol=1e-3, atol=1e-4)


def test_bf16_answers_give_a_float32_loss():
    raw = answers(1)
    raw = Raw(raw.offsets.bfloat16(), raw.logits.bfloat16(), ANCHORS)
    located, classified = box_losses(raw, [some_target(3)])
    assert located.dtype == classified.dtype == torch.float32


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "one entry per image, got 0 for 1"),
        ([(torch.rand(1, 4), torch.tensor([CLASSES]))], r"image 0: labels must be in \[0, 6\), or -1 minus"),
        ([(torch.tensor([[0.1, 0.1, 0.1, 0.3]]), torch.tensor([0]))], "box 0 must be finite with left < right"),
    ],
)
def test_what_does_not_fit_is_named(targets, message):
    with pytest.raises(ValueError, match=message):
        box_losses(answers(1), targets)
    with pytest.raises(ValueError, match="'hinge'"):
        box_losses(answers(1), [NONE], classes="hinge")
