"""A training that cannot be is refused in a sentence, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import handlens
from handlens.errors import InputError
from handlens.flow.source import one_sentence
from handlens.runtimes import RUNTIMES
from handlens.training.recipe_file import make_recipe


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"model": "googlenet", "image_size": 20}, "googlenet needs at least 32 x 32 pixels, got"),
        ({"model": "mini_xception", "image_size": 8}, "mini_xception needs at least 36 x 36 pixels"),
        ({"model": "lenet5", "image_size": 8}, "lenet5: images of 8 x 8 pixels are too small: at least 12"),
        ({"model": "resnet18", "image_size": 32, "batch_size": 1}, "resnet18 needs at least two images per batch"),
        ({"model": "lenet5", "epochs": 0}, "needs at least 1 epoch"),
        ({"model": "lenet5", "options": {"kernel": 3}}, "lenet5 has no option 'kernel'"),
        ({"model": "lenet5", "mode": "head"}, "there are no published weights for lenet5; use --mode scratch"),
        ({"model": "unet"}, "unet is a model for the task segment, but .* is labeled for classify"),
    ],
)
def test_nothing_is_left_of_it(recipe: dict[str, object], message: str, data: Path, tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=message) as caught:
        handlens.train(data, out=run, recipe=make_recipe({"mode": "scratch"} | recipe))
    assert ".." not in str(caught.value)
    assert not run.exists()


def test_one_image_a_batch_is_enough_for_a_net_without_batch_norm(data: Path, tmp_path: Path):
    recipe = make_recipe({"model": "lenet5", "mode": "scratch", "epochs": 1, "batch_size": 1, "workers": 0})
    assert (handlens.train(data, out=tmp_path / "run", recipe=recipe, golden=False) / "model.json").is_file()


def test_ctrl_c_that_an_exporter_caught_is_still_ctrl_c():
    """torch.onnx catches it as any error, and raises one of its own, in colors."""
    run = SimpleNamespace(folder=Path("run"), model=SimpleNamespace(architecture=SimpleNamespace(name="a")))
    with pytest.raises(KeyboardInterrupt), one_sentence(run, RUNTIMES["onnx"]):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as stop:
            raise RuntimeError("Failed to export the model") from stop
    sentence = r"run cannot be converted to onnx: This is step 1/3$"
    with pytest.raises(InputError, match=sentence), one_sentence(run, RUNTIMES["onnx"]):
        raise RuntimeError("\x1b[96mThis is step 1/3\x1b[0m\nNext steps:")
