"""Heat maps against pytorch-grad-cam, with the same weights and the same layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from handlens.errors import InputError
from handlens.explanation.heat import BY_GRADIENT, heat_by_gradient, occlusion, on_image, score_cam
from handlens.explanation.maps import found_layer, layers_to_explain, map_shapes
from handlens.models import build
from handlens.tasks.pieces import output_of


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """With batch norm statistics of noise: a fresh model gives the same for every image."""
    torch.manual_seed(0)
    made = build("mobilenet_v2", num_classes=6, width=0.35)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what it is shown
            module.reset_running_stats()
    with torch.no_grad():
        made.train()(torch.randn(8, 3, 96, 96))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("method", "theirs", "layer"),
    [
        *[("gradcam", "GradCAM", layer) for layer in ("head", "blocks.12", "blocks.5")],
        *[("gradcam++", "GradCAMPlusPlus", layer) for layer in ("head", "blocks.12", "blocks.5")],
        *[("layercam", "LayerCAM", layer) for layer in ("head", "blocks.12", "blocks.5")],
        ("scorecam", "ScoreCAM", "blocks.5.expand"),
    ],
)
def test_heat_is_that_of_pytorch_grad_cam(method, theirs, layer, net, images):
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net.requires_grad_(True)  # theirs asks for it
    module = dict(net.named_modules())[layer]
    compared = 0
    for index in range(3 if method in BY_GRADIENT else 1):
        with getattr(pytorch_grad_cam, theirs)(model=net, target_layers=[module]) as other:
            expected = other(input_tensor=images, targets=[ClassifierOutputTarget(index)] * 2)
        score = output_of(index)
        if method in BY_GRADIENT:
            heat, _ = heat_by_gradient(net, images, score, layers=[layer], method=method)
        else:
            heat = torch.cat([score_cam(net, image[None], score, layer=layer) for image in images])
        for ours, wanted in zip(on_image(heat, 96, 96).numpy(), expected, strict=True):
            assert (ours.max() > 0) == (wanted.max() > 0)
            if ours.max() > 0:  # else nothing speaks for the class, in both
                compared += 1
                assert np.corrcoef(ours.ravel(), wanted.ravel())[0, 1] > 0.999
    assert compared >= 1


def test_each_method_gives_another_heat(net, images):
    """Else the comparison above could not tell them apart."""
    heats = [
        on_image(heat_by_gradient(net, images, output_of(0), layers=["blocks.5"], method=method)[0], 96, 96)
        for method in BY_GRADIENT
    ]
    for place, one in enumerate(heats):
        assert float(one.max()) == 1
        for other in heats[place + 1 :]:
            assert np.corrcoef(one.ravel().numpy(), other.ravel().numpy())[0, 1] < 0.99


class OneCorner(nn.Module):
    """Its score is the brightness of the corner at the lower right."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.classifier = nn.Linear(1, 1)

    def forward(self, images):
        return self.pool(images)[:, 0, -1, -1:]


def test_occlusion_finds_the_place_that_the_score_depends_on():
    heat = occlusion(OneCorner(), torch.ones(1, 3, 56, 56), lambda raw: raw[:, 0])[0]
    assert heat.shape == (14, 14)
    assert np.unravel_index(int(heat.argmax()), heat.shape) == (13, 13)
    assert float(heat[:10, :10].max()) == 0


def test_the_deepest_map_that_the_score_depends_on_is_taken():
    class TwoScales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)

        def forward(self, images):
            fine = self.fine(images)
            return fine.mean(dim=(2, 3)), self.coarse(fine).mean(dim=(2, 3))

    net = TwoScales().requires_grad_(False)
    image = torch.randn(1, 3, 16, 16)
    layers = layers_to_explain(map_shapes(net, image))
    assert layers == ["coarse", "fine"]
    for place, expected in ((0, "fine"), (1, "coarse")):
        _, layer = heat_by_gradient(
            net, image, lambda raw, place=place: raw[place][:, 0], layers=layers, method="gradcam"
        )
        assert layer == expected
    with pytest.raises(InputError, match="does not depend"):
        heat_by_gradient(net, image, lambda raw: raw[0][:, 0], layers=["coarse"], method="gradcam")


def test_layers_by_name_and_by_stride():
    shapes = map_shapes(build("mobilenet_v2", num_classes=2, width=0.35), torch.zeros(1, 3, 96, 96))
    assert layers_to_explain(shapes)[0] == "head"
    assert found_layer("blocks.3", shapes) == "blocks.3"
    assert found_layer("s32", shapes) == "head"
    assert found_layer("s16", shapes).startswith("blocks.13.expand")
    with pytest.raises(InputError, match="no layer 'block3'"):
        found_layer("block3", shapes)
    with pytest.raises(InputError, match="no maps"):
        layers_to_explain([])


def test_a_heat_of_nothing_stays_nothing():
    assert float(on_image(torch.zeros(1, 3, 3), 9, 9).max()) == 0
