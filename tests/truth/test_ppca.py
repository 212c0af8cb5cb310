import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, ortho_group

from vaebench.truth import gaussian, images
from vaebench.truth.ppca import LinearVAE, Spectrum, fit

SHAPES = pytest.mark.parametrize(
    ("dimension", "latent_dim", "sigma"),
    [(6, 2, 0.3), (6, 6, 0.5), (4, 7, 0.4), (5, 1, 2.0)],
    ids=["narrow", "square", "wide", "noisy"],
)


def any_model(dimension, latent_dim, sigma, seed=0):
    """A decoder that is nobody's optimum, with its best encoder."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((dimension, latent_dim))
    return LinearVAE.with_optimal_encoder(W, rng.standard_normal(dimension), sigma)


def with_encoder(model, V, variance):
    return LinearVAE(model.W, model.mu, model.sigma, V, variance)


def with_perturbed_encoder(model, seed=1):
    rng = np.random.default_rng(seed)
    V = model.V + 0.1 * rng.standard_normal(model.V.shape)
    return with_encoder(model, V, model.posterior_variance * rng.uniform(0.5, 2, len(model.V)))


def covariance_of(model):
    return model.W @ model.W.T + model.sigma**2 * np.eye(model.dimension)


def some_images(seed=0, count=400, dimension=8):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dimension, dimension)) * np.linspace(2, 0.1, dimension)
    return rng.standard_normal((count, dimension)) @ mixing.T + 3


def derivatives(function, parameters, step=1e-5):
    """Central differences of a function of an array, by each of its elements."""
    gradient = np.empty(parameters.size)
    for i in range(parameters.size):
        change = np.zeros(parameters.size)
        change[i] = step
        change = change.reshape(parameters.shape)
        rise = function(parameters + change) - function(parameters - change)
        gradient[i] = rise / (2 * step)
    return gradient


class TestFit:
    def test_mean_and_covariance_with_one_over_n(self):
        x = some_images()
        spectrum = fit(x)
        np.testing.assert_allclose(spectrum.mean, x.mean(axis=0), rtol=1e-13)
        rebuilt = (spectrum.eigenvectors * spectrum.eigenvalues) @ spectrum.eigenvectors.T
        np.testing.assert_allclose(rebuilt, np.cov(x.T, bias=True), rtol=0, atol=1e-12)
        assert np.all(np.diff(spectrum.eigenvalues) <= 0)

    def test_blocks_add_up(self, monkeypatch):
        whole = fit(some_images())
        monkeypatch.setattr(images, "_BLOCK_NUMBERS", 100)
        np.testing.assert_allclose(
            fit(some_images()).eigenvalues, whole.eigenvalues, rtol=0, atol=1e-12
        )

    def test_fewer_images_than_pixels(self):
        x = some_images(count=5)
        spectrum = fit(x)
        assert spectrum.eigenvectors.shape == (8, 5)
        assert np.count_nonzero(spectrum.eigenvalues) == 4
        rebuilt = (spectrum.eigenvectors * spectrum.eigenvalues) @ spectrum.eigenvectors.T
        np.testing.assert_allclose(rebuilt, np.cov(x.T, bias=True), rtol=0, atol=1e-12)
        assert spectrum.dimension == 8

    def test_grey_levels_are_not_computed_in_their_own_type(self):
        levels = np.random.default_rng(0).integers(0, 256, (300, 4), dtype=np.uint8)
        expected = np.linalg.eigvalsh(np.cov(levels.T.astype(float), bias=True))[::-1]
        np.testing.assert_allclose(fit(levels).eigenvalues, expected, rtol=1e-12)

    @pytest.mark.parametrize("count", [1, 30], ids=["one image", "equal images"])
    def test_images_without_variance(self, count):
        spectrum = fit(np.full((count, 3), 0.25))
        assert not spectrum.eigenvalues.any()
        assert spectrum.collapse_sigma == 0.0
        assert spectrum.active_units(1e-3) == 0
        model = LinearVAE.optimum(spectrum, 2, sigma=0.1)
        expected = 3 * norm.logpdf(0.0, scale=0.1)
        assert model.log_likelihood(np.full((1, 3), 0.25))[0] == pytest.approx(expected)
        with pytest.raises(ValueError, match="variance outside the latent space"):
            spectrum.ml_sigma(1)

    def test_an_empty_split_is_refused(self):
        with pytest.raises(ValueError, match="non-empty matrix"):
            fit(np.zeros((0, 4)))

    def test_a_spectrum_must_be_one(self):
        with pytest.raises(ValueError, match="eigenvectors"):
            Spectrum(np.zeros(3), np.ones(2), np.eye(3))
        for eigenvalues in ([1.0, 2.0], [1.0, -1.0]):
            with pytest.raises(ValueError, match="at least 0 and in decreasing order"):
                Spectrum(np.zeros(2), np.array(eigenvalues), np.eye(2))


class TestLikelihood:
    @SHAPES
    def test_is_scipys(self, dimension, latent_dim, sigma):
        model = any_model(dimension, latent_dim, sigma)
        x = some_images(dimension=dimension, count=20)
        expected = multivariate_normal(model.mu, covariance_of(model)).logpdf(x)
        np.testing.assert_allclose(model.log_likelihood(x), expected, rtol=1e-11)

    @pytest.mark.parametrize("sigma", [1e-2, 1e-4, 1e-6])
    def test_keeps_its_digits_for_a_small_sigma(self, sigma):
        """In axes where the covariance is diagonal the density is a product."""
        rng = np.random.default_rng(0)
        axes, scales = ortho_group.rvs(12, random_state=rng), np.array([2.0, 1.0, 0.5])
        model = LinearVAE.with_optimal_encoder(axes[:, :3] * scales, np.zeros(12), sigma)
        deviations = np.sqrt(np.append(scales**2, np.zeros(9)) + sigma**2)
        coordinates = deviations * rng.standard_normal((50, 12))
        expected = norm.logpdf(coordinates, scale=deviations).sum(axis=1)
        found = model.log_likelihood(coordinates @ axes.T)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 / sigma + 1e-10)

    @SHAPES
    def test_mean_over_a_spectrum_is_the_mean_over_its_images(self, dimension, latent_dim, sigma):
        model = any_model(dimension, latent_dim, sigma)
        x = some_images(dimension=dimension)
        assert model.expected_log_likelihood(fit(x)) == pytest.approx(
            model.log_likelihood(x).mean(), rel=1e-12
        )

    def test_mean_over_few_images(self):
        x = some_images(count=5)
        model = any_model(8, 2, 0.3)
        assert model.expected_log_likelihood(fit(x)) == pytest.approx(
            model.log_likelihood(x).mean(), rel=1e-12
        )

    def test_blocks_are_put_together(self, monkeypatch):
        model, x = any_model(8, 2, 0.3), some_images()
        whole = model.log_likelihood(x)
        monkeypatch.setattr(images, "_BLOCK_NUMBERS", 1000)
        np.testing.assert_allclose(model.log_likelihood(x), whole, rtol=1e-13)


class TestSimulation:
    def test_images_have_the_models_moments(self):
        model, count = any_model(4, 2, 0.5), 200_000
        x, z = model.simulate(count, np.random.default_rng(0))
        assert x.shape == (count, 4)
        assert z.shape == (count, 2)
        covariance = covariance_of(model)
        errors = np.sqrt(np.diag(covariance) / count)
        assert np.all(np.abs(x.mean(axis=0) - model.mu) < 4 * errors)
        variances = np.diag(covariance)
        errors = np.sqrt((covariance**2 + np.outer(variances, variances)) / count)
        assert np.all(np.abs(np.cov(x.T) - covariance) < 4.5 * errors)

    def test_mean_log_likelihood_is_minus_the_entropy(self):
        model, count = any_model(4, 2, 0.5), 100_000
        values = model.log_likelihood(model.simulate(count, np.random.default_rng(1))[0])
        entropy = gaussian.entropy(covariance_of(model))
        assert abs(values.mean() + entropy) < 4 * values.std() / math.sqrt(count)

    def test_latents_are_draws_from_the_posterior_of_their_images(self):
        model, count = any_model(4, 2, 0.5), 100_000
        x, z = model.simulate(count, np.random.default_rng(2))
        error = z - model.exact_posterior_mean(x)
        covariance = model.exact_posterior_covariance
        variances = np.diag(covariance)
        assert np.all(np.abs(error.mean(axis=0)) < 4 * np.sqrt(variances / count))
        errors = np.sqrt((covariance**2 + np.outer(variances, variances)) / count)
        assert np.all(np.abs(np.cov(error.T) - covariance) < 4.5 * errors)

    def test_a_seed_gives_the_same_images(self):
        first, again = (
            any_model(4, 2, 0.5).simulate(3, np.random.default_rng(7))[0] for _ in range(2)
        )
        np.testing.assert_array_equal(first, again)


class TestPosterior:
    @SHAPES
    def test_is_the_conditional_of_the_joint_gaussian(self, dimension, latent_dim, sigma):
        model = any_model(dimension, latent_dim, sigma)
        x = some_images(dimension=dimension, count=3)
        gain = model.W.T @ np.linalg.inv(covariance_of(model))
        means = model.exact_posterior_mean(x)
        np.testing.assert_allclose(means, (x - model.mu) @ gain.T, rtol=1e-9)
        np.testing.assert_allclose(
            model.exact_posterior_covariance, np.eye(latent_dim) - gain @ model.W, atol=1e-11
        )

    @SHAPES
    def test_kl_to_the_prior(self, dimension, latent_dim, sigma):
        model = any_model(dimension, latent_dim, sigma)
        x = some_images(dimension=dimension, count=3)
        M = model.W.T @ model.W + sigma**2 * np.eye(latent_dim)
        covariance = sigma**2 * np.linalg.inv(M)
        means = model.exact_posterior_mean(x)
        expected = (
            0.5 * (np.trace(covariance) + (means**2).sum(axis=1) - latent_dim)
            - 0.5 * np.linalg.slogdet(covariance)[1]
        )
        np.testing.assert_allclose(model.exact_posterior_kl(x), expected, rtol=1e-10)

    @SHAPES
    def test_the_best_encoder_has_its_mean_and_the_inverse_diagonal_of_its_precision(
        self, dimension, latent_dim, sigma
    ):
        model = any_model(dimension, latent_dim, sigma)
        M = model.W.T @ model.W + sigma**2 * np.eye(latent_dim)
        np.testing.assert_allclose(model.V, np.linalg.solve(M, model.W.T), rtol=1e-9)
        np.testing.assert_allclose(model.posterior_variance, sigma**2 / np.diag(M), rtol=1e-12)


class TestBound:
    @SHAPES
    def test_is_log_likelihood_less_the_divergence_for_any_encoder(
        self, dimension, latent_dim, sigma
    ):
        """log p(x) - D[Q || P(z|x)] = E_Q log p(x|z) - D[Q || P(z)]."""
        model = with_perturbed_encoder(any_model(dimension, latent_dim, sigma))
        x = some_images(dimension=dimension, count=20)
        exact = multivariate_normal(model.mu, covariance_of(model)).logpdf(x)
        gap = model.posterior_gap(x)
        assert np.all(gap > 0)
        np.testing.assert_allclose(model.bound(x).elbo, exact - gap, rtol=1e-10)

    def test_terms_are_those_of_samples(self):
        model = with_perturbed_encoder(any_model(5, 2, 0.4))
        x, count = some_images(dimension=5, count=3), 200_000
        bound, distortion = model.bound(x), model.distortion(x)
        rng = np.random.default_rng(0)
        deviations = np.sqrt(model.posterior_variance)
        for i, mean in enumerate(model.encode(x)):
            z = mean + deviations * rng.standard_normal((count, 2))
            error = x[i] - model.mu - z @ model.W.T
            log_p = norm.logpdf(error, scale=0.4).sum(axis=1)
            kl = norm.logpdf(z, mean, deviations) - norm.logpdf(z)
            for sampled, exact in [
                (-log_p, bound.reconstruction_error[i]),
                ((error**2).sum(axis=1), distortion[i]),
                *zip(kl.T, bound.kl_per_dimension[i], strict=True),
            ]:
                assert abs(sampled.mean() - exact) < 4 * sampled.std() / math.sqrt(count)

    def test_adds_up(self):
        bound = any_model(5, 3, 0.4).bound(some_images(dimension=5, count=4))
        np.testing.assert_allclose(bound.kl, bound.kl_per_dimension.sum(axis=1))
        np.testing.assert_array_equal(bound.elbo, -bound.reconstruction_error - bound.kl)

    @SHAPES
    def test_no_other_diagonal_encoder_is_better(self, dimension, latent_dim, sigma):
        model = any_model(dimension, latent_dim, sigma)
        x = some_images(dimension=dimension, count=50)
        best = model.bound(x).elbo.mean()
        by_map = derivatives(
            lambda V: with_encoder(model, V, model.posterior_variance).bound(x).elbo.mean(),
            model.V,
        )
        by_variance = derivatives(
            lambda log_v: with_encoder(model, model.V, np.exp(log_v)).bound(x).elbo.mean(),
            np.log(model.posterior_variance),
        )
        np.testing.assert_allclose(by_map, 0, atol=1e-4)
        np.testing.assert_allclose(by_variance, 0, atol=1e-5)
        assert with_perturbed_encoder(model).bound(x).elbo.mean() < best


class TestOptimum:
    @pytest.mark.parametrize("sigma", [None, 0.05, 0.5, 1.0, 3.0])
    @pytest.mark.parametrize("latent_dim", [1, 3, 7])
    def test_bound_is_tight_and_every_closed_form_agrees(self, latent_dim, sigma):
        x = some_images()
        spectrum = fit(x)
        model = LinearVAE.optimum(spectrum, latent_dim, sigma)
        exact = multivariate_normal(model.mu, covariance_of(model)).logpdf(x)
        bound = model.bound(x)
        np.testing.assert_allclose(bound.elbo, exact, rtol=1e-11)
        np.testing.assert_allclose(model.posterior_gap(x), 0, atol=1e-9)
        np.testing.assert_allclose(model.exact_posterior_kl(x), bound.kl, rtol=1e-9, atol=1e-12)
        closed = spectrum.log_likelihood(latent_dim, model.sigma)
        assert closed == pytest.approx(exact.mean(), rel=1e-12)
        rate = spectrum.rate(latent_dim, model.sigma)
        np.testing.assert_allclose(bound.kl_per_dimension.mean(axis=0), rate, atol=1e-11)
        distortion = spectrum.distortion(latent_dim, model.sigma)
        assert model.distortion(x).mean() == pytest.approx(distortion, rel=1e-11)

    @pytest.mark.parametrize("sigma", [0.2, 0.8])
    def test_likelihood_is_stationary_in_the_decoder_and_highest(self, sigma):
        spectrum = fit(some_images(dimension=5))
        best = LinearVAE.optimum(spectrum, 2, sigma)

        def likelihood(W):
            model = LinearVAE.with_optimal_encoder(W, best.mu, sigma)
            return model.expected_log_likelihood(spectrum)

        np.testing.assert_allclose(derivatives(likelihood, best.W), 0, atol=1e-5)
        highest = likelihood(best.W)
        rng = np.random.default_rng(0)
        for size in (0.01, 0.1, 1.0):
            for _ in range(20):
                assert likelihood(best.W + size * rng.standard_normal(best.W.shape)) < highest

    def test_likelihood_is_highest_at_the_ml_sigma(self):
        spectrum = fit(some_images())
        sigma = spectrum.ml_sigma(3)
        assert LinearVAE.optimum(spectrum, 3).sigma == sigma
        slope = derivatives(lambda s: spectrum.log_likelihood(3, s.item()), np.array([sigma]))
        assert abs(slope[0]) < 1e-5
        for factor in (0.7, 0.99, 1.01, 1.5):
            other = spectrum.log_likelihood(3, factor * sigma)
            assert other < spectrum.log_likelihood(3, sigma)

    def test_ml_sigma_is_the_fixed_point_of_the_mean_squared_error(self):
        spectrum, sigma = fit(some_images()), 1.0
        for _ in range(200):
            sigma = math.sqrt(spectrum.distortion(3, sigma) / spectrum.dimension)
        assert sigma == pytest.approx(spectrum.ml_sigma(3), rel=1e-9)

    @pytest.mark.parametrize("latent_dim", [8, 9])
    def test_ml_sigma_needs_variance_left_over(self, latent_dim):
        with pytest.raises(ValueError, match="use fewer latent dimensions or a fixed sigma"):
            LinearVAE.optimum(fit(some_images()), latent_dim)

    def test_more_latents_than_pixels_stay_at_the_prior(self):
        spectrum = fit(some_images())
        wide, full = (LinearVAE.optimum(spectrum, k, 0.05) for k in (11, 8))
        x = some_images(seed=1, count=5)
        np.testing.assert_allclose(wide.log_likelihood(x), full.log_likelihood(x), rtol=1e-12)
        np.testing.assert_allclose(wide.bound(x).elbo, full.bound(x).elbo, rtol=1e-12)
        np.testing.assert_array_equal(wide.bound(x).kl_per_dimension[:, 8:], 0)

    def test_everything_collapses_from_the_largest_eigenvalue_on(self):
        spectrum, x = fit(some_images()), some_images()
        threshold = spectrum.collapse_sigma
        assert threshold**2 == pytest.approx(np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1])
        below, above = (
            LinearVAE.optimum(spectrum, 3, factor * threshold) for factor in (0.999, 1.001)
        )
        assert spectrum.active_units(below.sigma) == 1
        assert below.bound(x).kl.mean() > 5e-4
        assert spectrum.active_units(above.sigma) == 0
        np.testing.assert_array_equal(above.bound(x).kl, 0)

    @pytest.mark.parametrize(
        ("sigma", "latent_dim", "expected"),
        [(1.0, None, 2), (1.9, None, 2), (2.0, None, 1), (0.1, None, 3), (0.1, 2, 2), (4, 5, 0)],
    )
    def test_active_units_are_the_eigenvalues_above_the_noise(self, sigma, latent_dim, expected):
        spectrum = Spectrum(np.zeros(4), np.array([9.0, 4.0, 0.25, 0.0]), np.eye(4))
        assert spectrum.active_units(sigma, latent_dim) == expected

    def test_distortion_falls_against_rate_with_the_slope_of_beta(self):
        """dD/dbeta = -beta dR/dbeta, D the reconstruction error of unit variance at sigma^2=beta.

        Alemi et al. 2018, Sec. 2: the slope of the rate-distortion curve.
        """
        spectrum, beta, step = fit(some_images()), 0.3, 1e-5
        ends = [math.sqrt(beta - step), math.sqrt(beta + step)]
        distortions = [0.5 * spectrum.distortion(5, sigma) for sigma in ends]
        rates = [spectrum.rate(5, sigma).sum() for sigma in ends]
        assert np.diff(distortions) == pytest.approx(-beta * np.diff(rates), rel=1e-6)


class TestRotation:
    @pytest.mark.parametrize("latent_dim", [2, 5])
    def test_keeps_the_likelihood_and_opens_the_gap(self, latent_dim):
        x = some_images(count=30)
        model = LinearVAE.optimum(fit(some_images()), latent_dim, 0.2)
        R = ortho_group.rvs(latent_dim, random_state=np.random.default_rng(0))
        rotated = model.rotated(R)
        np.testing.assert_allclose(rotated.W, model.W @ R)
        np.testing.assert_allclose(rotated.log_likelihood(x), model.log_likelihood(x), rtol=1e-11)
        M = rotated.W.T @ rotated.W + 0.04 * np.eye(latent_dim)
        gap = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])
        assert gap > 1e-3
        assert rotated.rotation_gap == pytest.approx(gap, rel=1e-10)
        np.testing.assert_allclose(rotated.posterior_gap(x), gap, rtol=1e-8)
        lost = model.log_likelihood(x) - rotated.bound(x).elbo
        np.testing.assert_allclose(lost, gap, atol=1e-9)

    @pytest.mark.parametrize(
        "R", [[[0.0, 1.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]], ids=["signed swap", "identity"]
    )
    def test_of_axes_onto_axes_opens_none(self, R):
        model = LinearVAE.optimum(fit(some_images()), 2, 0.2)
        assert model.rotated(R).rotation_gap == pytest.approx(0, abs=1e-12)

    def test_gap_of_a_wide_decoder(self):
        model = any_model(4, 7, 0.4)
        gap = model.log_likelihood(np.ones((1, 4))) - model.bound(np.ones((1, 4))).elbo
        assert model.rotation_gap == pytest.approx(gap[0], rel=1e-10)

    @pytest.mark.parametrize("R", [np.eye(3), 2 * np.eye(2)], ids=["size", "scale"])
    def test_must_be_orthogonal(self, R):
        with pytest.raises(ValueError, match="rotation must be an orthogonal matrix"):
            any_model(4, 2, 0.4).rotated(R)


class TestRefusals:
    @pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
    def test_sigma_must_be_positive_and_finite(self, sigma):
        spectrum = fit(some_images())
        for call in (
            lambda: LinearVAE.optimum(spectrum, 2, sigma),
            lambda: any_model(4, 2, sigma),
            lambda: spectrum.rate(2, sigma),
            lambda: spectrum.log_likelihood(2, sigma),
        ):
            with pytest.raises(ValueError, match="sigma must be positive and finite"):
                call()

    @pytest.mark.parametrize("latent_dim", [0, -1])
    def test_latent_dim_must_be_at_least_one(self, latent_dim):
        for sigma in (None, 0.5):
            with pytest.raises(ValueError, match="latent_dim must be at least 1"):
                LinearVAE.optimum(fit(some_images()), latent_dim, sigma)

    def test_decoder_and_encoder_must_fit(self):
        with pytest.raises(ValueError, match="W and mu must have shapes"):
            LinearVAE.with_optimal_encoder(np.zeros((4, 2)), np.zeros(3), 1.0)
        model = any_model(4, 2, 0.4)
        with pytest.raises(ValueError, match="V and posterior_variance must have shapes"):
            with_encoder(model, model.V.T, model.posterior_variance)
        with pytest.raises(ValueError, match="posterior variances must be positive"):
            with_encoder(model, model.V, np.array([0.0, 1.0]))

    def test_images_must_have_the_models_pixels(self):
        with pytest.raises(ValueError, match="must have 4 pixels"):
            any_model(4, 2, 0.4).log_likelihood(np.zeros((2, 5)))
