"""Numbers per image, from the table to the exported file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from jsonschema import validate
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

import handlens
from handlens.cli import run as command
from handlens.data import open_dataset
from handlens.data.check import audit
from handlens.data.labels.values import ValueLabels
from handlens.data.record import Dataset, Record
from handlens.errors import FindingsError, InputError
from handlens.evaluation.regression import regression_metrics
from handlens.runtimes.names import INPUT
from handlens.tasks import TASKS
from handlens.tasks.regress.agreement import changed_values, compare_values
from handlens.tasks.regress.head import FrozenNumbers, ridge_path
from handlens.tasks.regress.names import VALUES
from handlens.tasks.regress.scale import TargetScale
from handlens.training.recipe_file import make_recipe

SCHEMAS = Path(__file__).resolve().parents[3] / "docs" / "schemas"


def write(folder: Path, table: str, *, yaml: str = "", images: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        Image.fromarray(np.full((40, 40, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "weights.csv").write_text(table, encoding="utf-8")
    if yaml:
        (folder / "handlens.yaml").write_text(yaml, encoding="utf-8")
    return folder


def gray_levels(folder: Path, *, train: int = 120, test: int = 24) -> Path:
    """The number is how light the image is, in an odd unit; a second one is the opposite."""
    rows = ["file,light,dark,split"]
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            level = int(draw.integers(30, 226))
            noise = draw.integers(-20, 21, (64, 64, 3))
            path = folder / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((level + noise).clip(0, 255).astype(np.uint8)).save(path)
            rows.append(f"{split}/{number}.png,{1000 + 3 * level},{-level / 100},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "handlens.yaml").write_text("csv: {values: [light, dark]}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, weights: str) -> Path:
    folder = tmp_path_factory.mktemp("regress")
    gray_levels(folder / "data")
    return handlens.train(folder / "data", out=folder / "run", recipe=make_recipe({"mode": "head", "image_size": 64}))


def test_a_column_called_value_is_a_number(tmp_path):
    dataset = open_dataset(write(tmp_path, "file,value\n0.png,1.5\n1.png,-2\n2.png,3e2\n3.png,\n"))
    assert (dataset.task, dataset.format, dataset.class_names) == ("regress", "csv", ("value",))
    assert [record.label for record in dataset.records] == [(1.5,), (-2.0,), (300.0,), None]


def test_named_columns_are_numbers_in_their_order(tmp_path):
    table = "file,weight,age,split\n0.png,10,1,train\n1.png,20,2,train\n2.png,30,3,test\n3.png,40,4,test\n"
    dataset = open_dataset(write(tmp_path, table, yaml="csv: {values: [weight, age]}"))
    assert dataset.class_names == ("weight", "age")
    assert [record.label for record in dataset.part("test")] == [(30.0, 3.0), (40.0, 4.0)]


@pytest.mark.parametrize(
    ("table", "yaml", "message"),
    [
        ("file,value\n0.png,heavy\n", "", "line 2 of weights.csv has 'heavy' in the column 'value'; a number"),
        ('file,value\n0.png,"1,5"\n', "", "use a decimal point"),
        ("file,value\n0.png,nan\n", "", "has 'nan' in the column 'value'; a number is expected"),
        ("file,value\n0.png,inf\n", "", "has 'inf'"),
        ("file,a,b\n0.png,1,\n", "csv: {values: [a, b]}", "has '' in the column 'b'"),
        ("file,a\n0.png,1\n", "csv: {values: [weight]}", "has no column 'weight'; it has file, a"),
        ("file,a\n0.png,1\n", "csv: {values: [a, a]}", "names a column twice"),
        ("file,a\n0.png,1\n", "csv: {values: []}", "has no column ''"),
        ("file,value\n0.png,\n", "", "none of the 1 images in .* has a number"),
        ("file,value\n0.png,1\n0.png,2\n", "", "line 3 of weights.csv contradicts an earlier line"),
    ],
)
def test_a_table_that_is_wrong_is_answered_in_one_sentence(tmp_path, table, yaml, message):
    with pytest.raises(InputError, match=message):
        open_dataset(write(tmp_path, table, yaml=yaml))


def test_the_audit_says_what_training_cannot_use(tmp_path):
    rows = [f"{number}.png,{number + 1}" for number in range(9)] + ["9.png,90000", "10.png,"]
    found = audit(open_dataset(write(tmp_path, "file,value\n" + "\n".join(rows) + "\n", images=11)))
    codes = {finding.code: finding for finding in found.findings}
    assert codes["far_out"].files == ("9.png",)
    assert codes["without_label"].files == ("10.png",)
    assert "few_images" in codes
    assert found.to_dict()["values"]["all"]["value"]["median"] == 5.5
    same = write(tmp_path / "same", "file,value\n0.png,7\n1.png,7\n")
    with pytest.raises(FindingsError, match="value has the same value in every training image"):
        handlens.train(same, out=tmp_path / "run")


def test_the_order_of_the_columns_may_differ_from_the_models():
    assert ValueLabels().relabeled((1.0, 2.0), {0: 1, 1: 0}) == (2.0, 1.0)
    with pytest.raises(InputError, match="predicts a value for which the data has no column"):
        ValueLabels().relabeled((1.0,), {0: 1})


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_ridge_is_scikit_learns(shape):
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=shape), draw.normal(size=(shape[0], 2))
    for strength, (weight, bias) in zip((10.0, 0.1, 1e-3), ridge_path(x, y, (10.0, 0.1, 1e-3)), strict=True):
        theirs = Ridge(alpha=strength * shape[0]).fit(x, y)
        np.testing.assert_allclose(weight, theirs.coef_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(bias, theirs.intercept_, rtol=1e-6, atol=1e-9)


def test_cross_validation_judges_by_images_that_were_not_seen():
    draw = np.random.default_rng(2)
    features = draw.normal(size=(60, 8)).astype(np.float32)
    labels = 500 + 40 * features[:, 0] + draw.normal(size=60)
    records = [Record(path=Path(f"{i}"), id=f"{i}", label=(float(value),)) for i, value in enumerate(labels)]
    frozen = FrozenNumbers(TargetScale.of(records))
    head = frozen.fit(features, records, np.arange(60) % 5, copies=1, recipe=make_recipe({}), names=("w",))
    guessed = head.out_of_fold[:, 0] * labels.std() + labels.mean()
    assert frozen.validation(head, records, ("w",))["r2"] == pytest.approx(r2_score(labels, guessed), abs=1e-5)
    assert r2_score(labels, guessed) > 0.99
    noise = [
        Record(path=Path(f"{i}"), id=f"{i}", label=(float(value),)) for i, value in enumerate(draw.normal(size=60))
    ]
    lost = FrozenNumbers(TargetScale.of(noise))
    head = lost.fit(features, noise, np.arange(60) % 5, copies=1, recipe=make_recipe({}), names=("w",))
    assert lost.validation(head, noise, ("w",))["r2"] < 0.1  # nothing can be learned, and cross-validation says so


def test_metrics_are_scikit_learns():
    draw = np.random.default_rng(3)
    truth = draw.normal(50, 9, size=(80, 2))
    predicted = truth + draw.normal(0, (2, 5), size=(80, 2))
    metrics = regression_metrics(predicted, truth, ("a", "b"), training_mean=(48.0, 51.0))
    for place, row in enumerate(metrics["per_value"]):
        ours, right = predicted[:, place], truth[:, place]
        assert row["mae"] == pytest.approx(mean_absolute_error(right, ours))
        assert row["rmse"] == pytest.approx(root_mean_squared_error(right, ours))
        assert row["r2"] == pytest.approx(r2_score(right, ours))
        guess = np.full(80, (48.0, 51.0)[place])
        assert row["mae_of_mean"] == pytest.approx(mean_absolute_error(right, guess))
        for key in ("mae", "rmse", "r2"):
            low, high = row[f"{key}_interval"]
            assert low < row[key] < high
    assert metrics["r2"] == pytest.approx(r2_score(truth, predicted))
    with pytest.raises(ValueError, match=r"must be \(N, 1\)"):
        regression_metrics(predicted, truth, ("a",), training_mean=(1.0,))


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(4)
    held = 0
    for _ in range(60):
        truth = np.zeros((60, 1))
        predicted = draw.normal(0, 1, size=(60, 1))
        [row] = regression_metrics(predicted, truth, ("a",), training_mean=(0.0,))["per_value"]
        low, high = row["mae_interval"]
        held += low <= np.sqrt(2 / np.pi) <= high  # the mean of a half-normal
    assert 50 <= held <= 60


def test_it_learns_lightness_in_its_unit_and_reports_it(run):
    result = handlens.evaluate(run)
    assert result["task"] == "regress" and result["split"] == "test"
    light, dark = result["metrics"]["per_value"]
    assert (light["name"], dark["name"]) == ("light", "dark")
    assert light["r2"] > 0.6 and dark["r2"] > 0.6
    assert light["mae"] < 0.7 * light["mae_of_mean"]
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "mean absolute error of light" in page and "Predicted against true" in page
    validate(result, json.loads((SCHEMAS / "evaluate.json").read_text()))


def test_predictions_are_numbers_in_python_and_in_a_table(run, tmp_path, capsys):
    data = run.parent / "data"
    result = handlens.load(run)(data / "test" / "0.png")
    assert result.names == ("light", "dark") and 1000 < result.values[0] < 1800
    with pytest.raises(ValueError, match="there are 2 values"):
        float(result)
    assert command(["predict", str(run), str(data / "test"), "--csv", str(tmp_path / "a.csv"), "--quiet"]) == 0
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "id,name,value,error" and len(lines) == 1 + 2 * 24
    assert command(["predict", str(run), str(data / "test" / "0.png"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert values["light"] == pytest.approx(float(result.values[0]), rel=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_export_gives_the_unit_too(run, tmp_path):
    path, parity = handlens.export(run, to="onnx", out=tmp_path / "model.onnx")
    assert parity.passed
    golden = json.loads((run / "golden" / "golden.json").read_text())["files"][0]
    pixels = np.load(run / "golden" / "golden.npz")["images"][:1]
    [values] = onnxruntime.InferenceSession(str(path)).run([VALUES], {INPUT: pixels})
    assert values[0].tolist() == pytest.approx(list(golden["predicted"].values()), rel=1e-4)
    assert abs(values[0][0] - golden["label"]["light"]) < 300
    data, model = run.parent / "data", tmp_path / "model.onnx"
    of_file, of_run = (handlens.evaluate(one, data, precision="fp32")["metrics"] for one in (model, run))
    metric = TASKS["regress"].metric
    assert of_file[metric] == pytest.approx(of_run[metric], abs=1e-3)


@pytest.mark.parametrize("loss", ["l1", "l2", "huber"])
def test_training_from_scratch_with_every_loss_gives_finite_numbers(run, tmp_path, loss):
    recipe = make_recipe(
        {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0, "number_loss": loss}
    )
    made = handlens.train(run.parent / "data", out=tmp_path / loss, recipe=recipe, golden=False)
    result = handlens.load(made)(run.parent / "data" / "test" / "0.png")
    assert 500 < result.values[0] < 2500  # near the mean: it was given back its unit


@pytest.mark.slow
def test_fine_tuning_starts_from_the_head(run, tmp_path):
    said: list[str] = []
    recipe = make_recipe({"mode": "finetune", "image_size": 64, "epochs": 1, "workers": 0})
    report = handlens.Reporter(say=said.append)
    made = handlens.train(run.parent / "data", out=tmp_path / "fine", recipe=recipe, golden=False, report=report)
    assert any(line.startswith("Epoch 0 (head only): R² 0.") for line in said)
    assert handlens.evaluate(made)["metrics"]["r2"] > 0.3  # the mean has 0; on processors with AVX2 alone it is 0.49


def test_the_whole_image_is_seen_unless_a_part_is_asked_for():
    from handlens.tasks import TASKS

    defaults = TASKS["regress"].defaults
    assert make_recipe({}).settled("finetune", defaults).augment.crop_area == 1.0
    asked = make_recipe({"augment": {"crop_area": 0.5}})
    assert asked.settled("finetune", defaults).augment.crop_area == 0.5
    assert make_recipe({}).settled("finetune", TASKS["classify"].defaults).augment.crop_area == 0.35


def test_what_is_the_same_number_for_two_runtimes():
    wanted = {VALUES: np.array([[100.0], [200.0], [300.0]], np.float32)}
    near = {VALUES: wanted[VALUES] + np.float32(0.005)}
    far = {VALUES: wanted[VALUES] + np.array([[0.0], [0.1], [0.0]], np.float32)}
    assert compare_values(near, wanted, ["a", "b", "c"]).passed
    found = compare_values(far, wanted, ["a", "b", "c"])
    assert not found.passed and found.differing == ("b",) and found.equal == pytest.approx(2 / 3)
    lost = {VALUES: np.full((3, 1), np.nan, np.float32)}
    assert not compare_values(lost, wanted, ["a", "b", "c"]).passed
    assert changed_values({VALUES: wanted[VALUES] + np.array([[0], [5], [0]], np.float32)}, wanted) == pytest.approx(
        1 / 3
    )


def test_a_data_set_of_another_kind_is_refused(run, data):
    with pytest.raises(InputError, match="is labeled for classify and cannot be used for regress"):
        handlens.evaluate(run, data)


def test_two_copies_with_two_numbers_are_a_conflict(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a", "b"):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    records = tuple(
        Record(path=tmp_path / f"{name}.png", id=name, label=(value,)) for name, value in (("a", 1.0), ("b", 2.0))
    )
    dataset = Dataset(root=tmp_path, format="csv", class_names=("w",), records=records, kind=ValueLabels())
    assert "conflicting_labels" in {finding.code for finding in audit(dataset).findings}


def test_the_sample_says_how_much_is_bread(tmp_path):
    assert command(["sample", "bakery", str(tmp_path / "b"), "--task", "regress", "--per-class", "1", "-q"]) == 0
    dataset = open_dataset(tmp_path / "b")
    assert (dataset.task, dataset.class_names) == ("regress", ("area",))
    values = [record.label[0] for record in dataset.records]
    assert 0 < min(values) < max(values) < 100
    assert torch.tensor(values).std() > 3
