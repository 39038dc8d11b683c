"""Images, masks and boxes move alike, and by the key alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from handlens.data.augment import Rotate, image_augment, seeded
from handlens.data.seeds import seed_torch
from handlens.data.window import Window, random_window, xyxy
from handlens.palette import IGNORE
from handlens.preprocess import Preprocess
from handlens.tasks.classify.mixing import cutmix
from handlens.tasks.detect.augment import Boxed, detection_augment, mosaic
from handlens.tasks.segment.augment import segmentation_augment

NET = Preprocess(height=64, width=96, resize="stretch")
RESIZES = [NET, Preprocess(height=64, width=96, resize="pad"), Preprocess(height=64, width=64, short_side=72)]


@st.composite
def images_with_a_box(draw: Any) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    height, width = draw(st.integers(20, 160)), draw(st.integers(20, 160))
    left, top = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
    right, bottom = draw(st.integers(left + 8, width)), draw(st.integers(top + 8, height))
    return (height, width), (left, top, right, bottom)


def drawn(size: tuple[int, int], *corners: tuple[int, int, int, int]) -> Boxed:
    """A black image with white boxes, class i for the i-th."""
    image = torch.zeros(3, *size, dtype=torch.uint8)
    for left, top, right, bottom in corners:
        image[:, top:bottom, left:right] = 255
    return image, xyxy(torch.tensor(corners, dtype=torch.float32).reshape(-1, 4), *size), torch.arange(len(corners))


def bounds(where: Tensor) -> list[int]:
    rows, columns = where.any(dim=1).nonzero()[:, 0], where.any(dim=0).nonzero()[:, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def check_bounds(box: Tensor, where: Tensor, *, within: float) -> None:
    np.testing.assert_allclose(box.tolist(), bounds(where), atol=within, err_msg="the box left its pixels")


@settings(max_examples=150, deadline=None)
@given(images_with_a_box(), st.integers(0, 10**6), st.floats(0.3, 2.0), st.floats(0, 0.5))
def test_a_box_drawn_as_a_mask_stays_that_masks_bounding_box(
    case: tuple[tuple[int, int], tuple[int, int, int, int]], seed: int, factor: float, aspect: float
):
    size, corners = case
    image, boxes, labels = drawn(size, corners)
    torch.manual_seed(seed)
    window = random_window(size, size, (64, 96), scale=(factor, factor), aspect=aspect)
    moved, kept = window.boxes(boxes, labels)
    mask = window.mask(image[0] // 255 * 2 + 1)
    assert set(mask.unique().tolist()) <= {1, 3, IGNORE}  # no class 2 is invented between 1 and 3
    if len(kept):
        check_bounds(moved[0], mask == 3, within=1)
        assert (mask == 3).sum() >= 0.5 * (moved[0, 2:] - moved[0, :2]).prod()  # filled, not only framed


@settings(max_examples=60, deadline=None)
@given(images_with_a_box(), st.integers(0, 10**6), st.sampled_from(RESIZES))
def test_the_detectors_pipeline_moves_boxes_with_the_image(
    case: tuple[tuple[int, int], tuple[int, int, int, int]], key: int, preprocess: Preprocess
):
    size, corners = case
    augment = detection_augment(preprocess, flip=0.5, vertical_flip=0.5, crop_area=0.2, color=0, zoom_out=2)
    image, boxes, labels = seeded(augment, *drawn(size, corners), key=(key,))
    assert image.shape == (3, preprocess.height, preprocess.width)
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert boxes.canvas_size == (preprocess.height, preprocess.width)
    assert len(boxes) == len(labels) <= 1
    if len(boxes):
        check_bounds(boxes[0], image[0] > 127, within=2)  # halfway up a blurred edge, and above the padding's 114


@settings(max_examples=60, deadline=None)
@given(images_with_a_box(), st.integers(0, 10**6), st.sampled_from(RESIZES))
def test_the_segmenters_pipeline_moves_the_mask_with_the_image(
    case: tuple[tuple[int, int], tuple[int, int, int, int]], key: int, preprocess: Preprocess
):
    size, corners = case
    image, _, _ = drawn(size, corners)
    augment = segmentation_augment(preprocess, flip=0.5, vertical_flip=0.5, crop_area=0.2, color=0, zoom_out=2)
    moved, mask = seeded(augment, image, tv_tensors.Mask(image[0] // 255 * 2 + 1), key=(key,))
    assert isinstance(mask, tv_tensors.Mask)
    assert mask.shape == (preprocess.height, preprocess.width)
    assert mask.dtype == torch.uint8
    padded, white, black = mask == IGNORE, moved[0] > 200, moved[0] < 50
    assert (moved[0][padded] == 114).all()
    assert set(mask.unique().tolist()) <= {1, 3, IGNORE}
    assert (mask[white] == 3).all()  # what is clearly one or the other; at an edge the image is gray
    assert (mask[black] == 1).all()
    assert (white | black | padded).float().mean() > 0.5


def test_without_randomness_it_is_what_preprocess_does():
    rng = np.random.default_rng(0)
    original = np.kron(rng.integers(0, 256, (10, 12, 3)), np.ones((9, 9, 1))).astype(np.uint8)
    mask = np.kron(rng.integers(0, 5, (10, 12)), np.ones((9, 9))).astype(np.uint8)
    augment = segmentation_augment(NET, flip=0, crop_area=1, color=0, zoom_out=1)
    image, target = augment(torch.from_numpy(original).permute(2, 0, 1), tv_tensors.Mask(torch.from_numpy(mask)))
    difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - NET.pixels(original))
    assert difference.max() <= 1  # Pillow rounds once more
    assert target.shape == (64, 96)


@pytest.mark.parametrize(
    "preprocess", [*RESIZES, Preprocess(height=28, width=28, color="gray", short_side=28, mean=(0.0,), std=(1.0,))]
)
def test_a_classifier_whose_recipe_draws_nothing_learns_from_what_it_will_be_asked_about(preprocess: Preprocess):
    original = np.random.default_rng(0).integers(0, 256, (90, 40, 3), dtype=np.uint8)
    augment = image_augment(preprocess, flip=0, crop_area=1.0, color=0)
    image = seeded(augment, torch.from_numpy(original).permute(2, 0, 1), key=(0,))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), preprocess.pixels(original))


def test_a_turned_image_is_turned_about_its_middle_and_has_no_black_corners():
    size = Preprocess(height=81, width=81, short_side=81)
    image, _, _ = drawn((81, 81), (36, 20, 45, 34))  # a bar above the middle
    image = image.clamp(min=100)
    turn = image_augment(size, flip=0, crop_area=1.0, color=0, rotate=40.0)
    angles = set()
    for key in range(12):
        turned = seeded(turn, image, key=(key,))
        assert turned.shape == image.shape and turned.dtype == torch.uint8
        assert turned.min() >= 99  # what is beyond an edge is the image again
        y, x = ((turned[0] > 177).nonzero().float().mean(dim=0) - 40).tolist()
        assert math.hypot(y, x) == pytest.approx(40 - 26.5, abs=0.5)  # as far from the middle as before
        angles.add(round(math.degrees(math.atan2(x, -y)), 1))
    assert max(map(abs, angles)) <= 41 and len(angles) > 8 and min(angles) < 0 < max(angles)
    long = seeded(Rotate(90.0), torch.full((3, 10, 100), 200, dtype=torch.uint8), key=(1,))
    assert long.shape == (3, 10, 100) and long.min() > 90  # gray, with a blurred edge


def test_boxes_move_as_torchvisions_do():
    """A window inside the image is torchvision's crop and resize."""
    boxes = xyxy(torch.tensor([[10.0, 12, 50, 60], [0, 0, 39, 30], [45, 33, 90, 70]]), 80, 100)
    window = Window(seen=(10, 20, 70, 90), place=(0, 0, 64, 96), size=(64, 96))
    ours, labels = window.boxes(boxes, torch.arange(3))
    theirs = F.clamp_bounding_boxes(F.resize(F.crop(boxes, 10, 20, 60, 70), [64, 96]))
    assert labels.tolist() == [0, 1, 2]
    torch.testing.assert_close(ours.as_subclass(Tensor), theirs.as_subclass(Tensor))


