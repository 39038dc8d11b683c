"""Parts of one's own from Python: what a run says of them, where it works without them, and what is refused early."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, StochasticWeightAveraging
from torchvision import tv_tensors

import handlens
import own_parts
from blobs import write_images
from handlens.data.own_transform import OwnTransform
from handlens.errors import InputError
from handlens.files import write_json
from handlens.reading.parsed import read_json
from handlens.training.parts import name_of
from handlens.training.run import read_metrics

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
    from handlens.tasks.heads import backbone_digest

    class Doubled(own_parts.PlainBlock):
        def forward(self, images):
            return 2 * super().forward(images)

    preprocess = Preprocess(height=32, width=32)

    class Scaled(own_parts.PlainBlock):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.factor = torch.tensor(0.5)  # no parameter and no buffer

        def forward(self, images):
            return self.factor * super().forward(images)

    digests = set()
    for block in (own_parts.PlainBlock, own_parts.PlainBlock, Doubled, Scaled):
        torch.manual_seed(0)
        net = handlens.build("mobilenet_v2", num_classes=3, width=0.35, block=block)
        digests.add(backbone_digest(net, preprocess, own=True))
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"options": {"block": 3}}, "mobilenet_v2"),
        ({"options": {"blok": own_parts.PlainBlock}}, "no option 'blok'; the closest match is 'block'"),
        ({"options": {"block": "own_parts:Missing"}}, "own_parts:Missing cannot be imported"),
        ({"options": {"block": "no_such_package:Block"}}, "No module named 'no_such_package'"),
        ({"options": {"width": 0}}, "width"),
        ({"options": {"block": "subprocess:run"}}, "subprocess:run is a part of Python itself"),
        ({"model": own_parts.TinyNet, "options": {"width": 3}}, "TinyNet cannot be built with .*width"),
        ({"model": own_parts.TinyNet, "mode": "head"}, "mode head needs a model of the catalogue"),
        ({"model": own_parts.Branching}, "must not branch on the values of the images"),
        ({"model": own_parts.Unconvertible}, "cannot be converted to OpenVINO, which predict runs"),
        ({"model": "torch.hub:load"}, "torch.hub:load has no argument num_classes"),
        ({"loss": own_parts.smoothed, "mode": "head", "model": "mobilenet_v2"}, "have no use in mode head"),
        ({"transform": own_parts.mirrored, "augmented_copies": 2}, "augmented_copies are made by"),
        ({"loss": torch.nn.Linear(1, 1)}, r"Linear\(...\) has parameters to learn"),
        ({"callbacks": ["own_parts:Gone"]}, "the run has the callbacks own_parts:Gone, and none were passed"),
        ({"model": own_parts.TinySegmenter}, r"no model for the task classify: it gives shape \(2, 3, 32, 32\)"),
        ({"model": own_parts.TinyNet(num_classes=5)}, r"it gives shape \(2, 5\) .* expected: \(2, 3\)"),
        ({"model": own_parts.classless}, "gives a dict; a constructor of a model gives a torch.nn.Module"),
        ({"model": own_parts.anything}, "own_parts:anything has no argument num_classes"),
        ({"model": torch.nn.Linear(2, 2)}, r"Linear\(...\) failed on two images of 32 x 32 pixels"),
        ({"model": 3}, "model = 3 is not accepted"),
        ({"model": "own_parts:Missing"}, "own_parts:Missing cannot be imported"),
        ({"loss": lambda logits, targets: logits}, r"must give one number .* got shape \(2, 3\)"),
        ({"loss": lambda logits: logits.sum()}, "failed on two training images: TypeError"),
        ({"loss": "focal"}, "a function, or its name as package.module:Name"),
        ({"transform": own_parts.as_floats}, "the transform gave torch.float32"),
        ({"transform": "own_parts:nothing"}, "own_parts:nothing cannot be imported"),
        ({"model": "resnet18", "mode": "finetune", "weights": "nowhere.pth"}, "nowhere.pth is neither a weights file"),
    ],
)
def test_what_is_refused_leaves_no_folder(asked, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        handlens.train(images, out=tmp_path / "run", recipe=SMALL | {"mode": "scratch"} | asked)
    assert not (tmp_path / "run").exists()


def test_a_model_loss_and_transform_of_ones_own_by_their_names(images, tmp_path):
    """As a recipe file has them: everything works again without passing them."""
    recipe = SMALL | {
        "model": "own_parts:TinyNet",
        "options": {"channels": 6},
        "loss": "own_parts:smoothed",
        "transform": "own_parts:mirrored",
        "epochs": 2,
    }
    run = handlens.train(images, out=tmp_path / "run", recipe=recipe)
    architecture = read_json(run / "model.json")["architecture"]
    assert architecture == {"name": "own_parts:TinyNet", "arguments": {"num_classes": 3, "channels": 6}}
    kept = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (kept["model"], kept["loss"], kept["mode"]) == ("own_parts:TinyNet", "own_parts:smoothed", "scratch")
    assert handlens.export(run, to="openvino")[1].passed
    assert handlens.evaluate(run)["images"] == 6
    net, preprocess = handlens.load_model(run)
    assert isinstance(net, own_parts.TinyNet) and (preprocess.height, preprocess.width) == (32, 32)
    again = handlens.train(images, out=tmp_path / "again", recipe=recipe)
    assert (run / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_a_module_is_fine_tuned_as_it_is_and_passed_again_to_resume_and_export(images, tmp_path):
    net = own_parts.TinyNet(num_classes=3)
    norm = net.features[1]
    before = net.classifier.weight.detach().clone()
    seen: list[float] = []

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, module):
            seen.append(float(trainer.callback_metrics["validation_top1"]))
            if len(seen) == 1:
                raise RuntimeError("as if it had been killed")

        def state_dict(self):
            return {"seen": list(seen)}

        def load_state_dict(self, state):
            assert len(state["seen"]) <= len(seen)

    recipe = SMALL | {"model": net, "epochs": 3, "checkpoint_seconds": 0.001}
    with pytest.raises(RuntimeError, match="killed"):
        handlens.train(images, out=tmp_path / "run", recipe=recipe, callbacks=[Stop()])
    assert yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["mode"] == "finetune"
    with pytest.raises(InputError, match=r"own_parts:TinyNet\(...\) cannot be imported"):
        handlens.train(resume=tmp_path / "run")
    run = handlens.train(resume=tmp_path / "run", recipe={"model": net}, callbacks=[Stop()])
    assert len(seen) == 4 and not torch.equal(before, net.classifier.weight.cpu())
    assert norm.train().training and net(torch.zeros(2, 3, 32, 32)) is not None and norm.training  # frozen no longer
    with pytest.raises(InputError, match="pass it again as model="):
        handlens.export(run, to="openvino")
    assert handlens.export(run, to="openvino", model=own_parts.TinyNet(num_classes=3))[1].passed
    with pytest.raises(InputError, match=r"callbacks must be of lightning.pytorch.Callback, got int"):
        handlens.train(images, out=tmp_path / "refused", recipe=recipe, callbacks=[3])


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("segment", {"model": own_parts.TinySegmenter, "loss": own_parts.pixels, "transform": own_parts.mirrored}),
        ("regress", {"model": own_parts.TinyNet, "loss": own_parts.squares, "transform": own_parts.mirrored}),
        ("tag", {"model": own_parts.TinyNet, "loss": own_parts.squares}),
    ],
)
def test_other_tasks_take_ones_own_parts_too(task, parts, tmp_path):
    data = handlens.sample("bakery", tmp_path / "data", task=task, per_class=2, test_per_class=1, size=48)
    run = handlens.train(data, out=tmp_path / "run", recipe=SMALL | parts, golden=False)
    assert handlens.export(run, to="openvino", images=4)[1].passed
    assert handlens.evaluate(run)["images"] > 0


def test_draws_of_ones_own_transform_depend_on_the_image_alone(images):
    from handlens.data.augment import seeded

    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    transform = OwnTransform(own_parts.noisy, handlens.Preprocess(height=32, width=32)).image
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    after = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    first, again, other = (seeded(transform, image, key=("image", number)) for number in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert after == (torch.rand(1), np.random.rand(), random.random())  # no trace is left


@pytest.mark.parametrize("model", [own_parts.TinyNet, "resnet18", "lenet5"])
def test_the_recipe_says_how_the_input_of_ones_own_weights_is_normalized(model, images, tmp_path):
    recipe = SMALL | {"model": model, "mode": "scratch", "normalization": "half"}
    preprocess = handlens.load_model(handlens.train(images, out=tmp_path / "run", recipe=recipe, golden=False))[1]
    channels = preprocess.channels
    assert (preprocess.mean, preprocess.std) == ((0.5,) * channels, (0.5,) * channels)


def test_a_detectors_boxes_move_with_ones_own_transform():
    preprocess = handlens.Preprocess(height=40, width=80, resize="stretch")
    image = torch.zeros(3, 20, 40, dtype=torch.uint8)
    image[:, 5:10, 0:10] = 255
    boxes = tv_tensors.BoundingBoxes([[0, 5, 10, 10], [5, 5, 5, 8]], format="XYXY", canvas_size=(20, 40))
    moved, placed, labels = OwnTransform(own_parts.mirrored, preprocess).boxed(image, boxes, torch.tensor([2, 1]))
    assert moved.shape == (3, 40, 80) and placed.tolist() == [[60, 10, 80, 20]] and labels.tolist() == [2]
    assert moved[0, 10:20, 60:80].float().mean() > 200 and moved[0, :, :50].max() == 0


def test_a_detector_learns_with_ones_own_loss(tmp_path):
    data = handlens.sample("bakery", tmp_path / "data", task="detect", per_class=2, test_per_class=1, size=96)
    lengths: list[int] = []

    def loss(raw, targets):
        lengths.append(len(targets))
        return raw.logits.float().square().mean()

    recipe = SMALL | {"image_size": 96, "mode": "scratch", "loss": loss, "model": "ssdlite", "width": 0.35}
    run = handlens.train(data, out=tmp_path / "run", recipe=recipe, golden=False)
    assert set(lengths) <= {1, 2, 3, 4, 5} and (run / "model.json").is_file()


NOTEBOOK = """
import handlens
run = handlens.train({data!r}, out={out!r}, recipe={recipe!r}, golden=False)
"""


@pytest.mark.slow
def test_a_notebook_shows_messages_and_progress(images, tmp_path):
    """A real kernel; what a front end would draw stands in the outputs of the cell."""
    import nbformat
    from nbclient import NotebookClient

    code = NOTEBOOK.format(data=str(images), out=str(tmp_path / "run"), recipe=SMALL | {"model": "residual_convnet"})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    shown: list[str] = []

    class Watched(NotebookClient):
        def process_message(self, message, cell, index):
            if message["header"]["msg_type"] in ("display_data", "update_display_data"):
                shown.append(message["content"]["data"]["text/plain"])
            return super().process_message(message, cell, index)

    Watched(book, timeout=300, kernel_name="python3").execute()
    streams = [out for out in book.cells[0].outputs if out["output_type"] == "stream"]
    printed = "".join(out["text"] for out in streams if out["name"] == "stdout")
    assert "training images" in printed and "Epoch 1: " in printed
    assert not [out["text"] for out in streams if out["name"] == "stderr"]
    assert any(" of " in text for text in shown) and shown[-1] == ""


def test_layers_that_share_weights_and_a_module_as_loss(images, tmp_path):
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0]))
    run = handlens.train(images, out=tmp_path / "run", recipe=SMALL | {"model": own_parts.Tied, "loss": loss})
    assert yaml.safe_load((run / "recipe.yaml").read_text())["loss"] == "torch.nn.modules.loss:CrossEntropyLoss(...)"
    assert handlens.export(run, to="openvino")[1].passed


def test_a_run_whose_model_has_changed_or_is_none_is_said(images, tmp_path, monkeypatch):
    run = handlens.train(images, out=tmp_path / "run", recipe=SMALL | {"model": own_parts.TinyNet})
    monkeypatch.setattr(own_parts, "TinyNet", own_parts.Tied)
    with pytest.raises(InputError, match="the weights of run do not fit own_parts:TinyNet as it is now"):
        handlens.load_model(run)
    info = read_json(run / "model.json")
    write_json(run / "model.json", info | {"architecture": {"name": "torch.hub:load", "arguments": {"model": "x"}}})
    with pytest.raises(InputError, match=r"torch\.hub:load has no argument num_classes"):
        handlens.load_model(run)


def test_callbacks_of_lightning_run_beside_ours(images, tmp_path):
    recipe = SMALL | {"model": own_parts.TinyNet, "epochs": 9, "learning_rate": 1e-9}
    callbacks = [EarlyStopping("validation_loss", min_delta=1.0, patience=1), ModelCheckpoint(save_last=True)]
    run = handlens.train(images, out=tmp_path / "run", recipe=recipe, callbacks=callbacks)
    assert [row["epoch"] for row in read_metrics(run)] == ["1", "2"]  # and not nine
    assert (run / "callbacks/checkpoints/last.ckpt").is_file()
    kept = yaml.safe_load((run / "recipe.yaml").read_text())["callbacks"]
    assert [name.rpartition(":")[2] for name in kept] == ["EarlyStopping(...)", "ModelCheckpoint(...)"]
    (run / "model.json").unlink()  # as if it had been killed after the last epoch
    with pytest.raises(InputError, match=r"EarlyStopping\(...\), .* and none were passed; pass the same again"):
        handlens.train(resume=run)
    again = [EarlyStopping("validation_loss", min_delta=1.0, patience=1), ModelCheckpoint(save_last=True)]
    handlens.train(resume=run, callbacks=again)
    assert len(read_metrics(run)) == 2  # stopped is stopped
    assert again[0].stopped_epoch == callbacks[0].stopped_epoch == 1


class Unsavable(Callback):
    def state_dict(self):
        return {"where": Path()}


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (LearningRateMonitor(), "LearningRateMonitor needs a logger"),
        (StochasticWeightAveraging(0.1), "StochasticWeightAveraging changes steps or weights behind the recipe"),
        (Unsavable(), "the state of Unsavable cannot be"),
        (EarlyStopping("validation_loss"), "two callbacks save their state as EarlyStopping.*; give one other"),
    ],
)
def test_callbacks_that_cannot_work_are_refused_before_there_is_a_folder(callback, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        handlens.train(images, out=tmp_path / "run", recipe=SMALL, callbacks=[callback, callback])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_loss_of_ones_own_means_epochs_and_is_not_compared_with_the_heads(images, tmp_path, weights):
    run = handlens.train(images, out=tmp_path / "run", recipe=SMALL | {"loss": own_parts.smoothed, "epochs": 1})
    assert read_json(run / "model.json")["recipe"]["mode"] == "finetune"  # and not head, which has no use for it
    first, second = read_metrics(run)
    assert first["validation_loss"] == "" and float(second["validation_loss"]) > 0
