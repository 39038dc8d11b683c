"""What the authors of nets print about them, to stand beside our own counts.

Source: the READMEs of the authors' code, tensorflow/models research/slim/nets/mobilenet and mobilenet_v1.md. The paper
of MobileNetV2 prints 585 M and 74.7 % for width 1.4, from an architecture that its own table does not give. For V1 at
width 0.75 the README has 317 M, the paper (Table 6) 325 M, as the architecture; its 34 M at 0.25 and 192 fit neither.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """
    Attributes:
        millions: multiply-adds. top1: percent on ImageNet's validation images.
        pixel1_ms: milliseconds for one image on one big core of a Pixel 1; None where they print none.
    """

    millions: int
    top1: float
    pixel1_ms: float | None = None


# By net, width and side of the image.
PUBLISHED: dict[str, dict[float, dict[int, Published]]] = {
    "mobilenet_v2": {
        1.4: {224: Published(582, 75.0, 138.0)},
        1.3: {224: Published(509, 74.4, 123.0)},
        1.0: {
            224: Published(300, 71.8, 73.8),
            192: Published(221, 70.7, 55.1),
            160: Published(154, 68.8, 40.2),
            128: Published(99, 65.3, 27.6),
            96: Published(56, 60.3, 17.6),
        },
        0.75: {
            224: Published(209, 69.8, 55.8),
            192: Published(153, 68.7, 41.6),
            160: Published(107, 66.4, 30.4),
            128: Published(69, 63.2, 21.9),
            96: Published(39, 58.8, 14.2),
        },
        0.5: {
            224: Published(97, 65.4, 28.7),
            192: Published(71, 63.9, 21.1),
            160: Published(50, 61.0, 14.9),
            128: Published(32, 57.7, 9.9),
            96: Published(18, 51.2, 6.4),
        },
        0.35: {
            224: Published(59, 60.3, 19.7),
            192: Published(43, 58.2, 14.6),
            160: Published(30, 55.7, 10.5),
            128: Published(20, 50.8, 6.9),
            96: Published(11, 45.5, 4.5),
        },
    },
    "mobilenet_v1": {
        1.0: {
            224: Published(569, 70.9),
            192: Published(418, 70.0),
            160: Published(291, 68.0),
            128: Published(186, 65.2),
        },
        0.75: {
            224: Published(317, 68.4),
            192: Published(233, 67.2),
            160: Published(162, 65.3),
            128: Published(104, 62.1),
        },
        0.5: {
            224: Published(150, 63.3),
            192: Published(110, 61.7),
            160: Published(77, 59.1),
            128: Published(49, 56.3),
        },
        0.25: {224: Published(41, 49.8), 192: Published(34, 47.7), 160: Published(21, 45.5), 128: Published(14, 41.5)},
    },
}
