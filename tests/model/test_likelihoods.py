"""Every family is normalised, right at every parameter, and has all its constants."""

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from scipy.special import log_ndtr
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS, LikelihoodChoice
from vaebench.model.likelihoods import (
    SCALE_FLOOR,
    Likelihood,
    LocationScale,
    count_edges,
    family,
    level_edges,
)
from vaebench.model.likelihoods.bernoulli import Bernoulli
from vaebench.model.likelihoods.categorical import Categorical
from vaebench.model.likelihoods.continuous_bernoulli import ContinuousBernoulli

SCIPY = {
    "gaussian": stats.norm,
    "laplace": stats.laplace,
    "logistic": stats.logistic,
    "student_t": stats.t(5),
}
FAMILIES = tuple(SCIPY)
SCALES = (1e-3, 0.05, 1.0, 30.0)
LOCATIONS = (-0.7, 0.0, 0.31, 0.5, 1.0, 1.6)
LOGITS = (-200.0, -40.0, -15.0, -1.0, -0.14, -1e-5, 0.0, 1e-3, 0.99, 1.01, 16.0, 40.0, 200.0)
LEVELS = (2, 17, 256)


def one_pixel(values: Tensor | float) -> Tensor:
    """Values, one a draw, as tensors of one image of one pixel: ``(1, n, 1, 1)``."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def of(name: str) -> type[LocationScale]:
    found = family(name)
    assert issubclass(found, LocationScale)
    return found


def located(name: str, mean: float, scale: float) -> LocationScale:
    return of(name)(one_pixel(mean), one_pixel(scale))


def at(observed: Likelihood, x: float) -> float:
    return observed.log_prob(one_pixel(x)).item()


def scipy_log_density(name: str, x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return SCIPY[name].logpdf((x - mean) / scale) - np.log(scale)


def log_masses(observed: Likelihood, levels: int, *, dequantized: bool) -> Tensor:
    """The log-mass of each grey level of one pixel, ``(levels,)``."""
    index = torch.arange(levels).reshape(1, levels, 1, 1)
    edges = level_edges(index, levels, dequantized=dequantized, dtype=torch.float64)
    return observed.log_mass(edges).flatten()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scale", SCALES)
def test_a_density_with_a_scale_integrates_to_one(name: str, scale: float) -> None:
    observed = located(name, 0.3, scale)

    def density(t: float) -> float:
        return math.exp(at(observed, 0.3 + scale * t)) * scale

    total = integrate.quad(density, -np.inf, 0)[0] + integrate.quad(density, 0, np.inf)[0]
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_integrates_to_one(logit: float) -> None:
    observed = ContinuousBernoulli(one_pixel(logit))
    # The mass lies within some 1 / |logit| of one end: the pieces shrink towards both.
    ends = 0.5 ** np.arange(1, 14)
    knots = np.unique(np.concatenate(([0, 1], ends, 1 - ends)))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    width = np.diff(knots)[:, None]
    x = knots[:-1, None] + width * (nodes + 1) / 2
    density = observed.log_prob(one_pixel(torch.from_numpy(x.ravel()))).exp().numpy().ravel()
    assert density @ (width / 2 * weights).ravel() == pytest.approx(1, abs=1e-12)
    mean = (x.ravel() * density) @ (width / 2 * weights).ravel()
    assert observed.mean.item() == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_density_is_that_of_scipy_summed_over_pixels(name: str) -> None:
    random = np.random.default_rng(1)
    mean, x = random.normal(0.5, 0.4, (2, 3, 5, 7))
    scale = random.uniform(0.01, 2, (3, 5, 7))
    observed = of(name)(torch.tensor(mean)[None], torch.tensor(scale)[None])
    exact = scipy_log_density(name, x, mean, scale).sum(-1)
    np.testing.assert_allclose(observed.log_prob(torch.tensor(x)[None])[0], exact, rtol=1e-12)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("draws", [1, 3])
def test_the_pixels_of_an_image_are_independent(name: str, draws: int) -> None:
    """The log-probability of an image is the sum over its pixels, each of them alone."""
    entry, source = LIKELIHOODS[name], torch.Generator().manual_seed(24)
    levels = 2 if entry.support == "binary" else 17
    numbers = entry.numbers_per_pixel(levels)
    shape = (2, draws, 4, 5, numbers)
    output = torch.randn(shape, generator=source, dtype=torch.float64)
    grey = torch.randint(0, levels, (2, 1, 4, 5), generator=source)
    scale = one_pixel(0.3) if entry.has_scale else None

    def terms(pixels: slice) -> list[Tensor]:
        observed = made(name, output[..., pixels, :].flatten(-2), scale, levels=levels)
        x = grey[..., pixels]
        if entry.support == "counts":
            return [observed.log_prob(x.double())]
        edges = level_edges(x, levels, dequantized=False, dtype=torch.float64)
        return [observed.log_prob(x / (levels - 1.0)), observed.log_mass(edges)]

    alone = [terms(slice(k, k + 1)) for k in range(5)]
    for whole, *parts in zip(terms(slice(0, 5)), *alone, strict=True):
        assert whole.shape == (2, draws, 4)
        torch.testing.assert_close(whole, torch.stack(parts).sum(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_one_shared_scale_counts_once_a_pixel(name: str) -> None:
    x, mean = np.linspace(0, 1, 7), np.full(7, 0.4)
    observed = of(name)(torch.tensor(mean).reshape(1, 1, 1, 7), one_pixel(0.2))
    exact = scipy_log_density(name, x, mean, np.full(7, 0.2)).sum()
    assert observed.log_prob(torch.tensor(x)).item() == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("dequantized", [False, True])
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", FAMILIES)
def test_masses_of_a_density_with_a_scale_sum_to_one(
    name: str, scale: float, levels: int, dequantized: bool
) -> None:
    for mean in LOCATIONS:
        masses = log_masses(located(name, mean, scale), levels, dequantized=dequantized)
        assert not masses.isnan().any()
        assert masses.logsumexp(0).item() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("dequantized", [False, True])
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("logit", LOGITS)
def test_masses_of_the_continuous_bernoulli_sum_to_one(
    logit: float, levels: int, dequantized: bool
) -> None:
    observed = ContinuousBernoulli(one_pixel(logit))
    masses = log_masses(observed, levels, dequantized=dequantized)
    assert masses.isfinite().all()
    assert masses.logsumexp(0).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("logit", LOGITS)
def test_masses_of_the_bernoulli_sum_to_one(logit: float) -> None:
    masses = log_masses(Bernoulli(one_pixel(logit)), 2, dequantized=False)
    assert masses.logsumexp(0).item() == pytest.approx(0, abs=1e-12)
    assert (masses[1] - masses[0]).item() == pytest.approx(logit, abs=1e-12)


@pytest.mark.parametrize("levels", LEVELS)
def test_masses_of_the_categorical_sum_to_one_also_in_float32(levels: int) -> None:
    logits = torch.randn(levels, generator=torch.Generator().manual_seed(2)) * 40
    observed = Categorical(logits.expand(1, levels, 1, 1, -1))
    masses = log_masses(observed, levels, dequantized=False)
    assert masses.double().logsumexp(0).item() == pytest.approx(0, abs=1e-6)
    exact = torch.distributions.Categorical(logits=logits).logits
    torch.testing.assert_close(masses, exact)
    grey = torch.arange(levels).reshape(1, levels, 1, 1) / (levels - 1)
    torch.testing.assert_close(observed.log_prob(grey).flatten(), masses)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_mass_is_the_integral_of_its_density_over_the_grey_level(name: str) -> None:
    observed = located(name, 0.4, 0.15)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    for dequantized, (k, low, high) in [
        (False, (3, 2.5 / 16, 3.5 / 16)),
        (True, (3, 3 / 17, 4 / 17)),
        (False, (12, 11.5 / 16, 12.5 / 16)),
        (True, (12, 12 / 17, 13 / 17)),
    ]:
        x = low + (high - low) * (nodes + 1) / 2
        density = [math.exp(at(observed, each)) for each in x]
        exact = math.log((high - low) / 2 * float(weights @ density))
        mass = log_masses(observed, 17, dequantized=dequantized)[k].item()
        assert mass == pytest.approx(exact, abs=1e-10)


def test_a_mass_of_the_continuous_bernoulli_stops_at_zero_and_one() -> None:
    logit = 3.0
    masses = log_masses(ContinuousBernoulli(one_pixel(logit)), 17, dequantized=False)
    ends = np.clip((np.arange(18) - 0.5) / 16, 0, 1)
    exact = np.log(np.diff(np.expm1(logit * ends) / np.expm1(logit)))
    np.testing.assert_allclose(masses, exact, rtol=1e-12)


@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_a_gaussian_mass_far_in_the_tail_keeps_its_digits(pixel: float) -> None:
    mean, scale, k = 1 - pixel, 1e-3, 100
    masses = log_masses(located("gaussian", mean, scale), 256, dequantized=False)
    near, far = sorted(abs((k + side) / 255 - mean) / scale for side in (-0.5, 0.5))
    exact = log_ndtr(-near) + np.log1p(-np.exp(log_ndtr(-far) - log_ndtr(-near)))
    assert exact < -50_000
    assert masses[k].item() == pytest.approx(exact, rel=1e-12)


def exact_continuous_bernoulli(logit: np.ndarray, x: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-density and its derivative by the logit, in float64 and another form than the code's.

    log p = x l - log((e^l - 1) / l), d log p / d l = x - E[x].
    """
    size = np.where(logit == 0, 1e-300, np.abs(logit))
    normaliser = np.maximum(logit, 0) + np.log(-np.expm1(-size) / size)
    series = 0.5 + logit / 12 - logit**3 / 720 + logit**5 / 30240
    with np.errstate(all="ignore"):
        mean = np.where(np.abs(logit) < 0.1, series, -1 / np.expm1(-logit) - 1 / logit)
    return x * logit - normaliser, x - mean


