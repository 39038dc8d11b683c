"""The baseline without a convolution: one hidden layer on the pixels.

Source   Chollet 2021, "Deep Learning with Python", 2nd edition, section 2.1, with 128 units.
Input    images (N, C, H, W) float32, gray 28 x 28 unless asked otherwise; one size.
Output   logits (N, K).
Size     28 x 28 gray, 10 classes: 101,770 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from handlens.models.classify.staged import Flattening, check_counts, initialize_as_keras, sides


class Dense(Flattening):
    """Flatten, a hidden layer with ReLU, a linear classifier. It has no maps.

    Raises:
        ValueError: an argument out of range; from forward: images of another size.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 28,
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, hidden=hidden)
        self.image_size = sides(image_size)
        self.maps = {}
        self.hidden = nn.Linear(in_channels * self.image_size[0] * self.image_size[1], hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)
        initialize_as_keras(self)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """{}: nothing here lies in an image."""
        self.check_size(images)
        return {}

    def embed(self, images: Tensor) -> Tensor:
        """images (N, C, H, W) -> (N, hidden)."""
        self.check_size(images)
        return self.hidden(images.flatten(1)).relu()
