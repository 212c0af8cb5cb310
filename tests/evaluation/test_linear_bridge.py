"""The linear VAE's analytic terms, by the VAE's own code, against pPCA's closed forms."""

import numpy as np
import pytest
import torch
from linear_models import (
    axis_aligned,
    exact,
    generator,
    perturbed,
    real_images,
    synthetic,
    turned,
)

from vaebench.evaluation.linear import as_linear, as_vae, exact_log_likelihood, linear_bound
from vaebench.grid.cell import Cell
from vaebench.model.sampling import simulate
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE


def images_of(model, count=30):
    return simulate(as_vae(model), count, generator())[0]


def test_the_exact_log_likelihood_is_that_of_ppca():
    model = synthetic()
    assert np.abs(model.mu).max() > 1
    x = images_of(model)
    close(exact_log_likelihood(as_vae(model), x), exact(model, x), 1e-9)


def close(left, right, atol):
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=0, atol=atol)


@pytest.mark.parametrize(
    "model",
    [
        synthetic(),
        axis_aligned(synthetic()),
        perturbed(synthetic()),
        turned(perturbed(axis_aligned(synthetic()))),
    ],
    ids=["oblique", "optimum", "perturbed", "rotated"],
)
def test_every_term_is_the_closed_form(model):
    x = images_of(model)
    bound, expected = linear_bound(as_vae(model), x), model.bound(x.numpy())
    close(bound.reconstruction_error, expected.reconstruction_error, 1e-8)
    close(bound.kl_per_dimension, expected.kl_per_dimension, 1e-9)
    close(bound.kl, expected.kl, 1e-9)
    close(bound.distortion, model.distortion(x.numpy()), 1e-9)
    lost = exact(model, x) - bound.elbo
    close(lost, model.posterior_gap(x.numpy()), 1e-8)


def test_only_at_the_optimum_the_bound_is_exact():
    model = axis_aligned(synthetic())
    x = images_of(model)
    close(linear_bound(as_vae(model), x).elbo, exact(model, x), 1e-8)
    lost = exact(model, x) - linear_bound(as_vae(perturbed(model)), x).elbo
    assert float(lost.min()) > 0.05
    oblique = turned(model)
    lost = exact(model, x) - linear_bound(as_vae(oblique), x).elbo
    close(lost, oblique.rotation_gap, 1e-8)
    assert oblique.rotation_gap > 0.1


def test_the_analytic_terms_are_what_sampling_tends_to():
    model = perturbed(synthetic(0.3))
    vae, x = as_vae(model), images_of(model, 4)
    with torch.no_grad():
        q = vae.encode(x[None])
        z = q.rsample(torch.randn((1, 20_000, 4, 8), generator=generator(), dtype=torch.float64))
        drawn = -vae.decode(z).log_prob(x[None, None])[0]
    error = drawn.std(0) / 20_000**0.5
    assert bool(
        ((drawn.mean(0) - linear_bound(vae, x).reconstruction_error).abs() < 4 * error).all()
    )


@pytest.mark.parametrize(("posterior", "prior_scale"), [("diagonal", 1.0), ("full", 2.5)])
@pytest.mark.parametrize("sigma", [0.2, "learned", "optimal"])
def test_a_trained_linear_vae_is_a_ppca_model(posterior, prior_scale, sigma):
    cell = Cell.model_validate(
        {
            "architecture": "linear",
            "likelihood": "gaussian",
            "sigma": sigma,
            "latent_dim": 3,
            "posterior": posterior,
            "prior_scale": prior_scale,
        }
    )
    vae = VAE((cell,), (1, 3, 4), None, (generator(),), 0.3)
    x = torch.rand((5, 12), generator=generator(1))
    linear = as_linear(vae)
    # By itself: the covariance of x under the VAE's own float32 numbers.
    W, mu = (getattr(vae.decoder, name)[0].detach().double() for name in ("weight", "bias"))
    covariance = prior_scale**2 * W @ W.T + vae.scale().item() ** 2 * torch.eye(12)
    expected = torch.distributions.MultivariateNormal(mu, covariance.double()).log_prob(x.double())
    close(linear.log_likelihood(x.numpy()), expected, 1e-4)
    assert bool((linear_bound(vae, x).elbo <= expected + 1e-4).all())


