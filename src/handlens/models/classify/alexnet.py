"""AlexNet, as one tower (2014) or as the two of 2012.

Source   Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", sections 3.3 to 3.5;
         one tower: Krizhevsky 2014, arXiv:1404.5997.
Input    images (N, 3, H, W) float32, RGB, normalized; any size from 63 x 63.
Output   logits (N, K).
Size     1000 classes: 61,100,840 parameters; two towers: 60,965,224.
Differs  Section 3.5 says 224 x 224, and its 55 x 55 maps need 227 or padding: padding 2. Maps of another size than
         6 x 6 are pooled to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from handlens.models.blocks import initialize
from handlens.models.classify.staged import StagedNet, check_counts

ONE_TOWER = (64, 192, 384, 256, 256)
TWO_TOWERS = (96, 256, 384, 384, 256)
DENSE = 4096  # units of each hidden dense layer
LAST_SIDE = 6  # of the map that the dense layers see

# Position in torchvision's `features` and `classifier` -> our layer.
PUBLISHED_CONVOLUTIONS = {"0": "stem.0", "3": "blocks.0.1", "6": "blocks.1.1", "8": "blocks.2.0", "10": "blocks.3.0"}
PUBLISHED_DENSE = {"1": "hidden1", "4": "hidden2", "6": "classifier"}


class AlexNet(StagedNet):
    """Five convolutions, three of them with max-pooling, and three dense layers.

    Args:
        two_towers: the form of 2012: half of the channels see only half of those before, but in the third convolution;
            responses are normalized over neighboring channels.
        hidden: units of each of the two dense layers before the classifier, 4096 in the paper.

    Raises:
        ValueError: an argument out of range; from forward: images below 63 pixels a side.
    """

    smallest = 63

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.5,
        two_towers: bool = False,
        hidden: int = DENSE,
    ) -> None:
        super().__init__()
        check_counts(num_classes=num_classes, in_channels=in_channels, hidden=hidden)
        first, second, third, fourth, fifth = TWO_TOWERS if two_towers else ONE_TOWER
        groups = 2 if two_towers else 1
        # alpha: PyTorch divides it by the number of channels, the paper does not.

        def normalize() -> list[nn.Module]:
            return [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)] if two_towers else []

        self.stem = nn.Sequential(nn.Conv2d(in_channels, first, 11, stride=4, padding=2), nn.ReLU(), *normalize())
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    nn.MaxPool2d(3, 2), nn.Conv2d(first, second, 5, padding=2, groups=groups), nn.ReLU(), *normalize()
                ),
                nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(second, third, 3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(third, fourth, 3, padding=1, groups=groups), nn.ReLU()),
                nn.Sequential(nn.Conv2d(fourth, fifth, 3, padding=1, groups=groups), nn.ReLU()),
                nn.MaxPool2d(3, 2),
            ]
        )
        self.maps = {
            "stem": (first, 4),
            "block1": (second, 8),
            "block2": (third, 16),
            "block3": (fourth, 16),
            "block4": (fifth, 16),
            "block5": (fifth, 32),
        }
        self.hidden1 = nn.Linear(fifth * LAST_SIDE**2, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)
        initialize(self)
        if two_towers:
            self._initialize_as_in_2012()

    @staticmethod
    def to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Rename a state dict with torchvision's names into ours; None where it has others."""
        if "classifier.6.weight" not in state or "features.0.weight" not in state:
            return None
        if state["features.0.weight"].shape[-1] != 11:  # VGG has the same two
            return None
        renamed = {}
        for key, value in state.items():
            part, position, what = [*key.split("."), "", ""][:3]
            places = {"features": PUBLISHED_CONVOLUTIONS, "classifier": PUBLISHED_DENSE}.get(part, {})
            renamed[f"{places[position]}.{what}" if position in places else key] = value
        return renamed

    def pool(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, LAST_SIDE).flatten(1)
        x = self.hidden1(self.dropout(x)).relu()
        hidden: Tensor = self.hidden2(self.dropout(x)).relu()
        return hidden

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(images))  # dropout stands before the two hidden layers
        return logits

    def _initialize_as_in_2012(self) -> None:
        """Section 5: N(0, 0.01), and biases of 1 where the first ReLUs would otherwise be dead."""
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        layers: list[nn.Conv2d | nn.Linear] = [*convolutions, self.hidden1, self.hidden2, self.classifier]
        for number, layer in enumerate(layers, start=1):
            nn.init.normal_(layer.weight, 0, 0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, float(number in (2, 4, 5, 6, 7)))
