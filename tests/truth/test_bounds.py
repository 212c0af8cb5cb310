import functools
import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from vaebench.grid.axes import LIKELIHOODS
from vaebench.truth.bounds import (
    bce_ceiling,
    bce_floor,
    density_ceiling,
    empirical_entropy,
    mutual_information_ceiling,
)

GAUSSIAN_PEAK = -0.5 * math.log(2 * math.pi)
LOG_DENSITIES = {
    "gaussian": stats.norm.logpdf,
    "laplace": stats.laplace.logpdf,
    "logistic": stats.logistic.logpdf,
    "student_t": functools.partial(stats.t.logpdf, df=5),
}


def cross_entropy(target, probability):
    """-E log Bernoulli(b | probability) over b ~ Bernoulli(target), by its two outcomes."""
    masses = stats.bernoulli.logpmf(1, probability), stats.bernoulli.logpmf(0, probability)
    return -(target * masses[0] + (1 - target) * masses[1])


def grey(seed, count, dimension):
    return np.random.default_rng(seed).uniform(0.02, 0.98, (count, dimension))


def test_bce_floor_is_the_loss_of_a_decoder_that_returns_its_target():
    x = grey(0, 5, 7)
    assert bce_floor(x) == pytest.approx(cross_entropy(x, x).sum(axis=1).mean(), rel=1e-13)


def test_bce_floor_is_the_least_loss():
    x = grey(1, 2, 3)
    least = [
        optimize.minimize_scalar(
            lambda p, target=target: cross_entropy(target, p), bounds=(1e-6, 1 - 1e-6)
        ).fun
        for target in x.ravel()
    ]
    assert bce_floor(x) == pytest.approx(sum(least) / 2, abs=1e-8)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([[0, 1, 1], [1, 0, 0]], 0.0),
        ([[0.5, 0.5]], 2 * math.log(2)),
        ([[0.5], [0.0], [1.0], [0.0]], math.log(2) / 4),
    ],
    ids=["binary", "half", "mean over images"],
)
def test_bce_floor_of_known_pixels(x, expected):
    assert bce_floor(x) == pytest.approx(expected, abs=1e-15)


def test_bce_ceiling_is_the_loss_of_the_training_mean():
    train, test = grey(2, 6, 4), grey(3, 5, 4)
    loss = cross_entropy(test, train.mean(axis=0)).sum(axis=1)
    assert bce_ceiling(train, test) == pytest.approx(loss.mean(), rel=1e-13)


def test_no_constant_decoder_beats_the_bce_ceiling_on_its_training_images():
    train, step = grey(4, 6, 3), 1e-3
    best = bce_ceiling(train, train)
    for change in (*(step * np.eye(3)), *(-step * np.eye(3))):
        assert cross_entropy(train, train.mean(axis=0) + change).sum(axis=1).mean() > best
    assert bce_floor(train) < best


def test_a_pixel_never_on_in_training_costs_nothing_while_it_stays_off():
    assert bce_ceiling([[0.0, 0.5]], [[0.0, 0.5]], clip=0) == pytest.approx(math.log(2))
    assert bce_ceiling([[0.0, 0.5]], [[0.1, 0.5]], clip=0) == math.inf


@pytest.mark.parametrize(("constant", "pixel"), [(0.0, 0.1), (1.0, 0.9)])
def test_a_pixel_constant_in_training_costs_what_the_clip_allows(constant, pixel):
    clipped = abs(constant - 1e-4)
    expected = cross_entropy(pixel, clipped)
    assert bce_ceiling([[constant]], [[pixel]], clip=1e-4) == pytest.approx(expected, rel=1e-12)
    assert bce_ceiling([[constant]], [[pixel]]) > expected


@pytest.mark.parametrize("clip", [-1e-3, 0.5, math.nan])
def test_clip_must_leave_an_interval(clip):
    with pytest.raises(ValueError, match=r"clip must be at least 0 and below 0\.5"):
        bce_ceiling([[0.5]], [[0.5]], clip)


@pytest.mark.parametrize("x", [[[-0.1]], [[1.1]], [[255.0]]])
def test_pixels_must_lie_in_the_unit_interval(x):
    for call in (bce_floor, lambda x: bce_ceiling(x, [[0.5]]), lambda x: bce_ceiling([[0.5]], x)):
        with pytest.raises(ValueError, match=r"pixels must be in \[0, 1\]"):
            call(x)


