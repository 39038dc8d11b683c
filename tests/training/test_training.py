"""Whole trainings from Python, on a small data set: what the modes and the fields of the recipe do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import handlens
from blobs import CLASSES, write_images
from handlens.data import check
from handlens.data.decode import decode
from handlens.errors import FindingsError, InputError
from handlens.flow.runs import build_from, find_run
from handlens.preprocess import SCALINGS
from handlens.reading.files import sha256_of
from handlens.reading.parsed import read_json
from handlens.reporter import Reporter
from handlens.tasks import TASKS
from handlens.training.recipe import FROM_SCRATCH
from handlens.training.recipe_file import make_recipe, read_recipe
from handlens.training.run import open_run, read_metrics

SMALL: dict[str, Any] = {"image_size": 64, "batch_size": 8, "workers": 0}
SCRATCH = SMALL | {"mode": "scratch", "width": 0.35, "epochs": 6}


def train(data: Path, out: Path, said: list[str] | None = None, **recipe: Any) -> Path:
    report = Reporter(say=(said if said is not None else []).append)
    return handlens.train(data, out=out, recipe=make_recipe(SMALL | recipe), golden=False, report=report)


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and nothing may be fetched or taken from an installed package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty cache"))
    monkeypatch.setenv("HANDLENS_OFFLINE", "1")


def test_without_weights_auto_trains_from_scratch_and_says_so(data, no_weights, tmp_path):
    said: list[str] = []
    run = train(data, tmp_path / "run", said, width=0.35, epochs=1)
    assert any(text.startswith("Mode scratch: no pretrained weights") for text in said)
    kept = read_recipe(run / "recipe.yaml")
    assert kept.mode == "scratch"
    assert kept.learning_rate == FROM_SCRATCH["learning_rate"]
    assert not kept.freeze_batch_norm
    assert kept.epochs == 1


@pytest.mark.slow  # tests/test_learning.py has a quick one
def test_from_scratch_learns_what_can_be_learned(no_weights, tmp_path):
    write_images(tmp_path / "data", per_class=20, seed=0, noise=0.25)
    run = train(tmp_path / "data", tmp_path / "run", **SCRATCH | {"epochs": 16})
    rows = read_metrics(run)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 17))
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert open_run(run).model.validation["top1"] > 0.8


def test_a_last_batch_of_one_image_trains_too(no_weights, tmp_path):
    """Batch norm has no statistics of one value per channel; at 32 pixels the last map is 1 x 1."""
    write_images(tmp_path / "data" / "train", per_class=3, seed=0)  # 9 images, batches of 8
    write_images(tmp_path / "data" / "val", per_class=1, seed=1)
    run = train(tmp_path / "data", tmp_path / "run", **SCRATCH | {"image_size": 32, "epochs": 1})
    assert torch.isfinite(torch.tensor(float(read_metrics(run)[0]["train_loss"])))


@pytest.mark.slow
def test_early_stopping_restores_the_best_weights(data, weights, tmp_path):
    """A rate that destroys the net: no epoch is better than the head alone, which is epoch 0."""
    said: list[str] = []
    run = train(data, tmp_path / "run", said, mode="finetune", epochs=5, patience=2, learning_rate=0.5)
    assert "Stopped: no epoch since 0 was better, which is patience: 2; the weights of epoch 0 are kept." in said
    assert [int(row["epoch"]) for row in read_metrics(run)] == [0, 1, 2]
    best, start = load_file(run / "model.safetensors"), load_file(run / "checkpoints/start.safetensors")
    temperature = open_run(run).model.temperature  # which the last layer was divided by since
    for name, value in best.items():
        assert torch.equal(value, start[name] / temperature if name.startswith("classifier.") else start[name]), name
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(last["net.classifier.weight"], start["classifier.weight"])

    before, rows = sha256_of(run / "model.safetensors"), read_metrics(run)
    (run / "model.json").unlink()  # as if it had been killed after the last save
    handlens.train(resume=run, golden=False)
    assert read_metrics(run) == rows  # patience was at its end, and still is
    assert sha256_of(run / "model.safetensors") == before


def test_where_there_is_no_test_split_a_head_does_not_learn_from_what_it_is_evaluated_on(weights, tmp_path):
    heads = []
    for name in ("as it is", "other labels"):
        data = tmp_path / name
        write_images(data / "train", per_class=6, seed=0)
        write_images(data / "val", per_class=2, seed=1)
        if name == "other labels":
            first, last = (data / "val" / label for label in sorted(CLASSES)[:2])
            first.rename(data / "other")
            last.rename(first)
            (data / "other").rename(last)
        run = train(data, tmp_path / f"{name} run", mode="head")
        heads.append(load_file(run / "model.safetensors")["classifier.weight"])
        result = handlens.evaluate(run)
        assert (result["split"], result["images"]) == ("validation", 2 * len(CLASSES))
    assert torch.equal(*heads)


def test_a_head_says_what_it_has_no_use_for(data, weights, tmp_path):
    said: list[str] = []
    train(data, tmp_path / "run", said, mode="head", epochs=9)
    assert "Not used in mode head: batch_size, epochs; use --mode finetune." in said


def test_a_head_that_was_interrupted_is_resumed(data, weights, tmp_path, monkeypatch):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr("handlens.flow.job.fit_frozen_head", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "run", said, mode="head")
    assert said[-1].endswith(f"Continue with: handlens train --resume {tmp_path / 'run'}")
    with pytest.raises(InputError, match="contains an unfinished run"):
        train(data, tmp_path / "run", mode="head")
    assert open_run(handlens.train(resume=tmp_path / "run", golden=False)).class_names


def test_a_folder_that_another_training_took_meanwhile_is_left_alone(data, weights, tmp_path, monkeypatch):
    audit = check.audit

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "model.json").write_text("somebody else's")
        return audit(*arguments, **options)

    monkeypatch.setattr(check, "audit", meanwhile)
    with pytest.raises(InputError, match="not empty"):
        train(data, tmp_path / "run", mode="head")
    assert (tmp_path / "run" / "model.json").read_text() == "somebody else's"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "model.json"]


def test_a_misspelt_net_is_answered_with_the_nearest_and_leaves_no_folder(data, tmp_path):
    with pytest.raises(InputError, match=r"unknown model 'mobilnet_v2'; the closest match is 'mobilenet_v2'"):
        train(data, tmp_path / "run", model="mobilnet_v2")
    assert not (tmp_path / "run").exists()


def test_an_augmented_copy_depends_on_the_content_and_not_on_the_files_name(data, tmp_path):
    from handlens.preprocess import Preprocess
    from handlens.tasks.heads import _augmented_loader

    one = next((data / "train" / "c").iterdir())
    copy, other = tmp_path / "copy.jpg", sorted((data / "train" / "c").iterdir())[1]
    shutil.copyfile(one, copy)
    contents = {path: sha256_of(path) for path in (one, copy, other)}
    preprocess = Preprocess(height=64, width=64, short_side=64)
    load = _augmented_loader(make_recipe(SMALL), preprocess, 1, contents)
    np.testing.assert_array_equal(load(one, preprocess)[0], load(copy, preprocess)[0])
    assert not np.array_equal(load(one, preprocess)[0], load(other, preprocess)[0])


@pytest.mark.slow
def test_augmented_copies_weights_of_classes_and_smoothing_change_the_head(data, weights, tmp_path):
    heads = {
        name: load_file(train(data, tmp_path / name, mode="head", **changed) / "model.safetensors")
        for name, changed in {
            "plain": {},
            "copies": {"augmented_copies": 2},
            "smooth": {"label_smoothing": 0.2},
        }.items()
    }
    for name in ("copies", "smooth"):
        assert not torch.equal(heads[name]["classifier.weight"], heads["plain"]["classifier.weight"])
        assert torch.equal(heads[name]["stem.conv.weight"], heads["plain"]["stem.conv.weight"])
    sizes = {name: float(head["classifier.weight"].norm()) for name, head in heads.items()}
    assert sizes["smooth"] < sizes["plain"]  # smoothed targets need no sure answers


@pytest.mark.slow
def test_balanced_classes_are_answered_more_evenly(weights, tmp_path):
    write_images(tmp_path / "data", per_class=24, seed=5)
    rare = sorted((tmp_path / "data" / "c").iterdir())
    for path in rare[5:]:
        path.unlink()
    losses = {}
    for kind in ("none", "balanced"):
        run = train(tmp_path / "data", tmp_path / kind, mode="head", class_weights=kind)
        model = open_run(run).model
        net = build_from(open_run(run))
        pixels = torch.from_numpy(np.stack([open_run(run).preprocess.pixels(decode(path)) for path in rare[:5]]))
        from handlens.runtimes.graph import DeployGraph

        with torch.inference_mode():
            answers = DeployGraph(net, open_run(run).preprocess, last_step=TASKS["classify"].last_step)(pixels)
        losses[kind] = -float(answers[:, model.class_names.index("c")].log().mean())
    assert losses["balanced"] < losses["none"]


def test_strict_stops_on_what_is_only_a_warning(data, weights, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    photograph = next((copy / "train" / "c").iterdir())
    shutil.copyfile(photograph, copy / "test" / "c" / "the same.jpg")
    recipe = make_recipe(SMALL | {"mode": "head"})
    with pytest.raises(FindingsError, match="more than one split"):
        handlens.train(copy, out=tmp_path / "strict", recipe=recipe, strict=True)
    assert not (tmp_path / "strict" / "model.json").exists()
    run = handlens.train(copy, out=tmp_path / "run", recipe=recipe)
    assert any("more than one split" in finding["message"] for finding in read_json(run / "data.json")["findings"])


@pytest.mark.slow
def test_weights_of_ones_own(data, weights, tmp_path):
    first = train(data, tmp_path / "first", mode="head")
    again = train(data, tmp_path / "again", mode="head", weights=str(first / "model.safetensors"))
    assert open_run(again).model.validation["top1"] == open_run(first).model.validation["top1"]
    with pytest.raises(InputError, match="do not fit the model; nothing was loaded"):
        train(
            data, tmp_path / "other", mode="head", model="efficientnet_lite0", weights=str(first / "model.safetensors")
        )
    assert not (tmp_path / "other" / "model.json").exists()


def test_a_run_is_written_by_one_process_at_a_time(data, weights, tmp_path):
    from handlens.training.run import locked

    with locked(tmp_path / "run"), pytest.raises(InputError, match="another"):
        train(data, tmp_path / "run", mode="head")


def test_batch_norm_statistics_are_the_true_average_of_the_epoch_that_is_kept(data, tmp_path, monkeypatch):
    """The mean of every batch is recorded where the first norm sees it."""
    from handlens.training import norms

    means: list[torch.Tensor] = []
    kept: list[torch.nn.BatchNorm2d] = []

    def watched(callback, trainer, module):
        on_train_start(callback, trainer, module)
        norm = next(part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d))
        norm.register_forward_pre_hook(
            lambda norm, inputs: means.append(inputs[0].detach().mean(dim=(0, 2, 3))) if norm.training else None
        )
        kept.append(norm)

    on_train_start = norms.EpochStatistics.on_train_start
    monkeypatch.setattr(norms.EpochStatistics, "on_train_start", watched)
    train(data, tmp_path / "run", mode="scratch", width=0.35, epochs=2, precision="fp32")
    rows = read_metrics(tmp_path / "run")
    steps = int(rows[-1]["step"]) // 2
    assert 2 < steps < 10  # below ten batches a norm's own share, a tenth, does not yet count
    assert len(means) == 2 * steps
    best = max(
        (0, 1), key=lambda epoch: (float(rows[epoch]["validation_top1"]), -float(rows[epoch]["validation_loss"]))
    )
    seen = torch.stack(means[best * steps : (best + 1) * steps])
    torch.testing.assert_close(kept[0].running_mean, seen.mean(dim=0))
    assert kept[0].momentum == 0.1


@pytest.mark.slow
def test_finetuning_with_loader_processes_is_the_same_as_without(data, weights, tmp_path):
    """With `--start-method spawn` this is how Windows and macOS load."""
    runs = [train(data, tmp_path / str(n), mode="finetune", epochs=2, workers=n, width=1.0) for n in (0, 2)]
    assert sha256_of(runs[0] / "model.safetensors") == sha256_of(runs[1] / "model.safetensors")
    losses = [[row["train_loss"] for row in read_metrics(run)] for run in runs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_a_pretrained_net_is_a_run_and_its_engine_answers_as_pytorch(name, shared_data):
    from handlens.runtimes.graph import DeployGraph

    try:
        run = find_run(name)
    except InputError as error:
        pytest.skip(f"no published weights here: {error}")
    images = sorted((shared_data / "imagenet_val500").rglob("*.jp*g"))[:8]
    predictor = handlens.load(name, precision="fp32")
    graph = DeployGraph(build_from(run), run.preprocess, last_step=TASKS["classify"].last_step)
    for path in images:
        pixels = run.preprocess.pixels(decode(path))
        with torch.inference_mode():
            expected = graph(torch.from_numpy(pixels)[None])[0].numpy()
        np.testing.assert_allclose(predictor(pixels).probabilities, expected, atol=1e-4)


@pytest.mark.slow
def test_another_preprocess_is_really_used(data, weights, tmp_path):
    """Its normalization stands inside the engine: it was silently ignored once."""
    run = train(data, tmp_path / "run", mode="head")
    own = open_run(run).preprocess
    mean, std = SCALINGS["half"]
    asked = {"run's own": None, "the same": own, "wrong": replace(own, mean=mean, std=std)}
    losses = {
        name: handlens.evaluate(run, precision="fp32", preprocess=preprocess)["metrics"]["loss"]
        for name, preprocess in asked.items()
    }
    assert losses["the same"] == pytest.approx(losses["run's own"], abs=1e-6)
    assert abs(losses["wrong"] - losses["run's own"]) > 1e-3


@pytest.mark.slow
def test_a_data_config_from_elsewhere_is_kept_for_evaluation_and_resume(data, weights, tmp_path):
    config = tmp_path / "elsewhere.yaml"
    config.write_text("class_names: {c: 치즈}\n", encoding="utf-8")
    run = handlens.train(
        data, out=tmp_path / "run", recipe=make_recipe(SMALL | {"mode": "head"}), golden=False, config=config
    )
    config.unlink()
    assert "치즈" in open_run(run).class_names
    assert handlens.evaluate(run)["images"] == 15  # with the names it was trained with
    (run / "model.json").unlink()  # as if it had been killed
    handlens.train(resume=run, golden=False)
    assert "치즈" in open_run(run).class_names


def test_class_names_stand_in_the_run_as_they_are_written(data, weights, tmp_path):
    run = train(data, tmp_path / "run", mode="head")
    assert open_run(run).class_names == tuple(sorted(CLASSES))


@pytest.mark.slow
def test_few_steps_take_a_lower_rate_and_an_epoch_that_brings_nothing_is_named(data, weights, tmp_path):
    said: list[str] = []
    run = train(data, tmp_path / "few", said, mode="finetune", epochs=1, width=1.0, image_size=64)
    steps = int(read_metrics(run)[-1]["step"])
    assert read_recipe(run / "recipe.yaml").learning_rate == pytest.approx(2e-4 * (steps / 250) ** 0.5, rel=0.05)
    said.clear()
    run = train(data, tmp_path / "wild", said, mode="finetune", epochs=1, width=1.0, learning_rate=0.5)
    assert read_recipe(run / "recipe.yaml").learning_rate == 0.5
    head, best = (float(row["validation_top1"]) for row in read_metrics(run))
    assert best < head  # else what follows could not be seen
    assert any("No epoch improved on the head alone" in text for text in said)
    assert open_run(run).model.validation["top1"] == head


def test_the_weights_that_training_starts_from_stand_in_its_recipe(data, weights, tmp_path):
    """A resumed run takes the same, and their normalization, whatever is available by then."""
    run = train(data, tmp_path / "run", mode="head")
    assert read_recipe(run / "recipe.yaml").weights == "mobilenet_v2"


@pytest.mark.slow
def test_the_estimate_of_a_resumed_training_counts_what_is_left(data, no_weights, tmp_path):
    said: list[str] = []
    report = Reporter(say=said.append)

    def interrupted(text: str) -> None:
        said.append(text)
        if text.startswith("Epoch 2"):
            raise RuntimeError

    recipe = make_recipe(SCRATCH | {"epochs": 3, "checkpoint_seconds": 0.001})
    with pytest.raises(RuntimeError):
        handlens.train(data, out=tmp_path / "run", recipe=recipe, report=Reporter(say=interrupted))
    assert any("for 3 epochs" in text for text in said)
    said.clear()
    handlens.train(resume=tmp_path / "run", report=report)
    assert any("for 1 further epoch " in text for text in said)
