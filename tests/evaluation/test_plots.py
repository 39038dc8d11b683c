"""Images are read back: sizes, colors, and glyphs that are not the box of a missing one."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFont

from handlens.evaluation import plots
from handlens.evaluation.calibration import calibration
from handlens.evaluation.contact_sheet import WRONG, contact_sheet, jpeg_bytes
from handlens.evaluation.plots import confusion_plot, curves, reliability_plot
from handlens.fonts import font_file

COLORS = [(20, 120, 40), (30, 60, 160), (200, 180, 20)]


def plain_image(height: int, width: int, color: tuple[int, int, int] = COLORS[0]) -> np.ndarray:
    return np.full((height, width, 3), color, dtype=np.uint8)


def read(png: bytes) -> np.ndarray:
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def extent(sheet: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int]:
    """(height, width) of the box that holds every pixel of one color."""
    rows, columns = np.nonzero((sheet == color).all(axis=2))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (7, 4), (12, 4), (50, 9)])
def test_any_number_of_images_on_one_grid(count, columns):
    shapes = [(30, 60), (300, 200), (64, 64)]
    images = [plain_image(*shapes[i % 3], COLORS[i % 3]) for i in range(count)]
    before = [image.copy() for image in images]
    sheet = contact_sheet(iter(images), [f"name {i}" for i in range(count)], tile=64)
    assert sheet.dtype == np.uint8
    rows = -(-count // columns)
    assert sheet.shape[1] % columns == 0
    assert sheet.shape[0] % rows == 0
    cell = sheet.shape[0] // rows, sheet.shape[1] // columns
    for i in range(count):
        top, left = i // columns * cell[0], i % columns * cell[1]
        one = sheet[top : top + cell[0], left : left + cell[1]]
        assert (one == COLORS[i % 3]).all(axis=2).any(), f"image {i} is not in its cell"
    for image, copy in zip(images, before, strict=True):
        np.testing.assert_array_equal(image, copy)


@pytest.mark.parametrize("shape", [(30, 60), (60, 30), (400, 100), (97, 301), (160, 160), (1, 3000)])
def test_the_aspect_ratio_is_kept(shape):
    height, width = extent(contact_sheet([plain_image(*shape)], ["x"], tile=160), COLORS[0])
    assert max(height, width) == 160
    scale = 160 / max(shape)
    assert abs(height - max(1, shape[0] * scale)) <= 0.5
    assert abs(width - max(1, shape[1] * scale)) <= 0.5


def test_wrong_images_have_a_red_frame_and_only_those():
    images = [plain_image(64, 64), plain_image(40, 64)]
    sheet = contact_sheet(images, ["a", "b"], wrong=[False, True], tile=64)
    red = (sheet == WRONG).all(axis=2)
    half = sheet.shape[1] // 2
    assert not red[:, :half].any()
    assert red[:, half:].any()
    assert extent(sheet, WRONG) == (40 + 6, 64 + 6)
    assert not (contact_sheet(images, ["a", "b"], tile=64) == WRONG).all(axis=2).any()


def caption_pixels(text: str) -> np.ndarray:
    sheet = contact_sheet([plain_image(64, 64)], [text], tile=64)
    return sheet[66:]


def test_hangul_captions_are_drawn_and_differ():
    drawn = [caption_pixels(text) for text in ("장미", "튤립")]
    assert min(int((pixels < 128).sum()) for pixels in drawn) > 30
    assert (drawn[0] != drawn[1]).sum() > 30  # two boxes of a missing glyph would be alike


def test_decomposed_hangul_is_drawn_like_composed(monkeypatch):
    def unshaped(text, size):  # as Pillow lays text out where no shaping library is installed
        return ImageFont.truetype(font_file(text), size, layout_engine=ImageFont.Layout.BASIC)

    monkeypatch.setattr(plots, "label_font", unshaped)
    composed = unicodedata.normalize(
        "NFC", "해바라기 튤립 장미"
    )  # too long: it is cut between syllables, not inside one
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    np.testing.assert_array_equal(caption_pixels(composed), caption_pixels(decomposed))


def test_long_captions_stay_inside_their_tile_and_lines_stack():
    long = contact_sheet([plain_image(64, 64)] * 2, ["a very long name that goes on and on", "b"], tile=64)
    middle = long.shape[1] // 2
    gap = 4  # at least so much white stays between two captions
    assert (long[70:, middle - gap : middle + gap] > 200).all()
    assert contact_sheet([plain_image(64, 64)], ["a\nb"], tile=64).shape[0] > caption_pixels("a").shape[0] + 66


def test_a_long_caption_goes_on_in_the_next_line_at_a_space():
    def drawn(caption: str) -> np.ndarray:
        return contact_sheet([plain_image(64, 64)], [caption], tile=160)

    labels = [f"flatbread {number} %," for number in range(70, 76)]
    np.testing.assert_array_equal(drawn(" ".join(labels[:2])), drawn("\n".join(labels[:2])))
    np.testing.assert_array_equal(drawn("rye 100 %, flatbread 99 %"), drawn("rye 100 %,\nflatbread 99 %"))
    assert drawn("a bun 9 %").shape == drawn("a").shape  # no line more than it needs
    assert drawn(" ".join(labels * 3)).shape == drawn("\n".join(labels)).shape  # six lines at most


def test_contact_sheet_of_photographs(shared_data):
    files = sorted((shared_data / "flowers" / "test").glob("*/*"))[::100]
    assert len(files) >= 5
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    sheet = contact_sheet(images, [file.parent.name for file in files], wrong=[True] * len(files))
    again = np.asarray(Image.open(BytesIO(jpeg_bytes(sheet))))
    assert again.shape == sheet.shape
    assert np.abs(again.astype(int) - sheet).mean() < 6
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(
    ("images", "captions", "options", "said"),
    [
        ([], [], {}, "at least one image"),
        ([plain_image(4, 4)], ["a", "b"], {}, "2 captions, but only 1"),
        ([plain_image(4, 4)] * 2, ["a"], {}, "more images than the 1"),
        ([plain_image(4, 4)], ["a"], {"wrong": [True, False]}, "1 entries, one per caption, got 2"),
        ([plain_image(4, 4)[:, :, 0]], ["a"], {}, r"\(4, 4\) uint8"),
        ([plain_image(4, 4).astype(np.float32)], ["a"], {}, "float32"),
        ([plain_image(4, 4)], ["a"], {"tile": 8}, "got 8"),
        ([plain_image(4, 4)], ["a"], {"columns": 0}, "and 0"),
    ],
)
def test_a_sheet_names_what_is_wrong(images, captions, options, said):
    with pytest.raises(ValueError, match=said):
        contact_sheet(images, captions, **options)


@pytest.mark.parametrize("classes", [1, 2, 12, 100])
def test_confusion_image_shows_right_in_blue_and_wrong_in_red(classes):
    counts = 9 * np.eye(classes, dtype=int)
    names = [f"bird {i}" for i in range(classes)]
    clean = read(confusion_plot(counts, names)).astype(int)
    assert ((clean[:, :, 2] - clean[:, :, 0]) > 80).any()
    reddish = (clean[:, :, 0] - clean[:, :, 2]) > 60
    if classes == 1:
        return
    counts[0, -1] = 3
    mistaken = read(confusion_plot(counts, names)).astype(int)
    assert ((mistaken[:, :, 0] - mistaken[:, :, 2]) > 60).sum() > reddish.sum() + 50
    assert max(clean.shape) < 3000


def test_confusion_image_draws_each_hangul_name():
    counts = [[5, 1], [2, 6]]
    drawn = [read(confusion_plot(counts, names)) for names in (["장미", "튤립"], ["목련", "튤립"], ["장미", "목련"])]
    assert drawn[0].shape == drawn[1].shape == drawn[2].shape  # two syllables each: the same room
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (drawn[a] != drawn[b]).any(axis=2).sum() > 30


def test_names_are_text_and_not_formulas():
    assert len(confusion_plot([[1, 0], [0, 1]], ["$\\frac{1$", "a_b^{c"])) > 1000


def test_a_thousand_classes_still_make_an_image():
    counts = np.zeros((1000, 1000), dtype=int)
    counts[3, 4] = 1
    assert max(read(confusion_plot(counts, [str(i) for i in range(1000)])).shape) < 3000


def test_a_class_without_images_has_a_gray_row():
    image = read(confusion_plot([[5, 0], [0, 0]], ["a", "b"]))
    assert (np.abs(image.astype(int) - [224, 227, 230]).max(axis=2) <= 1).sum() > 1000


@pytest.mark.parametrize(("counts", "names"), [([[1, 2]], ["a"]), ([[1]], ["a", "b"]), ([[-1]], ["a"])])
def test_confusion_image_names_a_bad_matrix(counts, names):
    with pytest.raises(ValueError, match="confusion must be"):
        confusion_plot(counts, names)


def test_curves_from_the_text_of_metrics_csv():
    rows = [
        {
            "epoch": str(i),
            "train_loss": str(1 / (i + 1)),
            "validation_loss": str(1.2 / (i + 1)),
            "train_top1": "0.9",
            "validation_top1": "" if i == 0 else str(0.8 + i / 100),
            "rate": "0.1",
        }
        for i in range(4)
    ]
    both = read(curves(rows))
    only_loss = read(curves([{"epoch": row["epoch"], "validation_loss": row["validation_loss"]} for row in rows]))
    assert both.shape[1] > 1.7 * only_loss.shape[1]
    np.testing.assert_array_equal(both, read(curves(rows)))
    worse = [row | {"validation_loss": "2.0"} for row in rows]
    assert (read(curves(worse)).shape != both.shape) or (read(curves(worse)) != both).any()


def test_curves_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="2 rows"):
        curves([{"epoch": "0"}, {"epoch": "1", "validation_loss": ""}])


def test_reliability_image_draws_the_filled_bins():
    probabilities = np.float32([[0.95, 0.05]] * 9 + [[0.55, 0.45]] * 4)
    bins = calibration(probabilities, np.array([0] * 9 + [1] * 4))["bins"]
    image = read(reliability_plot(bins))
    assert min(image.shape[:2]) > 300
    right = calibration(probabilities, np.zeros(13, dtype=int))["bins"]
    assert read(reliability_plot(right)).tobytes() != image.tobytes()
    with pytest.raises(ValueError, match="15 bins are empty"):
        reliability_plot([bin | {"count": 0} for bin in bins])


def test_drawing_needs_no_pyplot_and_metrics_no_matplotlib_or_torch():
    code = (
        "import sys, handlens.evaluation.metrics, handlens.evaluation.errors, handlens.evaluation.report\n"
        "from handlens.evaluation import plots\n"
        "assert not {'torch', 'matplotlib', 'jinja2'} & set(sys.modules), 'imported too early'\n"
        "plots.confusion_plot([[1, 0], [0, 1]], ['a', 'b'])\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
        "print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr
