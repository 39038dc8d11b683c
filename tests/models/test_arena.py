"""TFLite Micro's planner: no less than what lives at once, and first fit by size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handlens.models.arena import Buffer, arena

buffers = st.lists(
    st.builds(
        lambda n, first, life: Buffer(n, first, first + life), st.integers(1, 500), st.integers(0, 9), st.integers(0, 4)
    ),
    min_size=1,
)


@given(buffers)
def test_no_less_than_what_lives_at_once_and_no_more_than_all(found):
    sizes = [-(-buffer.numbers // 16) * 16 for buffer in found]
    at_once = max(
        sum(size for size, buffer in zip(sizes, found, strict=True) if buffer.first <= time <= buffer.last)
        for time in range(15)
    )
    assert at_once <= arena(found) <= sum(sizes)


def test_the_largest_is_placed_first_and_of_equal_ones_the_latest():
    """The stem, the depthwise convolution and the projection of MobileNetV2 0.35 at 96, and the part behind them."""
    chain = [Buffer(36_864, 0, 1), Buffer(36_864, 1, 2), Buffer(18_432, 2, 4), Buffer(27_648, 3, 4)]
    assert arena(chain) == 73_728  # the other way round it would be 92,160
    assert arena([Buffer(1, 0, 0)]) == 16