def test_bce_ceiling_needs_two_sets_of_the_same_size():
    with pytest.raises(ValueError, match="must have 2 pixels"):
        bce_ceiling([[0.5, 0.5]], [[0.5]])


@pytest.mark.parametrize("scale", [1e-3, 0.1, 2.0])
@pytest.mark.parametrize("likelihood", LOG_DENSITIES)
def test_a_ceiling_is_reached_at_the_mode_and_nowhere_passed(likelihood, scale):
    log_density = LOG_DENSITIES[likelihood]
    log_peak = LIKELIHOODS[likelihood].log_peak
    assert density_ceiling(log_peak, 7, scale) == pytest.approx(
        7 * log_density(0.0, scale=scale), rel=1e-13
    )
    x = scale * np.linspace(-3, 3, 101)
    assert np.max(log_density(x, scale=scale)) <= density_ceiling(log_peak, 1, scale) + 1e-12


@pytest.mark.parametrize("likelihood", LOG_DENSITIES)
def test_a_ceiling_takes_one_scale_a_pixel(likelihood):
    scales = np.array([0.1, 1.0, 5.0])
    expected = LOG_DENSITIES[likelihood](0.0, scale=scales).sum()
    log_peak = LIKELIHOODS[likelihood].log_peak
    assert density_ceiling(log_peak, 3, scales) == pytest.approx(expected, rel=1e-13)


def test_no_average_over_z_passes_the_ceiling():
    """p(x) of a Gaussian decoder that moves with z, integrated over z."""
    p = integrate.quad(lambda z: stats.norm.pdf(z) * stats.norm.pdf(0.2, math.tanh(z), 0.1), -8, 8)
    assert math.log(p[0]) < density_ceiling(GAUSSIAN_PEAK, 1, 0.1)


@pytest.mark.parametrize(
    ("variance", "expected"), [(1.0, -720.448), (0.03, 654.1), (0.01, 1084.8), (0.005, 1356.5)]
)
def test_the_published_gaussian_ceilings_of_784_pixels(variance, expected):
    digits = 3 if variance == 1 else 1
    assert round(density_ceiling(GAUSSIAN_PEAK, 784, math.sqrt(variance)), digits) == expected


@pytest.mark.parametrize(
    ("dimension", "scale", "message"),
    [
        (3, 0.0, "positive and finite"),
        (3, math.nan, "positive and finite"),
        (3, math.inf, "positive and finite"),
        (3, [0.1, -0.1, 0.1], "positive and finite"),
        (3, [0.1, 0.1], "one number or one for each of"),
        (0, 0.1, "at least 1 pixel"),
    ],
)
def test_a_ceiling_needs_pixels_and_positive_scales(dimension, scale, message):
    with pytest.raises(ValueError, match=message):
        density_ceiling(GAUSSIAN_PEAK, dimension, scale)


def test_every_family_with_a_scale_and_no_other_has_a_ceiling():
    assert {name for name, each in LIKELIHOODS.items() if each.has_scale} == set(LOG_DENSITIES)
    with pytest.raises(ValueError, match="family without a scale"):
        density_ceiling(LIKELIHOODS["categorical"].log_peak, 1, 1.0)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((9, 4)), 0.0),
        (np.eye(5), math.log(5)),
        ([[1, 0], [0, 1], [1, 0], [1, 1]], 1.5 * math.log(2)),
        ([[-0.0], [0.0]], 0.0),
    ],
    ids=["constant", "all different", "one repeated", "two zeros"],
)
def test_empirical_entropy_of_known_sets(images, expected):
    assert empirical_entropy(images) == pytest.approx(expected, abs=1e-15)


def test_no_probability_mass_beats_the_empirical_entropy():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 2, (50, 2))
    floor = empirical_entropy(images)
    shares = np.bincount(images @ [2, 1], minlength=4) / 50
    assert floor == pytest.approx(stats.entropy(shares), rel=1e-13)
    assert all(-shares @ np.log(mass) > floor for mass in rng.dirichlet(np.ones(4), 20))


def test_mutual_information_ceiling_is_log_n():
    assert round(mutual_information_ceiling(10_000), 3) == 9.210
    assert mutual_information_ceiling(1) == 0.0
    with pytest.raises(ValueError, match="at least 1, got 0"):
        mutual_information_ceiling(0)