@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
def test_the_continuous_bernoulli_is_right_at_every_logit_in_float32(x: float) -> None:
    sizes = np.concatenate(([0], np.logspace(-8, 6, 141), [15.94, 16, 20, 30, 40, 88, 89, 104]))
    logits = np.concatenate((sizes, -sizes)).astype(np.float32)
    exact, slope = exact_continuous_bernoulli(logits.astype(np.float64), x)
    tensor = torch.tensor(logits, requires_grad=True)
    value = ContinuousBernoulli(tensor.reshape(1, -1, 1, 1)).log_prob(torch.tensor([x])).flatten()
    value.sum().backward()
    assert tensor.grad is not None
    error = np.abs(value.detach().numpy() - exact)
    assert (error <= 1e-6 + np.spacing(np.abs(logits))).all()
    np.testing.assert_allclose(tensor.grad, slope, rtol=1e-4, atol=2e-7)


def test_the_continuous_bernoulli_is_torchs_where_torchs_is_right() -> None:
    logits = torch.linspace(-10, 10, 400, dtype=torch.float64)
    logits = logits[logits.abs() > 0.1]
    x = torch.rand(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    ours = ContinuousBernoulli(logits.reshape(1, -1, 1, 1)).log_prob(x.reshape(1, -1, 1, 1))
    theirs = torch.distributions.ContinuousBernoulli(logits=logits).log_prob(x)
    torch.testing.assert_close(ours.flatten(), theirs, rtol=1e-9, atol=1e-9)


def test_the_bernoulli_is_torchs_and_right_at_large_logits() -> None:
    logits = torch.tensor([-40.0, -3.0, 0.0, 2.0, 40.0])
    x = torch.tensor([1.0, 0.0, 1.0, 0.3, 0.0])
    ours = Bernoulli(logits.reshape(1, 1, 1, -1)).log_prob(x).item()
    exact = float((x * logits - torch.nn.functional.softplus(logits.double())).sum())
    assert ours == pytest.approx(exact, rel=1e-6)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    assert ours == pytest.approx(-entropy.item(), rel=1e-6)


def test_the_mean_of_each_family_is_in_pixels() -> None:
    assert Bernoulli(one_pixel(math.log(3))).mean.item() == pytest.approx(0.75)
    assert located("laplace", 0.3, 2.0).mean.item() == 0.3
    logits = torch.log(torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64) + 1e-300)
    assert Categorical(logits.reshape(1, 1, 1, 1, 3)).mean.item() == pytest.approx(0.8)


