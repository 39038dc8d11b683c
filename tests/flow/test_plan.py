"""A budget in, a design out."""

from __future__ import annotations

import json

import pytest

from blobs import write_images
from handlens import train
from handlens.cli import run
from handlens.errors import InputError
from handlens.flow import plan as flow
from handlens.flow.counting import counted
from handlens.models import published

SMALL = {
    "mobilenet_v2": {
        0.5: {128: published.Published(32, 57.7, 9.9), 96: published.Published(18, 51.2, 6.4)},
        0.35: {160: published.Published(30, 55.7, 10.5), 96: published.Published(11, 45.5, 4.5)},
    },
    "mobilenet_v1": {0.25: {128: published.Published(14, 41.5)}},
}


@pytest.fixture(autouse=True)
def few_published(monkeypatch):
    monkeypatch.setattr(published, "PUBLISHED", SMALL)


def chosen(**budget):
    best = flow.plan(**budget)["best"]
    return best["name"], best["width"], best["size"]


def test_the_most_accurate_within_every_budget():
    assert chosen() == ("mobilenet_v2", 0.5, 128)
    assert chosen(madds="30M") == ("mobilenet_v2", 0.35, 160)
    assert chosen(latency="7ms") == ("mobilenet_v2", 0.5, 96)
    assert chosen(flash="0.8MB", madds="0.02G") == ("mobilenet_v2", 0.35, 96)
    assert chosen(flash="350kB") == ("mobilenet_v1", 0.25, 128)


def test_memory_that_is_too_much_whole_is_split_as_far_as_needed():
    whole = flow.plan(ram="500kB")["best"]
    assert (whole["width"], whole["size"], whole["split"], whole["parts"]) == (0.5, 128, 1, {})
    split = flow.plan(ram="256kB")["best"]
    assert (split["width"], split["size"]) == (0.5, 128) and split["split"] >= 2
    assert split["ram"] <= 256_000 < whole["ram"]
    again = counted("mobilenet_v2", size=128, width=0.5, num_classes=10, padding="same", split=split["split"])
    assert again.lean.parts == split["parts"]  # what the export command makes
    assert again.cost.ram_bytes == split["ram"]
    assert split["accuracy"] == 57.7


def test_the_front_is_what_nothing_beats():
    designs = flow.plan()["designs"]
    front = {(d["width"], d["size"]) for d in designs if d["best_of_its_kind"]}
    assert front == {(0.5, 128), (0.5, 96), (0.35, 160), (0.35, 96), (0.25, 128)} - {
        (a["width"], a["size"])
        for a in designs
        for b in designs
        if b["accuracy"] > a["accuracy"] and b["multiply_adds"] <= a["multiply_adds"] and b["ram"] <= a["ram"]
    }


def test_on_the_command_line(tmp_path, capsys):
    plot = tmp_path / "front.png"
    assert run(["plan", "--madds", "30M", "--ram", "320kB", "--plot", str(plot), "-q"]) == 0
    said = capsys.readouterr().out
    assert "handlens train photos --model mobilenet_v2 --width 0.35 --image-size 160 --option padding=same" in said
    assert "handlens export runs/mobilenet_v2-0.35-160 --to litert --int8 --split 3" in said
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert run(["plan", "--madds", "30M", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["budget"] == {"madds": 30e6} and found["best"] == found["designs"][0]
    assert found["best"]["accuracy"] == 55.7 and len(found["designs"]) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ram", "320"], "--ram must be a number above 0 with one of the units B, kB"),
        (["--madds", "30ms"], "one of the units k, M, G, B, such as 30M, got '30ms'"),
        (["--latency", "0ms"], "--latency must be a number above 0"),
        (["--flash", "-1MB"], "got '-1MB'"),
        (["--ram", "10kB"], "no design meets --ram 10kB; the least that any of the 5 needs: ram 1"),
        (["--task", "detect"], "no accuracies by width and input size are published for the task detect"),
        (["--task", "find"], "unknown task 'find'; available: classify"),
        (["--classes", "0"], "number of classes must be from 1 to 1,000,000, got 0."),
        (["--run", "nowhere"], "nowhere"),
        (["--run", "nowhere", "--latency", "3ms"], "the latency of a run is not known"),
    ],
)
def test_what_cannot_be_planned(options, message, capsys):
    assert run(["plan", *options]) == 2
    assert message in capsys.readouterr().err