def test_boxes_that_leave_the_image_are_dropped_by_the_rule():
    window = Window(seen=(0, 50, 100, 100), place=(0, 0, 100, 50), size=(100, 100))  # the right half, in the left half
    corners = torch.tensor(
        [
            [43.25, 10, 53.25, 20],  # 32 % is left
            [42.75, 10, 52.75, 20],  # 27 %
            [60, 10, 61.9, 40],  # less than 2 pixels wide
            [60, 10, 62, 40],
            [0, 0, 40, 40],  # outside
        ]
    )
    boxes, labels = window.boxes(xyxy(corners, 100, 100), torch.arange(5))
    assert labels.tolist() == [0, 3]
    assert boxes.tolist() == [[0, 10, 3.25, 20], [10, 10, 12, 40]]


def test_no_boxes_stay_no_boxes_and_an_object_is_kept_where_there_is_one():
    augment = detection_augment(NET, flip=0.5, crop_area=0.02, color=0.3)
    for key in range(15):
        _, boxes, labels = seeded(augment, *drawn((70, 90)), key=(key,))
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)
        _, boxes, labels = seeded(augment, *drawn((70, 90), (80, 60, 90, 70)), key=(key,))
        assert len(boxes) == len(labels) == 1


@pytest.mark.parametrize("task", ["classify", "segment", "detect"])
def test_every_draw_depends_on_the_key_alone(task: str):
    image, boxes, labels = drawn((70, 90), (10, 10, 60, 50), (5, 20, 30, 60))
    image = (image // 2 + torch.arange(90, dtype=torch.uint8)).contiguous()
    transform: Any
    if task == "classify":
        transform = image_augment(NET, flip=0.5, crop_area=0.3, color=0.4, trivial=True)
        inputs: tuple[Any, ...] = (image,)
    elif task == "segment":
        transform = segmentation_augment(NET, flip=0.5, vertical_flip=0.5, crop_area=0.3, color=0.4)
        inputs = (image, tv_tensors.Mask(image[0] // 100))
    else:
        transform = detection_augment(NET, flip=0.5, vertical_flip=0.5, crop_area=0.3, color=0.4)
        inputs = (image, boxes, labels)

    def results(key: int) -> list[Tensor]:
        made = seeded(transform, *inputs, key=("augment", key))
        return [made] if isinstance(made, Tensor) else list(made)

    before = [item.clone() for item in inputs]
    first = results(1)
    torch.manual_seed(99)
    np.random.seed(99)
    state = torch.random.get_rng_state()
    for again, once in zip(results(1), first, strict=True):
        torch.testing.assert_close(again, once, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({results(key)[0].float().sum().item() for key in range(12)}) > 9
    for item, copy in zip(inputs, before, strict=True):
        assert torch.equal(item, copy)  # the inputs are left as they were


@pytest.mark.parametrize("target", ["Mask", "BoundingBoxes"])
def test_trivial_augment_refuses_what_it_would_leave_behind(target: str):
    image, boxes, _ = drawn((70, 90), (10, 10, 60, 50))
    transform = image_augment(NET, flip=0, crop_area=0.5, color=0, trivial=True)
    with pytest.raises(ValueError, match=f"for classification.*{target}"):
        transform(tv_tensors.Image(image), boxes if target == "BoundingBoxes" else tv_tensors.Mask(image[0]))


def test_gray_pipelines_give_one_channel():
    gray = Preprocess(height=64, width=64, resize="stretch", color="gray", mean=(0.5,), std=(0.5,))
    image, boxes, labels = drawn((70, 90), (10, 10, 60, 50))
    assert segmentation_augment(gray, flip=0, crop_area=1, color=0.2)(image, tv_tensors.Mask(image[0]))[0].shape[0] == 1
    assert detection_augment(gray, flip=0, crop_area=1, color=0)(image, boxes, labels)[0].shape[0] == 1


def test_an_image_of_one_row_is_augmented():
    image, boxes, labels = drawn((1, 50), (10, 0, 40, 1))
    assert seeded(detection_augment(NET, flip=0.5, crop_area=0.1, color=0), image, boxes, labels, key=(0,))[0].shape
    mask = tv_tensors.Mask(image[0] // 255)
    augment = segmentation_augment(Preprocess(resize="pad"), flip=0.5, crop_area=0.1, color=0)
    assert seeded(augment, image, mask, key=(0,))[1].shape == (224, 224)


@pytest.mark.parametrize("preprocess", RESIZES)
def test_scales_are_drawn_between_the_smallest_crop_and_the_largest_zoom(preprocess: Preprocess):
    """A square in the middle of the image shows the scale, where it is seen whole."""
    image, boxes, labels = drawn((160, 240), (110, 70, 130, 90))
    base = {"stretch": 160, "pad": 160, "crop": 160 * 64 / 72}[preprocess.resize]
    augment = detection_augment(preprocess, flip=0, crop_area=0.25, color=0, zoom_out=1)
    factors = []
    for key in range(150):
        _, moved, _ = seeded(augment, image, boxes, labels, key=(key,))
        for left, top, right, bottom in moved.tolist():
            if left > 0 and top > 0 and right < preprocess.width and bottom < preprocess.height:
                both = 400 / ((right - left) * (bottom - top))  # pixels of the image per pixel of the net's input
                factors.append(
                    math.sqrt(both * preprocess.height * preprocess.width)
                    / math.sqrt(base * base * (1.5 if preprocess.width == 96 else 1))
                )
    assert 0.48 < min(factors) < 0.6
    assert 0.9 < max(factors) < 1.05


@pytest.mark.parametrize("size", [(64, 64), (160, 120), (360, 360), (301, 577)])
def test_padding_is_only_outside_the_image(size: tuple[int, int]):
    torch.manual_seed(0)
    for _ in range(200):
        inside = random_window(size, size, (224, 224), scale=(0.5, 1), aspect=0)
        assert inside.place == (0, 0, 224, 224)
        around = random_window(size, size, (224, 224), scale=(1.5, 2), aspect=0)
        top, left, bottom, right = around.place
        assert bottom - top < 224
        assert right - left < 224


def test_cutmix_blends_targets_by_the_pixels_it_pasted():
    images = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 2, 20, 30)
    targets = torch.eye(6)
    shares = []
    for key in range(60):
        mixed, blended = cutmix(images, targets, alpha=1.0, key=("cutmix", key))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), blended @ torch.arange(6.0))
        torch.testing.assert_close(blended.sum(dim=1), torch.ones(6))
        shares.append(float(blended.max(dim=1).values.mean()))
        assert len(mixed[0].unique()) <= 2  # pasted, not blended
    assert len(set(shares)) > 30
    first, again = (cutmix(images, targets, alpha=1.0, key=("cutmix", 3))[0] for _ in range(2))
    assert torch.equal(first, again)


def test_a_mosaic_shows_four_images_with_their_boxes():
    samples: list[Boxed] = []
    for number in range(4):
        image, boxes, _ = drawn((90 + 10 * number, 140), (30, 20, 110, 70))
        samples.append((image // 255 * (40 * number + 100), boxes, torch.tensor([number])))
    seen = set()
    for key in range(20):
        canvas, boxes, labels = mosaic(samples, height=96, width=128, key=("mosaic", key))
        assert canvas.shape == (3, 96, 128)
        assert boxes.canvas_size == (96, 128)
        for box, label in zip(boxes, labels.tolist(), strict=True):
            bright = (canvas[0].int() - (40 * label + 100)).abs() < 4
            left, top, right, bottom = (round(side) for side in box.tolist())
            assert bright[top:bottom, left:right].float().mean() > 0.85
        seen |= set(labels.tolist())
    assert seen == {0, 1, 2, 3}
    again = mosaic(samples, height=96, width=128, key=("mosaic", key))
    assert torch.equal(again[0], canvas)


def test_wrong_inputs_are_named():
    image, boxes, labels = drawn((70, 90), (10, 10, 60, 50))
    with pytest.raises(ValueError, match="the same size"):
        segmentation_augment(NET, flip=0, crop_area=1, color=0)(image, tv_tensors.Mask(image[0, 1:]))
    with pytest.raises(ValueError, match="1 and 0"):
        detection_augment(NET, flip=0, crop_area=1, color=0)(image, boxes, labels[:0])
    with pytest.raises(ValueError, match=r"0\.5"):
        detection_augment(NET, flip=0, crop_area=1, color=0, zoom_out=0.5)
    with pytest.raises(ValueError, match="got 0"):
        segmentation_augment(NET, flip=0, crop_area=0, color=0)
    with pytest.raises(ValueError, match="got 3"):
        mosaic([(image, boxes, labels)] * 3, height=64, width=64, key=(0,))


def test_seeding_draws_as_torch_does_and_leaves_nothing_behind():
    """torch.manual_seed keeps a request and a traceback for GPUs that are not in use: one for every image."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    before = len(torch.cuda._queued_calls)
    for _ in range(10):
        seed_torch(5)
    assert torch.equal(torch.rand(3), expected)
    assert len(torch.cuda._queued_calls) == before
