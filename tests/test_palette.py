"""Colors that stay what they are and can be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from handlens.palette import colors


def test_a_class_keeps_its_color_whatever_the_number_of_classes():
    for count in (0, 1, 3, 81):
        assert colors(count).shape == (count, 3)
        assert (colors(count) == colors(500)[:count]).all()
    assert colors(3).dtype == np.uint8
    assert colors(3).tolist() == [[255, 0, 255], [0, 255, 0], [255, 0, 0]]


def test_a_caller_may_change_its_copy():
    colors(4)[:] = 0
    assert colors(4).any()


def test_they_can_be_told_apart_and_black_text_be_read():
    """Distances in CIELAB (CIE 1976), contrast by WCAG 2.1, both by hand; 2.3 is a just noticeable difference."""
    share = colors(81) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert ((luminance + 0.05) / 0.05 >= 4.5).all()
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    root = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.0089))
    lab = np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1)
    distance = np.linalg.norm(lab[:, None] - lab, axis=2) + 1000 * np.eye(len(lab))
    assert distance[:12, :12].min() > 20
    assert distance.min() > 10


def test_a_negative_number_is_named():
    with pytest.raises(ValueError, match="-1"):
        colors(-1)
