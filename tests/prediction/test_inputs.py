"""What a predictor takes: a file, its bytes, a PIL image, an array, or a list of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handlens
from handlens.errors import InputError
from handlens.preprocess import Preprocess, ResizePolicy
from handlens.runtimes.stream import load_pixels
from handlens.training.recipe_file import make_recipe


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = {"mode": "scratch", "width": 0.35, "image_size": 64, "epochs": 1, "workers": 0}
    return handlens.train(data, out=tmp_path_factory.mktemp("inputs") / "run", recipe=recipe, golden=False)


def test_every_form_of_one_image_gives_one_prediction(run: Path, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    predictor = handlens.load(run, precision="fp32")
    wanted = predictor(path).probabilities
    for form in (str(path), path.read_bytes(), Image.open(path), pixels):
        np.testing.assert_array_equal(predictor(form).probabilities, wanted)
    several = predictor([path, pixels])
    assert len(several) == 2
    np.testing.assert_array_equal(several[1].probabilities, wanted)


def test_a_pil_image_is_turned_upright_and_laid_on_white_as_its_file_is(run: Path, tmp_path: Path):
    draw = np.random.default_rng(1)
    turned, clear = tmp_path / "turned.jpg", tmp_path / "clear.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw.integers(0, 256, (80, 64, 3), dtype=np.uint8)).save(turned, exif=exif, quality=100)
    Image.fromarray(draw.integers(0, 256, (64, 64, 4), dtype=np.uint8), "RGBA").save(clear)
    predictor = handlens.load(run, precision="fp32")
    for path in (turned, clear):
        apart = predictor(Image.open(path)).probabilities - predictor(path).probabilities
        assert np.abs(apart).max() < 0.02  # another JPEG decoder, another rounding


def test_a_pil_image_of_16_bits_or_with_one_color_that_is_transparent_is_read_as_its_file_is(run: Path, tmp_path: Path):
    levels = np.random.default_rng(2).integers(0, 65536, (64, 64)).astype(np.uint16)
    deep, palette = tmp_path / "deep.png", tmp_path / "palette.png"
    Image.fromarray(levels).save(deep)
    indexed = Image.fromarray((levels >> 8).astype(np.uint8)).convert("P")
    indexed.save(palette, transparency=7)
    predictor = handlens.load(run, precision="fp32")
    answers = []
    for path in (deep, palette):
        answers.append(predictor(path).probabilities)
        np.testing.assert_array_equal(predictor(Image.open(path)).probabilities, answers[-1])
    assert not np.array_equal(*answers)
    with pytest.raises(InputError, match="the image: has 32-bit pixels"):
        predictor(Image.fromarray(levels.astype(np.float32)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (7, "an image is a path, bytes, a PIL image or an array, got int"),
        (np.zeros((8, 8), np.uint8), r"must be \(H, W, 3\) uint8 RGB, got \(8, 8\) uint8"),
        (np.zeros((8, 8, 3), np.float32), "got .* float32"),
        (b"no image", "the bytes"),
    ],
)
def test_anything_else_is_answered_in_one_sentence(run: Path, image: object, message: str):
    with pytest.raises(InputError, match=message):
        handlens.load(run)(image)


def test_a_recipe_is_a_dict_or_an_object_and_a_mode_is_one_word(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match="has no key 'epoch'; the closest match is 'epochs'"):
        handlens.train(data, out=tmp_path / "a", recipe={"epoch": 1})
    with pytest.raises(InputError, match="unknown model 'resnet19'"):
        handlens.train(data, out=tmp_path / "b", recipe=make_recipe({"model": "resnet19"}), mode="scratch")


def test_a_mode_that_boxes_do_not_have_is_refused_before_an_image_is_read(tmp_path: Path):
    handlens.sample("bakery", tmp_path / "b", task="detect", per_class=1, test_per_class=1, size=64)
    told: list[str] = []
    report = handlens.Reporter(progress=lambda what, done, total: told.append(what))
    with pytest.raises(InputError, match="mode head is not available for the task detect"):
        handlens.train(tmp_path / "b", out=tmp_path / "run", mode="head", report=report)
    assert told == [] and not (tmp_path / "run").exists()


def test_a_mistyped_run_is_answered_with_the_run_beside_it(run: Path):
    with pytest.raises(InputError, match=f"the closest match is '{run}'"):
        handlens.load(run.with_name("rum"))


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(3000, 2000), (700, 1900), (224, 224), (90, 400)])
def test_a_photograph_is_the_same_as_file_bytes_image_and_array(
    size: tuple[int, int], resize: ResizePolicy, tmp_path: Path
):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    preprocess = Preprocess(height=64, width=64, short_side=64, resize=resize)
    from_file, _ = load_pixels(path, preprocess)
    with Image.open(path) as image:
        as_array = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(from_file, preprocess.pixels(as_array))