def test_end_levels_own_the_tails_and_the_others_their_step() -> None:
    edges = level_edges(torch.tensor([0, 1, 4]), 5, dequantized=False, dtype=torch.float64)
    assert edges.lower.tolist() == [-math.inf, 0.125, 0.875]
    assert edges.upper.tolist() == [0.125, 0.375, math.inf]
    edges = level_edges(torch.tensor([0, 1, 4]), 5, dequantized=True, dtype=torch.float64)
    assert edges.lower.tolist() == [-math.inf, 0.2, 0.8]
    assert edges.upper.tolist() == [0.2, 0.4, math.inf]
    with pytest.raises(ValueError, match="at least 2; got levels=1"):
        level_edges(torch.tensor([0]), 1, dequantized=False, dtype=torch.float64)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mass_of_a_count_is_that_within_half_a_count(name: str) -> None:
    edges = count_edges(torch.arange(6).reshape(1, 6, 1, 1), torch.float64)
    masses = located(name, 2.3, 1.5).log_mass(edges).flatten().exp()
    cdf = SCIPY[name].cdf((np.arange(7) - 0.5 - 2.3) / 1.5)
    np.testing.assert_allclose(masses, np.diff(cdf), rtol=1e-10)


def residuals_of(kind: str) -> np.ndarray:
    random = np.random.default_rng(4)
    if kind == "half of them zero":
        return random.normal(0, 0.3, 400) * (random.random(400) < 0.5)
    if kind == "heavy":
        return 0.3 * random.standard_t(2, 400)
    return random.normal(0.05, 0.3, 400)


