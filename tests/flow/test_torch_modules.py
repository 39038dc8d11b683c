"""Pretrained models and trained runs as torch modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import handlens
from blobs import write_images
from handlens.data.decode import decode
from handlens.errors import InputError


def tensor(preprocess: handlens.Preprocess, path) -> torch.Tensor:
    return torch.from_numpy(preprocess.normalize(preprocess.pixels(decode(path)))).permute(2, 0, 1)[None]


def test_a_run_as_a_torch_module_answers_as_predict_does(tmp_path):
    data = write_images(tmp_path / "images", per_class=5, seed=0)
    recipe = {
        "model": "residual_convnet",
        "image_size": 32,
        "epochs": 1,
        "batch_size": 4,
        "mode": "scratch",
        "workers": 0,
    }
    run = handlens.train(data, out=tmp_path / "run", recipe=recipe)
    net, preprocess = handlens.load_model(run)
    assert isinstance(net, torch.nn.Module) and not net.training
    path = next(data.rglob("*.jpg"))
    with torch.inference_mode():
        ours = net(tensor(preprocess, path)).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(ours, handlens.load(run, precision="fp32")(decode(path)).probabilities, atol=1e-4)


def test_a_pretrained_model_as_a_torch_module(weights, shared_data):
    """What torchvision's weights of this name say of a photograph stands in tests/models/test_mobilenet_v2.py."""
    net, preprocess = handlens.pretrained("mobilenet_v2")
    path = sorted((shared_data / "imagenet_val500").rglob("*.JPEG"))[0]
    with torch.inference_mode():
        label = int(net(tensor(preprocess, path)).argmax())
    assert handlens.load("mobilenet_v2")(path).label == handlens.load("mobilenet_v2").names[label]
    own, _ = handlens.pretrained("mobilenet_v2", num_classes=5)
    assert own.classifier.out_features == 5
    assert torch.equal(own.stem.conv.weight, net.stem.conv.weight)
    with pytest.raises(InputError, match="do not fit"):
        handlens.pretrained("mobilenet_v2", width=0.5)


@pytest.mark.parametrize("name", ["mobilnet_v2", "lenet5", "resnet18:imagenet1k_v9"])
def test_a_model_without_published_weights_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"there are no published weights for '{name}'; "):
        handlens.pretrained(name)
