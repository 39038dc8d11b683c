"""Parts of one's own from Python: what a run says of them, where it works without them, and what is refused early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import handlens
import own_parts
from blobs import write_images
from handlens.errors import InputError
from handlens.files import read_json
from handlens.training.parts import name_of

SMALL: dict[str, Any] = {"image_size": 32, "epochs": 1, "batch_size": 4, "workers": 0, "precision": "fp32"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen to train and validate on, six to test on."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "train", per_class=4, seed=0)
    write_images(folder / "test", per_class=2, seed=1)
    return folder


def one(images: Path) -> Path:
    return next((images / "test").rglob("*.jpg"))


def test_names_of_parts():
    assert name_of(own_parts.PlainBlock) == "own_parts:PlainBlock"
    assert name_of(torch.nn.CrossEntropyLoss()) == "torch.nn.modules.loss:CrossEntropyLoss(...)"
    assert "<lambda>" in name_of(lambda images: images)


def test_a_block_of_ones_own_is_trained_and_stands_in_the_run_by_its_name(images, tmp_path, monkeypatch):
    recipe = handlens.Recipe(**SMALL, width=0.35, options={"block": own_parts.PlainBlock})
    run = handlens.train(images, out=tmp_path / "run", recipe=recipe, golden=False)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["options"] == {"block": "own_parts:PlainBlock"}
    assert read_json(run / "model.json")["architecture"]["arguments"]["block"] == "own_parts:PlainBlock"
    assert read_json(run / "model.json")["recipe"]["mode"] == "scratch"  # published weights know nothing of the block
    assert handlens.export(run, to="openvino")[1].passed
    (run / "model.json").unlink()  # as if it had been killed
    handlens.train(resume=run, golden=False)
    monkeypatch.delattr(own_parts, "PlainBlock")
    assert np.isclose(handlens.load(run)(one(images)).probabilities.sum(), 1, atol=1e-3)
    with pytest.raises(InputError, match="own_parts:PlainBlock cannot be imported"):
        handlens.export(run, to="openvino")


def test_a_head_on_a_block_of_ones_own_knows_when_its_code_changed(images, tmp_path, weights):
    """Features are cached by what is computed: the names and values of the weights may stay the same."""
    from handlens.preprocess import Preprocess
    from handlens.tasks.heads import _backbone_digest

    class Doubled(own_parts.PlainBlock):
        def forward(self, images):
            return 2 * super().forward(images)

    preprocess = Preprocess(height=32, width=32)
    digests = set()
    for block in (own_parts.PlainBlock, own_parts.PlainBlock, Doubled):
        torch.manual_seed(0)
        net = handlens.build("mobilenet_v2", num_classes=3, width=0.35, block=block)
        digests.add(_backbone_digest(net, preprocess, own=True))
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"options": {"block": 3}}, "mobilenet_v2"),
        ({"options": {"blok": own_parts.PlainBlock}}, "no option 'blok'; the closest match is 'block'"),
        ({"options": {"block": "own_parts:Missing"}}, "own_parts:Missing cannot be imported"),
        ({"options": {"block": "no_such_package:Block"}}, "No module named 'no_such_package'"),
        ({"options": {"width": 0}}, "width"),
        ({"model": "resnet18", "mode": "finetune", "weights": "nowhere.pth"}, "nowhere.pth is neither a weights file"),
    ],
)
def test_what_is_refused_leaves_no_folder(asked, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        handlens.train(images, out=tmp_path / "run", recipe=SMALL | {"mode": "scratch"} | asked)
    assert not (tmp_path / "run").exists()
