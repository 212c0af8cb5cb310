"""The terms of the bound on a split, and the code length of the discrete image."""

import math

import numpy as np
import pytest
import torch
from scored_models import (
    cell,
    grey_split,
    made,
    random_grey,
    real_split,
    source,
    standard_error,
)
from torch import Tensor

from vaebench.evaluation.bound import (
    bound_metrics,
    mean_and_se,
    score,
    selection_metrics,
    why_no_bits,
)
from vaebench.evaluation.evaluate import fit_scale
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.likelihoods import level_edges
from vaebench.model.likelihoods.gaussian import Gaussian
from vaebench.model.objective import draw
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric
from vaebench.truth.ppca import LinearVAE

SIGMA = 0.4


def linear_truth(pixels: int = 10, latent_dim: int = 3) -> LinearVAE:
    random = np.random.default_rng(53)
    W, mu = random.normal(0, 0.5, (pixels, latent_dim)), random.normal(0, 0.5, pixels)
    best = LinearVAE.with_optimal_encoder(W, mu, SIGMA)
    return LinearVAE(W, mu, SIGMA, 0.8 * best.V, 1.5 * best.posterior_variance)


def known(truth: LinearVAE, **axes: object) -> tuple[VAE, Cell]:
    design = cell(dataset="linear-gaussian", sigma=SIGMA, latent_dim=truth.latent_dim, **axes)
    weights = {
        "encoder.mean.weight": truth.V,
        "encoder.mean.bias": -truth.V @ truth.mu,
        "encoder.spread": np.log(truth.posterior_variance),
        "decoder.weight": truth.W,
        "decoder.bias": truth.mu,
    }
    return made(design, (1, 1, truth.dimension), weights, levels=None), design


def drawn_from(truth: LinearVAE, count: int) -> EvaluationSplit:
    images, _ = truth.simulate(count, np.random.default_rng(54))
    return real_split(torch.from_numpy(images).float())


def value(metric: Metric) -> float:
    assert metric.value is not None, metric.reason
    return metric.value


def test_scores_are_the_exact_terms_of_a_linear_vae() -> None:
    truth = linear_truth()
    vae, design = known(truth, eval_samples=50)
    split = drawn_from(truth, 2_500)
    scores = score(vae, design, split, source())
    exact = truth.bound(split.pixels)
    assert scores.kl is not None
    assert scores.kl_per_dimension is not None
    np.testing.assert_allclose(scores.kl, exact.kl, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores.kl_per_dimension, exact.kl_per_dimension.mean(0), rtol=1e-5)
    # Sampled, image by image: 50 draws, whose error averages out over the images.
    error = (scores.reconstruction_error.numpy() - exact.reconstruction_error) / len(split)
    assert abs(error.sum()) < 4 * np.sqrt((error**2).sum())
    assert np.abs(error.sum()) < 0.05
    codes = truth.encode(split.pixels)
    np.testing.assert_allclose(scores.code_variance, codes.var(0), rtol=1e-4)
    moment = (codes**2).mean(0) + truth.posterior_variance
    np.testing.assert_allclose(scores.second_moment, moment, rtol=1e-4)
    residual = split.pixels.numpy() - truth.mu - codes @ truth.W.T
    at_mean = 5 * math.log(2 * math.pi * SIGMA**2) + (residual**2).sum(1) / (2 * SIGMA**2)
    np.testing.assert_allclose(scores.at_mean, at_mean, rtol=1e-4)
    squared = truth.distortion(split.pixels).mean() / 10
    assert scores.squared_error.mean().item() == pytest.approx(squared, rel=5e-3)
    assert scores.scale_squared == pytest.approx(SIGMA**2)


