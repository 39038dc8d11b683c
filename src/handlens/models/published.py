"""What the authors of nets print about them, to stand beside our own counts.

width -> {side of the picture: (multiply-adds in millions, ImageNet top-1 in percent)}

Source: the READMEs of the authors' code, tensorflow/models research/slim/nets/mobilenet and mobilenet_v1.md. The paper
of MobileNetV2 prints 585 M and 74.7 % for width 1.4, from an architecture that its own table does not give. For V1 at
width 0.75 the README has 317 M, the paper (Table 6) 325 M, as the architecture; its 34 M at 0.25 and 192 fit neither.
"""

from __future__ import annotations

Table = dict[float, dict[int, tuple[int, float]]]

PUBLISHED: dict[str, Table] = {
    "mobilenet_v2": {
        1.4: {224: (582, 75.0)},
        1.3: {224: (509, 74.4)},
        1.0: {224: (300, 71.8), 192: (221, 70.7), 160: (154, 68.8), 128: (99, 65.3), 96: (56, 60.3)},
        0.75: {224: (209, 69.8), 192: (153, 68.7), 160: (107, 66.4), 128: (69, 63.2), 96: (39, 58.8)},
        0.5: {224: (97, 65.4), 192: (71, 63.9), 160: (50, 61.0), 128: (32, 57.7), 96: (18, 51.2)},
        0.35: {224: (59, 60.3), 192: (43, 58.2), 160: (30, 55.7), 128: (20, 50.8), 96: (11, 45.5)},
    },
    "mobilenet_v1": {
        1.0: {224: (569, 70.9), 192: (418, 70.0), 160: (291, 68.0), 128: (186, 65.2)},
        0.75: {224: (317, 68.4), 192: (233, 67.2), 160: (162, 65.3), 128: (104, 62.1)},
        0.5: {224: (150, 63.3), 192: (110, 61.7), 160: (77, 59.1), 128: (49, 56.3)},
        0.25: {224: (41, 49.8), 192: (34, 47.7), 160: (21, 45.5), 128: (14, 41.5)},
    },
}
