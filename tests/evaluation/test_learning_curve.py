"""The power law of the error, against SciPy's fit and against laws that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from handlens.evaluation.forecast import Curve, Measured
from handlens.evaluation.learning_curve import MOST_EXPONENT, fit_power_laws, interval
from handlens.evaluation.learning_plot import learning_plot

IMAGES = np.array([100, 140, 200, 280, 400, 560, 800, 1100, 1600.0])


def law(images, a, b, c):
    return a * np.asarray(images, dtype=float) ** -b + c


def measured(a=2.0, b=0.5, c=0.02, *, seed=0, total=2000, by_class=((0.0, 0.0), (1.0, 1.0))):
    """Shares of wrong answers of one set of images for all sizes, as a bootstrap over these images sees them.

    Args:
        by_class: of each class, its parts of what falls and of what stays.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.random(total)  # an image is wrong below the error: what is wrong at 1,600 images is so at 100
    truth = law(IMAGES, a, b, c)
    wrong = difficulty[:, None] < truth
    draws = rng.multinomial(total, np.full(total, 1 / total), size=200) @ wrong / total
    fall, stay = law(IMAGES, a, b, 0), np.full(len(IMAGES), c)
    parts = np.array([share * fall + rest * stay for share, rest in by_class])
    return Measured(IMAGES, wrong.mean(axis=0), draws, parts, total)


def test_laws_are_found_again():
    truth = np.array([(2.0, 0.5, 0.02), (0.5, 0.1, 0.0), (30.0, 1.1, 0.2), (1.0, 0.35, 0.05)])
    found = fit_power_laws(IMAGES, [law(IMAGES, *one) for one in truth], np.ones(len(IMAGES)))
    np.testing.assert_allclose(found.b, truth[:, 1], rtol=0.01)
    np.testing.assert_allclose(found.errors([5000]), [law([5000], *one) for one in truth], rtol=0.005)


@pytest.mark.parametrize("seed", range(6))
def test_no_fit_of_scipy_is_better(seed):
    rng = np.random.default_rng(seed)
    errors = law(IMAGES, 2, 0.5, 0.03) + rng.normal(0, 0.006, len(IMAGES))
    weights = rng.uniform(0.5, 2, len(IMAGES))
    ours = fit_power_laws(IMAGES, errors, weights)
    theirs, _ = curve_fit(
        law, IMAGES, errors, p0=(1, 0.5, 0.01), sigma=weights**-0.5, bounds=([0, 0.02, 0], [1e4, MOST_EXPONENT, 1])
    )
    squares = [(weights * (fit - errors) ** 2).sum() for fit in (ours.errors(IMAGES)[0], law(IMAGES, *theirs))]
    assert squares[0] <= squares[1] * 1.001
    if squares[0] > squares[1] * 0.999:  # where SciPy has found the same minimum
        np.testing.assert_allclose(ours.errors([4000])[0], law([4000], *theirs), rtol=0.02)


def test_what_cannot_fall_or_be_negative():
    rising = fit_power_laws(IMAGES, np.linspace(0.1, 0.2, len(IMAGES)), np.ones(len(IMAGES)))
    assert rising.a[0] == 0 and rising.c[0] == pytest.approx(0.15)
    assert rising.images(0.1)[0] == math.inf and rising.images(0.2)[0] == 0
    falling = fit_power_laws(IMAGES, np.maximum(0.3 - 0.05 * np.log(IMAGES / 100), 0), np.ones(len(IMAGES)))
    assert falling.c[0] == 0 and falling.images(0.01)[0] > 1600
    none = fit_power_laws(IMAGES, np.zeros(len(IMAGES)), np.ones(len(IMAGES)))
    assert none.errors([10]).tolist() == [[0.0]]


def test_images_are_the_inverse_of_errors():
    found = fit_power_laws(IMAGES, [law(IMAGES, 2, 0.5, 0.02), law(IMAGES, 1, 0.3, 0)], np.ones(len(IMAGES)))
    needed = found.images(0.03)
    np.testing.assert_allclose(np.diag(found.errors(needed)), 0.03, rtol=1e-6)
    assert found.images(0.019)[0] == math.inf


@pytest.mark.parametrize(
    ("images", "errors", "weights"),
    [
        ([1, 2], [0.1, 0.1], [1, 1]),
        ([1, 2, 2], [0.1, 0.1, 0.1], [1, 1, 1]),
        ([0, 2, 3], [0.1, 0.1, 0.1], [1, 1, 1]),
        ([1, 2, 3], [0.1, 0.1, -0.1], [1, 1, 1]),
        ([1, 2, 3], [0.1, 0.1, math.nan], [1, 1, 1]),
        ([1, 2, 3], [0.1, 0.1, 0.1], [1, 1, 0]),
        ([1, 2, 3], [0.1, 0.1], [1, 1, 1]),
    ],
)
def test_what_is_no_curve_is_refused(images, errors, weights):
    with pytest.raises(ValueError, match=r"images|errors"):
        fit_power_laws(images, errors, weights)


def test_an_interval_may_end_at_infinity():
    values = np.concatenate([np.arange(1, 91.0), np.full(10, np.inf)])
    assert [float(end) for end in interval(values)] == [3.0, math.inf]


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """The sampled images are the only noise here, so that the truth is known: 95 % of 60, by chance no less than 51."""
    inside = 0
    for seed in range(60):
        [_], [low], [high] = Curve(measured(seed=seed)).metric([3200])
        inside += low <= 1 - law(3200, 2, 0.5, 0.02) <= high
    assert inside >= 51


def test_needed_images_are_those_of_the_law():
    found = Curve(measured(total=20_000)).forecast(0.95, [3200])
    truth = (2 / (0.05 - 0.02)) ** 2  # 4,444
    low, high = found["needed"]["interval"]
    assert low <= truth <= high and 0.8 * truth < found["needed"]["images"] < 1.2 * truth
    assert found["needed"]["more"] == 0 and found["present"]["value"] > 0.95  # there are 20,000
    rows = {row["images"]: row for row in found["table"]}
    assert set(rows) == {*IMAGES.astype(int).tolist(), 3200, 20_000, 40_000, 80_000}
    assert rows[3200]["measured"] is None
    assert rows[3200]["interval"][0] <= 1 - law(3200, 2, 0.5, 0.02) <= rows[3200]["interval"][1]
    half = Curve(measured()).forecast(None, [])
    assert 1 - half["target"] == pytest.approx((1 - half["present"]["value"]) / 2)


def test_classes_are_named_by_what_falls_not_by_what_is_wrong():
    """The first class has most of the errors, which more images do not change."""
    curve = Curve(measured(by_class=((0.1, 0.9), (0.6, 0.05), (0.3, 0.05))))
    found = curve.classes_that_gain(["a", "b", "c"])
    assert found["mostly"] == ["b"]
    assert [row["class"] for row in found["classes"]] == ["b", "c", "a"]
    assert [row["share"] for row in found["classes"]] == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
    no_classes = Measured(IMAGES, law(IMAGES, 2, 0.5, 0), curve.measured.draws, np.zeros((0, 9)), 2000)
    assert Curve(no_classes).classes_that_gain(["value"]) == {"classes": [], "mostly": []}


def test_the_picture_is_drawn_whatever_is_needed():
    curve = Curve(measured())
    for target in (0.5, 0.95, 0.999):
        assert learning_plot(curve, curve.forecast(target, []), title="accuracy").startswith(b"\x89PNG")
