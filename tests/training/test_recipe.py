"""A recipe says what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from handlens.errors import InputError
from handlens.training.recipe import Recipe
from handlens.training.recipe_file import make_recipe, read_recipe


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learing_rate": 0.1}, "learning_rate"),
        ({"augment": {"mixxup": 0.1}}, "mixup"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"epochs": 2.5}, "epochs = 2.5"),
        ({"epochs": "3"}, "epochs = '3'"),
        ({"mode": "magic"}, "mode = 'magic'"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_a_wrong_recipe_names_the_key_and_the_value(values, said):
    with pytest.raises(InputError) as caught:
        make_recipe(values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_and_flags_flags_win(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 7\nlearning_rate: 1\nbatch_size: 4\n")
    recipe = read_recipe(path, epochs=2, seed=None)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.seed) == (2, 4, 1.0, 0)


def test_a_mode_changes_only_what_was_not_asked_for():
    asked = make_recipe({"epochs": 7, "learning_rate": 2e-4})  # the second is the default, and yet asked for
    scratch = asked.settled("scratch")
    assert (scratch.mode, scratch.epochs, scratch.learning_rate) == ("scratch", 7, 2e-4)
    assert (scratch.layer_decay, scratch.freeze_batch_norm) == (1.0, False)
    finetune = asked.settled("finetune")
    assert (finetune.layer_decay, finetune.freeze_batch_norm) == (0.9, True)
    assert make_recipe(scratch.model_dump()).settled("scratch") == scratch


def test_what_is_written_is_read_back(tmp_path):
    recipe = make_recipe({"epochs": 5, "augment": {"mixup": 0.2}, "width": 0.35})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert read_recipe(path) == recipe
    assert recipe != Recipe()


def test_an_empty_file_is_all_defaults_and_yaml_numbers_that_are_text_are_explained(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("# nothing yet\n")
    assert read_recipe(path) == Recipe()
    path.write_text("learning_rate: 1e-3\n")
    with pytest.raises(InputError, match=r"write 1\.0e-3"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "no key 'epoch'; the closest match is 'epochs'"),
        ({"augment": {"rotat": 10.0}}, "augment has no key 'rotat'; the closest match is 'rotate'"),
        ({"mixup": 0.2}, "no key 'mixup'; it belongs under augment"),
        ({"lr": 0.1}, "no key 'lr'; available: model, width"),
    ],
)
def test_a_key_that_does_not_exist_is_answered_with_the_nearest(values, message):
    with pytest.raises(InputError, match=message):
        make_recipe(values)


@pytest.mark.parametrize("text", ["a: [", "just words", "- 1\n- 2\n"])
def test_what_is_no_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="recipe"):
        read_recipe(path)
    with pytest.raises(InputError, match=r"recipe .*missing\.yaml is missing"):
        read_recipe(tmp_path / "missing.yaml")


def test_finding_parts_asks_for_nothing():
    """What was not asked for takes the task's default: the model of a segmenter is not that of a classifier."""
    recipe = make_recipe({"epochs": 2}).with_parts()
    assert recipe.model_fields_set == {"epochs"}
    assert recipe.settled("finetune", {"model": "deeplab_v3"}).model == "deeplab_v3"


def test_a_file_cannot_name_what_a_package_has_imported():
    with pytest.raises(InputError, match="f2py is a module"):
        make_recipe({"loss": "numpy:f2py.os.system"}).with_parts()


def test_parts_are_passed_by_their_keys_and_other_texts_stay_what_they_are():
    """Two lambdas have one name; a path and a device have a colon."""
    passed = make_recipe({"loss": lambda outputs, targets: 0, "transform": lambda image: image})
    again = make_recipe(passed.stated()).with_parts(passed)
    assert again.loss is passed.loss and again.transform is passed.transform
    options = {"cache": "C:/a", "device": "cuda:0", "text": "a: b"}
    assert make_recipe({"options": options}).with_parts().options == options


def test_what_a_file_cannot_hold_is_one_sentence():
    with pytest.raises(InputError, match="a class or a function stands by itself, not in a list"):
        make_recipe({"options": {"activations": [print, len]}})
    with pytest.raises(InputError, match="options of the recipe must be numbers"):
        make_recipe({"options": {"depth": object()}}).to_yaml()


@dataclass
class Scaled:
    factor: float = 2.0

    def __call__(self, outputs, targets):
        return self.factor


def test_a_dataclass_that_can_be_called_is_a_part():
    recipe = make_recipe({"loss": Scaled()})
    assert recipe.asked()["loss"] == Scaled() and recipe.stated()["loss"].endswith(":Scaled(...)")