def test_metrics_are_means_over_images_with_their_standard_error() -> None:
    truth = linear_truth()
    vae, design = known(truth)
    split = drawn_from(truth, 1_200)
    scores = score(vae, design, split, source())
    metrics = bound_metrics(design, split, scores)
    exact = truth.bound(split.pixels)
    elbo = metrics["elbo"]
    assert elbo.n == 1_200
    assert elbo.se is not None
    assert abs(value(elbo) - exact.elbo.mean()) < 4 * elbo.se
    assert scores.kl is not None
    spread = np.std((scores.reconstruction_error + scores.kl).numpy(), ddof=1)
    assert elbo.se == pytest.approx(spread / math.sqrt(1_200), rel=1e-9)
    parts = value(metrics["reconstruction_error"]) + value(metrics["kl"])
    assert value(elbo) == pytest.approx(-parts, abs=1e-9)
    assert value(metrics["kl"]) == pytest.approx(exact.kl.mean(), rel=1e-5)
    assert value(metrics["reconstruction_error_at_mean"]) < value(metrics["reconstruction_error"])
    assert value(metrics["sigma_fitted"]) == pytest.approx(SIGMA)
    assert metrics["bits_per_dim"].reason is not None
    assert "real-valued" in metrics["bits_per_dim"].reason


@pytest.mark.parametrize("prior_scale", [1.0, 3.0])
def test_active_units_are_counted_above_a_hundredth_of_the_priors_variance(
    prior_scale: float,
) -> None:
    images = torch.tensor([[-1.0], [1.0]]).repeat(50, 1)
    sizes = prior_scale * torch.tensor([[0.0], [0.099], [0.101], [1.0]])
    design = cell(dataset="linear-gaussian", latent_dim=4, prior_scale=prior_scale)
    vae = made(design, (1, 1, 1), {"encoder.mean.weight": sizes}, levels=None)
    split = real_split(images)
    metrics = bound_metrics(design, split, score(vae, design, split, source()))
    assert value(metrics["active_units"]) == 2


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        score(made(cell(), (1, 4, 4)), cell(), grey_split(random_grey(0)), source())


def test_one_image_has_a_mean_and_no_standard_error() -> None:
    split = grey_split(random_grey(1))
    vae = made(cell(), (1, 4, 4))
    metrics = bound_metrics(cell(), split, score(vae, cell(), split, source()))
    for name in ("elbo", "kl", "bits_per_dim", "mse"):
        assert metrics[name].n == 1
        assert metrics[name].se is None
        assert math.isfinite(value(metrics[name]))
    assert value(metrics["active_units"]) == 0


def test_a_value_that_is_not_finite_is_absent_with_the_reason() -> None:
    for values in ([1.0, math.nan], [1.0, math.inf]):
        metric = mean_and_se("elbo", torch.tensor(values))
        assert metric.value is None
        assert metric.reason == "the value is not finite"


def test_a_collapsed_posterior_has_no_divergence_and_no_active_unit() -> None:
    split = grey_split(random_grey(40))
    vae = made(cell(), (1, 4, 4), {"decoder.bias": 0.5})
    scores = score(vae, cell(), split, source())
    metrics = bound_metrics(cell(), split, scores)
    assert value(metrics["kl"]) == 0
    assert value(metrics["active_units"]) == 0
    assert scores.kl_per_dimension is not None
    assert scores.kl_per_dimension.tolist() == [0, 0]
    exact = torch.distributions.Normal(0.5, 0.2).log_prob(split.pixels).sum(1).mean()
    assert value(metrics["elbo"]) == pytest.approx(exact.item(), rel=1e-5)


def test_a_decoder_without_variance_gives_reasons_and_no_numbers() -> None:
    split = grey_split(random_grey(10))
    vae = made(cell(), (1, 4, 4))
    vae.fixed_scale.zero_()
    metrics = bound_metrics(cell(), split, score(vae, cell(), split, source()))
    for name in ("elbo", "reconstruction_error", "bits_per_dim"):
        assert metrics[name].value is None
        assert metrics[name].reason == "the value is not finite"
    assert math.isfinite(value(metrics["kl"]))


def test_a_delta_posterior_has_no_elbo_and_counts_its_code() -> None:
    design = cell(posterior="delta", latent_dim=3)
    split = grey_split(random_grey(30))
    weights = {"encoder.mean.bias": [0.0, 1e-4, -2.0], "decoder.bias": 0.5}
    metrics = bound_metrics(
        design, split, score(made(design, (1, 4, 4), weights), design, split, source())
    )
    for name in ("elbo", "kl", "bits_per_dim"):
        assert metrics[name].value is None
        assert "delta posterior" in str(metrics[name].reason)
    assert value(metrics["nonzero_codes"]) == 1
    assert value(metrics["reconstruction_error"]) == pytest.approx(
        value(metrics["reconstruction_error_at_mean"])
    )


