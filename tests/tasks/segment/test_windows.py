"""Windows over large images: the same answer as in one piece, no seams, no more memory for a higher image."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlens.tasks.segment.windows import starts, tiled_classes, tiled_probabilities


def colors_as_probabilities(pixels: np.ndarray) -> np.ndarray:
    """Pointwise: a pixel's answer depends on that pixel alone."""
    raised = pixels.astype(np.float32) + 1
    return raised / raised.sum(axis=2, keepdims=True)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 0.9) | st.sampled_from([0.0, 0.5, 0.99]),
)
def test_of_a_pointwise_function_nothing_changes(rows, columns, height, width, overlap):
    image = noise(rows, columns)
    parts = list(tiled_probabilities(image, colors_as_probabilities, height=height, width=width, overlap=overlap))
    whole = np.concatenate(parts)
    assert whole.dtype == np.float32
    # A pixel is the sum of up to a thousand windows in float32, each off by 6e-8.
    np.testing.assert_allclose(whole, colors_as_probabilities(image), rtol=6e-5)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 600), st.floats(0, 0.95))
def test_windows_cover_everything_and_share_at_least_the_overlap(size, window, overlap):
    found = starts(size, window, overlap)
    assert found[0] == 0
    assert found[-1] == max(0, size - window)
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (steps <= window).all()
    if len(found) > 1:
        assert steps.max() <= max(1.0, window * (1 - overlap)) + 1  # a pixel is rounded


def test_the_likeliest_class_is_the_one_in_one_piece():
    image = noise(150, 211)
    found = tiled_classes(image, colors_as_probabilities, height=64, width=48)
    assert found.dtype == np.uint8
    expected = colors_as_probabilities(image).argmax(axis=2)
    ties = np.sort(image, axis=2)
    sure = ties[:, :, 2] > ties[:, :, 1]
    np.testing.assert_array_equal(found[sure], expected[sure])


def test_where_windows_disagree_there_is_no_seam():
    """Every window answers with a number of its own; from pixel to pixel the answer still changes only a little."""
    calls = []

    def disagree(window):
        calls.append(window)
        value = np.float32(len(calls) % 2)
        return np.full((*window.shape[:2], 2), (value, 1 - value), dtype=np.float32)

    image = noise(256, 256)
    whole = np.concatenate(list(tiled_probabilities(image, disagree, height=128, width=128, overlap=0.5)))
    assert len(calls) == 9
    assert whole.min() < 0.1
    assert whole.max() > 0.9
    assert max(np.abs(np.diff(whole, axis=axis)).max() for axis in (0, 1)) < 0.05  # butted windows: 1


def test_every_window_has_the_size_of_the_net():
    sizes = set()

    def look(window):
        sizes.add(window.shape)
        return np.ones((40, 50, 1), np.float32)

    for rows, columns in ((7, 300), (300, 7), (3, 3), (41, 51)):
        parts = list(tiled_probabilities(noise(rows, columns), look, height=40, width=50))
        assert np.concatenate(parts).shape == (rows, columns, 1)
    assert sizes == {(40, 50, 3)}


def test_a_small_image_is_filled_up_with_its_own_edge():
    seen = []
    list(tiled_probabilities(noise(2, 3), lambda window: seen.append(window) or window / 255, height=4, width=4))
    np.testing.assert_array_equal(seen[0][:2, :3], noise(2, 3))
    np.testing.assert_array_equal(seen[0][2:, :3], np.repeat(noise(2, 3)[1:], 2, axis=0))
    np.testing.assert_array_equal(seen[0][:, 3], seen[0][:, 2])


def test_memory_does_not_grow_with_the_height():
    def peak(rows: int) -> int:
        image = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (rows, 256, 3))
        tracemalloc.start()
        for _ in tiled_probabilities(image, lambda window: np.ones((64, 64, 20), np.float32), height=64, width=64):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(4096) < 1.1 * peak(512)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 4), np.uint8), {}, r"got \(4, 4\) uint8"),
        (np.zeros((0, 4, 3), np.uint8), {}, "got"),
        (noise(4, 4), {"overlap": 1.0}, "1.0"),
        (noise(4, 4), {"height": 0}, "0 x 2"),
        (noise(4, 4), {"width": 3}, r"must give \(2, 3, K\), got \(2, 2, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        list(
            tiled_probabilities(
                image, lambda window: np.ones((2, 2, 1), np.float32), **{"height": 2, "width": 2} | options
            )
        )