def test_limits_that_only_together_are_too_low_are_named_so():
    slim = {"name": "a", "width": 1.0, "size": 96, "accuracy": 50.0, "flash": 1, "latency": None, "parts": {}}
    designs = [flow.Design(**slim, multiply_adds=10, ram=200), flow.Design(**slim, multiply_adds=20, ram=100)]
    budget = {"madds": 15.0, "ram": 150.0}
    said = flow._nothing(designs, budget, {"madds": "15", "ram": "150B"})
    assert said.startswith("no design meets --madds 15, --ram 150B at once, though each of these alone is met")
    assert "the least that any" in flow._nothing(designs, budget | {"ram": 50.0}, {"madds": "15", "ram": "50B"})


def test_units():
    assert flow.amount("1.5MiB", "flash") == 1.5 * 1024**2
    assert (flow.amount(" 30 M", "madds"), flow.amount("0.02s", "latency")) == (30e6, 20)
    with pytest.raises(InputError, match="such as 320kB"):
        flow.amount("1e3kB", "ram")


@pytest.mark.slow
def test_runs_are_compared_by_what_they_measured(tmp_path, capsys):
    write_images(tmp_path / "data", per_class=4, seed=0)
    recipe = {"model": "mobilenet_v2", "mode": "scratch", "epochs": 1, "width": 0.35}
    small = train(tmp_path / "data", out=tmp_path / "small", recipe=recipe | {"image_size": 32}, golden=False)
    large = train(tmp_path / "data", out=tmp_path / "large", recipe=recipe | {"image_size": 64}, golden=False)
    found = flow.plan(runs=[small, large], madds="2M")
    assert (found["best"]["name"], found["best"]["size"], found["train"]) == (str(small), 32, None)
    assert found["designs"][1]["misses"] == ("madds",)
    measured = json.loads((small / "model.json").read_text())["validation"]["top1"]
    assert found["best"]["accuracy"] == 100 * measured
    assert run(["export", str(small), "--to", "openvino", "--split", "2", "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)["exports"][0]
    assert exported["passed"] and exported["file"].endswith("small-split2.xml")
    assert run(["export", str(small), "--to", "openvino", "--split", "0"]) == 2
    assert "--split must be from 1 to 64, got 0" in capsys.readouterr().err


def test_arguments_of_the_model_on_the_command_line(tmp_path, capsys):
    write_images(tmp_path / "data", per_class=4, seed=0)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: mobilenet_v2\nmode: scratch\nepochs: 1\nimage_size: 32\noptions: {dropout: 0.3}\n")
    command = ["train", str(tmp_path / "data"), "--recipe", str(recipe), "--out", str(tmp_path / "run"), "--no-golden"]
    assert run([*command, "--option", "padding=same", "--option", "round_to=4", "-q"]) == 0
    arguments = json.loads((tmp_path / "run" / "model.json").read_text())["architecture"]["arguments"]
    assert {"padding": "same", "round_to": 4, "dropout": 0.3}.items() <= arguments.items()
    capsys.readouterr()
    assert run([*command, "--option", "padding"]) == 2
    assert "--option must be name=value, such as padding=same, got 'padding'" in capsys.readouterr().err
    assert run([*command[:4], "--out", str(tmp_path / "other"), "--option", "paddin=same"]) == 2
    assert "no option 'paddin'; the closest match is 'padding'" in capsys.readouterr().err
