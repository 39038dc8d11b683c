"""A plain encoder-decoder: strided convolutions down, transposed convolutions back up, nothing across.

Source   Chollet 2021, "Deep Learning with Python", 2nd edition, section 9.2 (the Oxford-IIIT Pet example).
Input    images (N, 3, H, W) float32, RGB, in [0, 1]; any size, 200 x 200 in the source.
Output   logits (N, K, H, W), at the input's size.
Size     3 classes: 2,880,643 parameters.
Differs  logits instead of probabilities; sizes that are no multiple of 8 are padded inside and cropped back.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import mean_of_places, pad_same
from handlens.models.segment.sizes import pad_to_multiple

CHANNELS = (64, 128, 256)  # each pair of convolutions down, and the same back


class StridedConv(nn.Module):
    """3 x 3 at stride 2, padded as TensorFlow's SAME: (N, C, 2h, 2w) -> (N, D, h, w)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(pad_same(x, kernel=(3, 3), stride=(2, 2), dilation=(1, 1)))
        return out


class StridedTransposedConv(nn.Module):
    """3 x 3 transposed at stride 2, as TensorFlow's SAME: (N, C, h, w) -> (N, D, 2h, 2w).

    It is the transpose of `StridedConv`, which pads one row below and one column at the right: these are what is cut
    off. PyTorch's padding=1, output_padding=1 cuts at the other side and shifts the image by a pixel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        whole: Tensor = self.conv(x)  # (N, D, 2h + 1, 2w + 1)
        return whole[:, :, :-1, :-1]


class EncoderDecoder(nn.Module):
    """Six convolutions to an eighth of the size, six transposed ones back, and a 3 x 3 classifier.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        if num_classes < 1 or in_channels < 1:
            raise ValueError(f"num_classes and in_channels must be at least 1, got {num_classes} and {in_channels}")
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = in_channels
        for wider in CHANNELS:
            self.encoder += [StridedConv(channels, wider), nn.Conv2d(wider, wider, 3, padding=1)]
            channels = wider
        for narrower in reversed(CHANNELS):
            self.decoder += [
                nn.ConvTranspose2d(channels, narrower, 3, padding=1),
                StridedTransposedConv(narrower, narrower),
            ]
            channels = narrower
        self.classifier = nn.Conv2d(channels, num_classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # Keras's defaults
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = pad_to_multiple(images, 2 ** len(CHANNELS))
        for layer in (*self.encoder, *self.decoder):
            x = F.relu(layer(x))
        logits: Tensor = self.classifier(x)
        return logits[:, :, : images.shape[2], : images.shape[3]]

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, D): the mean of the encoder's last map over its places."""
        x = pad_to_multiple(images, 2 ** len(CHANNELS))
        for layer in self.encoder:
            x = F.relu(layer(x))
        return mean_of_places(x)