def test_there_and_back():
    model = synthetic()
    back = as_linear(as_vae(model))
    close(back.W, model.W, 0)
    close(back.mu, model.mu, 0)
    assert back.sigma == model.sigma
    close(back.posterior_variance, model.posterior_variance, 1e-15)


def test_per_pixel_sigma_has_exact_terms():
    cell = Cell(architecture="linear", likelihood="gaussian", sigma="per_pixel", latent_dim=2)
    vae = VAE((cell,), (1, 2, 3), None, (generator(),), 0.3).double()
    with torch.no_grad():
        vae.raw_scale += torch.linspace(-1, 1, 6)
    x = torch.rand((3, 6), generator=generator(1), dtype=torch.float64)
    with torch.no_grad():
        noise = torch.randn((1, 40_000, 3, 2), generator=generator(), dtype=torch.float64)
        drawn = -vae.decode(vae.encode(x[None]).rsample(noise)).log_prob(x[None, None])[0]
    error = drawn.std(0) / 200
    assert bool(
        ((drawn.mean(0) - linear_bound(vae, x).reconstruction_error).abs() < 4 * error).all()
    )
    with pytest.raises(ValueError, match="one number for all pixels; got per_pixel"):
        as_linear(vae)


@pytest.mark.parametrize(
    "cell",
    [
        Cell(likelihood="gaussian", hidden=(4,), latent_dim=2),
        Cell(likelihood="laplace", architecture="linear", latent_dim=2),
        Cell(likelihood="gaussian", architecture="linear", sigma="predicted", latent_dim=2),
    ],
    ids=["mlp", "laplace", "predicted"],
)
def test_what_is_not_linear_gaussian_is_refused(cell):
    vae = VAE((cell,), (1, 2, 3), 17, (generator(),), 0.3)
    for call in (lambda: as_linear(vae), lambda: linear_bound(vae, torch.rand(2, 6))):
        with pytest.raises(ValueError, match=r"architecture linear, likelihood gaussian.*; got"):
            call()


def test_bad_input_is_refused():
    vae = as_vae(synthetic())
    with pytest.raises(ValueError, match="at least one image; none was given"):
        linear_bound(vae, torch.zeros((0, 50)))
    with pytest.raises(ValueError, match=r"rows of 50 pixels; got shape \(2, 49\)"):
        linear_bound(vae, torch.zeros((2, 49)))
    with pytest.raises(ValueError, match="pixels must be finite"):
        linear_bound(vae, torch.full((2, 50), torch.nan))
    with pytest.raises(ValueError, match=r"the model's 50 pixels; got \(1, 7, 7\)"):
        as_vae(synthetic(), (1, 7, 7))
    delta = Cell(architecture="linear", likelihood="gaussian", posterior="delta", latent_dim=2)
    plain = VAE((delta,), (1, 2, 3), 17, (generator(),), 0.3)
    with pytest.raises(ValueError, match="got a delta posterior"):
        linear_bound(plain, torch.zeros((2, 6)))
    pack = VAE((vae.cells[0],) * 2, (1, 1, 50), None, (generator(), generator()), 0.3)
    with pytest.raises(ValueError, match=r"got a pack of 2"):
        linear_bound(pack, torch.zeros((2, 50)))


@pytest.mark.parametrize("image", [0.0, 0.5], ids=["one image", "constant"])
def test_a_collapsed_posterior_is_exact_too(image):
    model = LinearVAE.with_optimal_encoder(np.zeros((4, 2)), np.full(4, 0.5), 0.1)
    x = torch.full((1, 4), image, dtype=torch.float64)
    bound = linear_bound(as_vae(model), x)
    close(bound.kl, 0.0, 1e-15)
    close(bound.elbo, exact(model, x), 1e-10)


@pytest.mark.mnist
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_real_images(dataset):
    spectrum, x = real_images(dataset)
    for latent_dim, sigma in [(2, None), (10, None), (50, None), (10, 1.0), (20, 0.3), (20, 0.1)]:
        model = LinearVAE.optimum(spectrum, latent_dim, sigma)
        bound = linear_bound(as_vae(model, (1, 28, 28)), x)
        close(bound.elbo, exact(model, x), 1e-6)
        close(bound.kl_per_dimension, model.bound(x.numpy()).kl_per_dimension, 1e-9)
        close(bound.distortion, model.distortion(x.numpy()), 1e-9)