@pytest.mark.parametrize("kind", ["normal", "heavy", "half of them zero"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_optimal_scale_has_the_highest_likelihood(name: str, kind: str) -> None:
    residuals = residuals_of(kind)

    def loss(log_scale: float) -> float:
        scale = np.full(1, math.exp(log_scale))
        return -float(scipy_log_density(name, residuals, np.zeros(1), scale).sum())

    best = optimize.minimize_scalar(loss, bounds=(-6.5, 2), options={"xatol": 1e-9})
    scale = of(name).optimal_scale(torch.tensor(residuals).reshape(1, 2, 20, 10), (1, 2, 3))
    assert scale.shape == (1, 1, 1, 1)
    assert scale.item() == pytest.approx(math.exp(best.x), rel=1e-5)
    assert loss(math.log(scale.item())) <= best.fun + 1e-8


@pytest.mark.parametrize("name", ["logistic", "student_t"])
def test_the_search_for_the_optimal_scale_starts_at_the_second_moment(name: str) -> None:
    residuals = residuals_of("normal")
    residual = torch.tensor(residuals).reshape(1, 2, 20, 10)
    start = of(name).optimal_scale(residual, (1, 2, 3), steps=0).item()
    assert start == pytest.approx(np.sqrt(np.mean(residuals**2)) / SCIPY[name].std(), rel=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_member_and_each_pixel_can_have_its_own_optimal_scale(name: str) -> None:
    residual = torch.tensor(residuals_of("normal")).reshape(2, 1, 50, 4)
    whole = of(name).optimal_scale(residual, (1, 2))
    assert whole.shape == (2, 1, 1, 4)
    alone = of(name).optimal_scale(residual[1:, ..., 2:3], (1, 2, 3))
    assert whole[1, ..., 2].item() == pytest.approx(alone.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["logistic", "student_t"])
@pytest.mark.parametrize("start", [0.01, 3.0])
def test_each_step_towards_the_optimal_scale_raises_the_likelihood(name: str, start: float) -> None:
    residual = torch.tensor(residuals_of("heavy")).reshape(1, 1, 1, -1)
    scale, zero = one_pixel(start), torch.zeros_like(residual)
    before = -math.inf
    for _ in range(6):
        after = of(name)(zero, scale).log_prob(residual).item()
        assert after >= before - 1e-9
        before = after
        scale = of(name).optimal_scale(residual, (1, 2, 3), start=scale, steps=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_fitted_scale_is_below_the_floor(name: str) -> None:
    assert of(name).optimal_scale(torch.zeros(1, 1, 5, 3), (1, 2, 3)).item() == pytest.approx(
        SCALE_FLOOR
    )
    start = torch.full((1, 1, 1, 1), 0.0)
    small = torch.full((1, 1, 5, 3), 1e-7)
    fitted = of(name).optimal_scale(small, (1, 2, 3), start=start, steps=2)
    assert fitted.item() == pytest.approx(SCALE_FLOOR)


def made(name: str, output: Tensor, scale: Tensor | None = None, **how: object) -> Likelihood:
    return family(name).from_output(output, scale, **({"levels": None, "clip": None} | how))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: made("gausian", x), "unknown likelihood 'gausian'.*bernoulli"),
        (lambda x: made("gaussian", x), "needs a scale"),
        (lambda x: made("bernoulli", x, x), "has no scale"),
        (lambda x: made("categorical", x), "needs grey levels"),
        (
            lambda x: log_masses(Bernoulli(x), 17, dequantized=False),
            "must have 2 levels, not 17",
        ),
        (
            lambda x: log_masses(Categorical(x.expand(1, 1, 1, 1, 3)), 17, dequantized=False),
            "they have 3 and 17",
        ),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(one_pixel(0.0))


def test_a_family_without_a_scale_fits_none() -> None:
    with pytest.raises(TypeError, match="the bernoulli likelihood has none"):
        Bernoulli.optimal_scale(torch.zeros(1, 1, 5, 3), (1, 2, 3))


def test_a_distribution_is_made_of_the_decoders_output() -> None:
    output = torch.arange(12, dtype=torch.float64).reshape(1, 1, 1, 12)
    classes = made("categorical", output, levels=3)
    assert isinstance(classes, Categorical)
    # The numbers of one pixel are side by side.
    assert classes.logits[0, 0, 0, 1].tolist() == [3, 4, 5]
    assert LIKELIHOODS["categorical"].numbers_per_pixel(3) == 3
    assert LIKELIHOODS["gaussian"].numbers_per_pixel(17) == 1
    clipped = made("bernoulli", one_pixel(50.0), levels=2, clip=0.01)
    assert clipped.mean.item() == pytest.approx(0.99)
    clipped = made("continuous_bernoulli", one_pixel(-50.0), levels=2, clip=0.01)
    assert isinstance(clipped, ContinuousBernoulli)
    assert clipped.logits.item() == pytest.approx(-math.log(99))


def example(name: str, draws: int, seed: int) -> Likelihood:
    """p(x|z) of one pixel with the same random parameters in each draw, float64."""
    source = torch.Generator().manual_seed(seed)
    numbers = LIKELIHOODS[name].numbers_per_pixel(17)
    output = torch.randn(1, 1, 1, numbers, generator=source, dtype=torch.float64)
    scale = one_pixel(0.3) if LIKELIHOODS[name].has_scale else None
    return made(name, output.expand(1, draws, 1, numbers), scale, levels=17)


def points(name: str) -> tuple[Tensor, Tensor]:
    """Values of x ``(n,)`` and the weights of a sum or integral over them."""
    support = LIKELIHOODS[name].support
    if support in ("binary", "levels"):
        count = 2 if support == "binary" else 17
        return torch.arange(count).double() / (count - 1), torch.ones(count).double()
    if support == "counts":
        return torch.arange(3_000).double(), torch.ones(3_000).double()
    low, high, count = (0, 1, 20_001) if support == "unit" else (-250, 250, 2_000_001)
    x = torch.linspace(low, high, count, dtype=torch.float64)
    weights = torch.full_like(x, (high - low) / (count - 1))
    weights[[0, -1]] /= 2
    return x, weights


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_mean_and_mode_are_those_of_log_prob(name: str) -> None:
    x, weights = points(name)
    for seed in range(3):
        observed = example(name, len(x), seed)
        log_prob = observed.log_prob(one_pixel(x)).flatten()
        p = log_prob.exp() * weights
        assert p.sum().item() == pytest.approx(1, abs=1e-6)
        assert observed.mean[0, 0].item() == pytest.approx((p @ x).item(), abs=1e-5)
        at_mode = observed.log_prob(observed.mode).max()
        assert at_mode == pytest.approx(log_prob.max().item(), abs=1e-3)
        assert at_mode >= log_prob.max() - 1e-12


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_gradients_of_a_log_probability_are_right(name: str) -> None:
    entry = LIKELIHOODS[name]
    source = torch.Generator().manual_seed(21)
    x = torch.rand(5, generator=source, dtype=torch.float64)
    output = torch.randn(
        1, 2, 3, 5 * entry.numbers_per_pixel(17), generator=source, dtype=torch.float64
    ).requires_grad_()
    scale = torch.tensor([[[[0.3]]]], dtype=torch.float64, requires_grad=True)

    def log_prob(output: Tensor, scale: Tensor) -> Tensor:
        return made(name, output, scale if entry.has_scale else None, levels=17).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (output, scale))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_double_changes_the_precision_only(name: str) -> None:
    output = torch.randn(1, 2, 3, 34, generator=torch.Generator().manual_seed(22))
    scale = torch.tensor([[[[0.3]]]]) if LIKELIHOODS[name].has_scale else None
    single = made(name, output, scale, levels=17)
    torch.testing.assert_close(single.double().mean.float(), single.mean)
    assert type(single.double()) is type(single)


class TestRegistry:
    """An incomplete family fails when it is looked up, not when it is scored."""

    entry = LikelihoodChoice(
        "cauchy", "density", "density", "real", "test_likelihoods:Cauchy", log_peak=-math.log(3.14)
    )

    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(LIKELIHOODS, "cauchy", self.entry)

    def test_an_entry_without_a_class_is_refused(self) -> None:
        with pytest.raises(AttributeError, match="Cauchy"):
            family("cauchy")

    @pytest.mark.parametrize(
        "lacking",
        ["log_mass", "log_prob", "mean", "mode", "sample", "optimal_scale", "double"],
    )
    def test_a_class_that_lacks_a_method_is_refused(
        self, lacking: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = ("_from_output", "mean", "mode", "log_prob", "log_mass", "sample", "double")
        body = {each: None for each in (*names, "optimal_scale") if each != lacking}
        made_class = type("Cauchy", (Likelihood,), body | {"facts": self.entry})
        monkeypatch.setattr(sys.modules["test_likelihoods"], "Cauchy", made_class, raising=False)
        with pytest.raises(TypeError, match=f"must also implement {lacking}$"):
            family("cauchy")

    def test_something_else_and_another_entrys_facts_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = sys.modules["test_likelihoods"]
        monkeypatch.setattr(module, "Cauchy", object(), raising=False)
        with pytest.raises(TypeError, match="must be a subclass of Likelihood"):
            family("cauchy")
        monkeypatch.setattr(module, "Cauchy", of("laplace"))
        with pytest.raises(TypeError, match="must set facts"):
            family("cauchy")


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_registered_family_is_complete(name: str) -> None:
    assert family(name).facts is LIKELIHOODS[name]
    assert issubclass(family(name), LocationScale) == LIKELIHOODS[name].has_scale


def test_the_floor_of_a_fitted_scale_is_that_of_the_contract() -> None:
    assert SCALE_FLOOR == 1e-3


@pytest.mark.parametrize("pixels", [1, 2, 3, 6, 7, 9, 12, 49])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_the_bernoulli_multiplies_no_pixel_twice(pixels: int, images: int) -> None:
    source = torch.Generator().manual_seed(pixels)
    logits = 5 * torch.randn(1, 2, images, pixels, generator=source, dtype=torch.float64)
    x = torch.rand(1, 1, images, pixels, generator=source, dtype=torch.float64)
    expected = (x * logits - torch.logaddexp(logits, torch.zeros(()).double())).sum(-1)
    torch.testing.assert_close(Bernoulli(logits).log_prob(x), expected)
