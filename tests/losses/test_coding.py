"""Box coding against torchvision's BoxCoder."""

from __future__ import annotations

import torch
from torchvision.models.detection._utils import BoxCoder

from handlens.losses.coding import decode_boxes, encode_boxes

CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))


def some_boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2)
    return torch.cat([corner, corner + 0.05 + torch.rand(count, 2)], dim=1)


def test_encoding_is_torchvisions():
    boxes, anchors = some_boxes(500), some_boxes(500)
    torch.testing.assert_close(encode_boxes(boxes, anchors), CODER.encode_single(boxes, anchors), rtol=1e-4, atol=1e-4)


def test_decoding_is_torchvisions_and_inverts_encoding():
    anchors, offsets = some_boxes(500), 8 * torch.randn(2, 500, 4)
    offsets[0, 0] = 1e4  # beyond what exp may be given
    ours = decode_boxes(offsets, anchors)
    for image in range(2):
        theirs = CODER.decode_single(offsets[image], anchors)
        torch.testing.assert_close(ours[image], theirs, rtol=1e-4, atol=1e-4)
    boxes = some_boxes(500)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors)[None], anchors)[0], boxes)
