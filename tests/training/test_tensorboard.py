"""What TensorBoard's own reader finds in the events of a training."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import lightning.pytorch as pl
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import handlens
from handlens.training.saving import load_tensors

RECIPE = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 2, "workers": 0, "batch_size": 8}


class Own(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("sharpness", float(trainer.global_step) / 2)


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0, "histograms": 0})
    found.Reload()
    return found


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("events")
    return {
        kind: handlens.train(
            data, out=folder / kind, recipe=RECIPE | {"tensorboard": kind}, callbacks=[Own()], golden=False
        )
        for kind in ("scalars", "full")
    }


def test_scalars_also_of_the_callers_own(runs):
    found = events(runs["scalars"])
    tags = found.Tags()
    assert {"train/loss", "epoch/validation_top1", "epoch/learning_rate", "user/sharpness"} <= set(tags["scalars"])
    steps = [event.step for event in found.Scalars("train/loss")]
    assert steps == list(range(1, len(steps) + 1))
    assert [event.value for event in found.Scalars("user/sharpness")] == [step / 2 for step in steps]
    assert not tags["histograms"] and not tags["images"] and not tags["graph"]


def test_the_whole_of_it(runs):
    found = events(runs["full"])
    tags = found.Tags()
    assert tags["graph"] and "recipe/text_summary" in tags["tensors"]
    text = found.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    width: 0.35\n" in text
    steps = [event.step for event in found.Scalars("train/loss")]
    for part in ("loading", "forward", "backward", "optimizer"):
        times = found.Scalars(f"seconds/{part}")
        assert [event.step for event in times] == steps and all(0 <= event.value < 60 for event in times)
    for kind in ("weights", "gradients"):
        [first, last] = found.Histograms(f"{kind}/classifier.weight")
        assert last.histogram_value.num == 3 * 1280 and last.step > first.step
    images = found.Images("predictions")
    assert len(images) == 2
    with Image.open(BytesIO(images[-1].encoded_image_string)) as sheet:
        assert sheet.width > 400 and sheet.height > 200


def test_looking_changes_nothing(runs):
    plain, looked_at = (load_tensors(runs[kind] / "model.safetensors") for kind in ("scalars", "full"))
    assert all(value.equal(looked_at[name]) for name, value in plain.items())


@pytest.mark.parametrize("task", ["segment", "detect", "tag", "regress"])
@pytest.mark.slow
def test_predictions_of_every_task(task, tmp_path):
    data = handlens.sample("bakery", tmp_path / "data", task=task, per_class=3, test_per_class=1, size=96)
    recipe = {"mode": "scratch", "epochs": 1, "workers": 0, "batch_size": 4, "tensorboard": "full", "image_size": 96}
    run = handlens.train(data, out=tmp_path / "run", recipe=recipe, golden=False)
    assert len(events(run).Images("predictions")) == 1