@pytest.mark.parametrize(
    ("axes", "split", "reason"),
    [
        ({"posterior": "delta"}, grey_split(random_grey(2)), "delta posterior"),
        ({"dataset": "linear-gaussian"}, real_split(torch.rand(2, 16)), "real-valued"),
        ({"likelihood": "bernoulli", "sigma": None}, grey_split(random_grey(2)), "17 grey levels"),
        ({"likelihood": "bernoulli", "sigma": None}, grey_split(random_grey(2), "static"), None),
        ({}, grey_split(random_grey(2)), None),
        ({}, grey_split(random_grey(2), dequantize=True), None),
    ],
)
def test_bits_per_dim_is_absent_only_where_it_has_no_meaning(
    axes: dict[str, object], split: EvaluationSplit, reason: str | None
) -> None:
    got = why_no_bits(cell(**axes), split)
    assert got is None if reason is None else reason in str(got)


def bits(vae: VAE, design: Cell, split: EvaluationSplit) -> Metric:
    return bound_metrics(design, split, score(vae, design, split, source()))["bits_per_dim"]


FAMILIES = ("gaussian", "laplace", "logistic", "student_t", "continuous_bernoulli", "categorical")


@pytest.mark.parametrize(
    ("family", "dequantize"),
    [(family, False) for family in FAMILIES] + [(family, True) for family in FAMILIES[:-1]],
)
def test_a_constant_image_costs_no_less_than_nothing(family: str, dequantize: bool) -> None:
    grey = torch.full((20, 1, 4, 4), LEVEL, dtype=torch.uint8)
    split = grey_split(grey, dequantize=dequantize)
    scaled = family not in ("continuous_bernoulli", "categorical")
    costs = []
    for sigma in (1e-3, 0.03, 0.3) if scaled else (None,):
        design = cell(likelihood=family, sigma=sigma, dequantize=dequantize)
        bias = decoder_bias(family, dequantize)
        vae = made(design, (1, 4, 4), {"decoder.bias": bias})
        costs.append(value(bits(vae, design, split)))
    assert min(costs) >= 0
    if family != "continuous_bernoulli":
        assert costs[0] == pytest.approx(0, abs=1e-3 if family == "student_t" else 1e-6)
        assert costs == sorted(costs)


LEVEL = 5


def decoder_bias(family: str, dequantize: bool) -> Tensor:
    if family == "categorical":
        return (60.0 * (torch.arange(17) == LEVEL)).repeat(16)
    if family == "continuous_bernoulli":
        return torch.tensor(-1.5)
    return torch.tensor((LEVEL + 0.5) / 17 if dequantize else LEVEL / 16)


def grey_masses(mean: float, sigma: float, levels: int) -> np.ndarray:
    index = torch.arange(levels).reshape(1, 1, levels, 1)
    edges = level_edges(index, levels, dequantized=False, dtype=torch.float64)
    at = Gaussian(
        torch.tensor(mean, dtype=torch.float64).reshape(1, 1, 1, 1),
        torch.tensor(sigma, dtype=torch.float64).reshape(1, 1, 1, 1),
    )
    return at.log_mass(edges).exp().flatten().numpy()


def test_the_bits_of_the_true_model_are_the_entropy_of_the_data() -> None:
    masses = grey_masses(0.4, 0.15, 17)
    entropy = -float(masses @ np.log2(masses))
    drawn = np.random.default_rng(55).choice(17, p=masses / masses.sum(), size=(3_000, 1, 4, 4))
    split = grey_split(torch.from_numpy(drawn.astype(np.uint8)))
    wrong = []
    for mean, sigma in [(0.4, 0.15), (0.4, 0.3), (0.5, 0.15), (0.4, 0.08)]:
        design = cell(sigma=sigma)
        got = bits(made(design, (1, 4, 4), {"decoder.bias": mean}), design, split)
        assert got.se is not None
        if (mean, sigma) == (0.4, 0.15):
            assert abs(value(got) - entropy) < 4 * got.se
            assert got.se < 0.01
        else:
            others = grey_masses(mean, sigma, 17)
            expected = -float(masses @ np.log2(others))
            wrong.append(value(got))
            assert value(got) == pytest.approx(expected, abs=4 * got.se)
    assert min(wrong) > entropy + 0.05


def discretised(sigma: float, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All images of three pixels of a linear Gaussian model, rounded to grey levels.

    Returns the images (n, 3), their exact probabilities (n,) and the column W (3,).
    """
    W = np.array([0.25, -0.15, 0.2])
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    masses = np.stack([[grey_masses(0.5 + w * z, sigma, levels) for z in nodes] for w in W])
    probability = np.einsum(
        "z,za,zb,zc->abc", weights / weights.sum(), masses[0], masses[1], masses[2]
    )
    images = np.stack(np.meshgrid(*3 * [np.arange(levels)], indexing="ij"), -1).reshape(-1, 3)
    return images, probability.ravel(), W


@pytest.mark.parametrize("dequantize", [False, True])
def test_bits_of_a_discretised_linear_gaussian_stay_above_its_entropy(dequantize: bool) -> None:
    sigma, levels = 0.12, 9
    images, probability, W = discretised(sigma, levels)
    assert probability.sum() == pytest.approx(1, abs=1e-9)
    entropy = -float(probability @ np.log2(probability)) / 3
    rows = np.random.default_rng(56).choice(
        len(images), p=probability / probability.sum(), size=6_000
    )
    grey = torch.from_numpy(images[rows].astype(np.uint8)).reshape(-1, 1, 1, 3)
    split = grey_split(grey, levels=levels, dequantize=dequantize)
    truth = LinearVAE.with_optimal_encoder(W[:, None], np.full(3, 0.5), sigma)
    design = cell(sigma=sigma, latent_dim=1, dequantize=dequantize)
    weights = {
        "encoder.mean.weight": truth.V,
        "encoder.mean.bias": -truth.V @ truth.mu,
        "encoder.spread": np.log(truth.posterior_variance),
        "decoder.weight": truth.W,
        "decoder.bias": truth.mu,
    }
    got = bits(made(design, (1, 1, 3), weights, levels=levels), design, split)
    assert got.se is not None
    assert value(got) > entropy - 3 * got.se
    assert value(got) < entropy + 0.1


def test_bits_of_binary_data_are_the_elbo_in_other_units() -> None:
    design = cell(likelihood="bernoulli", sigma=None, binarization="static")
    split = grey_split(random_grey(50), "static")
    vae = made(design, (1, 4, 4), levels=2)
    metrics = bound_metrics(design, split, score(vae, design, split, source()))
    expected = -value(metrics["elbo"]) / (16 * math.log(2))
    assert value(metrics["bits_per_dim"]) == pytest.approx(expected, rel=1e-6)


def test_sigma_is_a_root_mean_square_where_it_is_a_vector() -> None:
    split = grey_split(random_grey(10))
    design = cell(sigma="per_pixel")
    vae = made(design, (1, 4, 4))
    vae.raw_scale.copy_(torch.linspace(-4, 0, 16))
    scale = vae.scale()
    assert scale is not None
    metrics = bound_metrics(design, split, score(vae, design, split, source()))
    expected = scale.square().mean().sqrt().item()
    assert value(metrics["sigma_fitted"]) == pytest.approx(expected, rel=1e-6)
    bernoulli = cell(likelihood="bernoulli", sigma=None)
    metrics = bound_metrics(
        bernoulli, split, score(made(bernoulli, (1, 4, 4)), bernoulli, split, source())
    )
    assert metrics["sigma_fitted"].reason == "the bernoulli likelihood has no scale"


@pytest.mark.parametrize(
    ("family", "size"),
    [("gaussian", lambda r: r.square().mean().sqrt()), ("laplace", lambda r: r.abs().mean())],
)
def test_an_optimal_scale_is_fitted_to_the_whole_training_split(family: str, size: object) -> None:
    assert callable(size)
    design = cell(likelihood=family, sigma="optimal")
    vae = made(design, (1, 4, 4), {"decoder.bias": 0.3})
    train = grey_split(random_grey(1_500))
    fit_scale(vae, train, source())
    assert vae.fixed_scale.item() == pytest.approx(size(train.pixels - 0.3).item(), rel=1e-5)


def test_only_an_optimal_scale_is_fitted() -> None:
    vae = made(cell(sigma=0.2), (1, 4, 4))
    fit_scale(vae, grey_split(random_grey(20)), source())
    assert vae.fixed_scale.item() == pytest.approx(0.2)


@pytest.mark.parametrize("fitted_by", ["evaluation", "training"])
def test_an_optimal_scale_is_fitted_at_sampled_codes(fitted_by: str) -> None:
    """Of a linear VAE E (x - W z)^2 = |x - W m|^2 + |W S^(1/2)|^2: the second term is no mistake.

    With a posterior mean of 0 and a variance of 1 the squared scale is the mean over pixels of
    x^2 + |W|^2; fitted at the posterior mean it would lack the second term.
    """
    design = cell(sigma="optimal")
    W = np.random.default_rng(57).normal(0, 0.5, (16, 2))
    vae = made(design, (1, 4, 4), {"decoder.weight": W})
    train = grey_split(random_grey(4_000))
    if fitted_by == "evaluation":
        fit_scale(vae, train, source())
    else:
        noise = torch.randn(1, 1, 4_000, 2, generator=source())
        draw(vae, train.pixels.unsqueeze(0), noise, fit_scale=True)
    at_mean = train.pixels.square().mean().item()
    expected = at_mean + np.square(W).sum() / 16
    assert vae.fixed_scale.item() ** 2 == pytest.approx(expected, rel=0.03)
    assert expected > 1.3 * at_mean


@pytest.mark.parametrize("valid", [False, True])
def test_a_design_is_chosen_and_reported_on_different_images(valid: bool) -> None:
    """A decoder that ignores the code: the ELBO of each image is known."""
    design = cell()
    vae = made(design, (1, 4, 4), {"decoder.bias": 0.5})
    test, other = grey_split(random_grey(31)), grey_split(random_grey(20, seed=7))
    scored = (test, score(vae, design, test, source()))
    chosen_by = (other, score(vae, design, other, source())) if valid else None
    metrics = selection_metrics(design, scored, chosen_by)

    normal = torch.distributions.Normal(0.5, 0.2)
    exact = normal.log_prob(test.pixels).sum(1).double()
    first, second = (exact[0::2], exact[1::2])
    if valid:
        first, second = normal.log_prob(other.pixels).sum(1).double(), exact
    for name, values in (("elbo_selection", first), ("elbo_held_out", second)):
        assert value(metrics[name]) == pytest.approx(float(values.mean()), rel=1e-5)
        assert metrics[name].n == len(values)
        assert metrics[name].se == pytest.approx(standard_error(values), rel=1e-4)
    assert metrics["bits_per_dim_selection"].n == len(first)
    assert metrics["bits_per_dim_held_out"].n == len(second)
    whole = bound_metrics(design, *scored)
    if valid:
        assert metrics["elbo_held_out"].value == whole["elbo"].value
        assert metrics["bits_per_dim_held_out"].value == whole["bits_per_dim"].value
    else:
        parts = [metrics[f"bits_per_dim_{part}"] for part in ("selection", "held_out")]
        together = sum(value(each) * (each.n or 0) for each in parts) / len(test)
        assert together == pytest.approx(value(whole["bits_per_dim"]))


def test_a_score_that_has_no_meaning_has_none_for_choosing_either() -> None:
    design = cell(posterior="delta")
    test = grey_split(random_grey(10))
    scores = score(made(design, (1, 4, 4)), design, test, source())
    metrics = selection_metrics(design, (test, scores))
    assert len(metrics) == 4
    assert all("delta posterior has no" in str(each.reason) for each in metrics.values())


def test_the_first_images_of_a_split_keep_their_levels_and_labels() -> None:
    rows = torch.arange(5)
    split = EvaluationSplit(torch.rand(5, 4), rows[:, None].expand(5, 4), 17, False, rows, ("a",))
    part = split.first(3)
    assert (len(part), part.levels, part.classes) == (3, 17, ("a",))
    torch.testing.assert_close(part.pixels, split.pixels[:3])
    assert part.index is not None
    assert part.labels is not None
    assert part.index[:, 0].tolist() == part.labels.tolist() == [0, 1, 2]
