"""Learned priors: densities by scipy, KLs by quadrature, and the normal prior as a special case."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from tiny_models import PIXELS, generators, made
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.posterior import Diagonal, Full
from vaebench.model.prior import Mixture, Normal, Prior, divergence
from vaebench.model.vae import VAE

DRAWS = 40_000


def random_mixture(members: int = 1, components: int = 3, latent_dim: int = 2) -> Mixture:
    random = np.random.default_rng(80)
    means = random.normal(0, 1.5, (members, components, latent_dim))
    scale = random.uniform(0.3, 1.4, means.shape)
    weights = np.log(random.dirichlet(np.ones(components), members))
    return Mixture(*map(torch.from_numpy, (means, scale, weights)))


def one_component(prior_scale: float, latent_dim: int = 2) -> Mixture:
    shape = (1, 1, latent_dim)
    means, scale = torch.zeros(shape).double(), torch.full(shape, prior_scale, dtype=torch.float64)
    return Mixture(means, scale, torch.zeros(1, 1).double())


def normal(prior_scale: float, latent_dim: int = 2) -> Normal:
    return Normal(torch.full((1, 1, 1), prior_scale, dtype=torch.float64), latent_dim)


def noise(*shape: int, seed: int = 81) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_density_of_a_mixture_is_that_of_scipy() -> None:
    prior, z = random_mixture(members=2), 2 * noise(2, 4, 5, 2)
    for member in range(2):
        parts = [
            np.log(weight) + stats.multivariate_normal.logpdf(z[member], mean, np.diag(scale**2))
            for mean, scale, weight in zip(
                prior.means[member].numpy(),
                prior.scale[member].numpy(),
                prior.log_weights[member].exp().numpy(),
                strict=True,
            )
        ]
        expected = special.logsumexp(parts, axis=0)
        np.testing.assert_allclose(prior.log_prob(z)[member], expected, rtol=1e-12)


@pytest.mark.parametrize("prior", [normal(0.6), random_mixture()], ids=["normal", "mixture"])
def test_the_score_is_the_gradient_of_the_density(prior: Prior) -> None:
    z = noise(1, 4, 5, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    torch.testing.assert_close(prior.score(z), gradient)


@pytest.mark.parametrize("prior", [normal(0.6), random_mixture()], ids=["normal", "mixture"])
def test_codes_are_drawn_from_the_prior(prior: Prior) -> None:
    z = prior.draw(noise(1, DRAWS, 1, 2), torch.Generator().manual_seed(82))[0, :, 0]
    deviation = prior.deviation
    off = (z.mean(0) - prior.mean) / (deviation / math.sqrt(DRAWS))
    assert off.abs().max() < 4
    torch.testing.assert_close(z.std(0), deviation, rtol=0.02, atol=0.0)
    # The whole distribution of the first number, not only its moments.
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    if isinstance(prior, Mixture):
        first = Mixture(prior.means[..., :1], prior.scale[..., :1], prior.log_weights)
    else:
        first = Normal(prior.scale, 1)
    density = first.log_prob(grid.view(1, -1, 1, 1))[0, :, 0].exp().numpy()
    cumulative = integrate.cumulative_trapezoid(density, grid.numpy(), initial=0)
    test = stats.kstest(z[:, 0].numpy(), lambda x: np.interp(x, grid.numpy(), cumulative))
    assert test.pvalue > 1e-3


@pytest.mark.parametrize("prior_scale", [1.0, 0.4])
def test_a_mixture_of_one_component_is_the_normal_prior(prior_scale: float) -> None:
    one, plain = one_component(prior_scale), normal(prior_scale)
    z = noise(1, 3, 4, 2)
    torch.testing.assert_close(one.log_prob(z), plain.log_prob(z), rtol=1e-13, atol=0.0)
    torch.testing.assert_close(one.score(z), plain.score(z), rtol=1e-13, atol=0.0)
    torch.testing.assert_close(one.deviation, plain.deviation)
    torch.testing.assert_close(one.mean, plain.mean)
    drawn = [prior.draw(z, torch.Generator().manual_seed(0)) for prior in (one, plain)]
    torch.testing.assert_close(*drawn)


def posteriors() -> list[Diagonal | Full]:
    mean, log_variance = noise(1, 3, 2), noise(1, 3, 2, seed=83) - 1
    below = torch.zeros(1, 3, 2, 2).double()
    below[..., 1, 0] = 0.7
    return [Diagonal(mean, log_variance), Full(mean, 0.5 * log_variance, below)]


@pytest.mark.parametrize("q", posteriors(), ids=["diagonal", "full"])
def test_the_monte_carlo_kl_agrees_with_the_closed_form(q: Diagonal | Full) -> None:
    """In value and gradient, within the error of the draws."""
    parameters = [q.mean, q.log_variance] if isinstance(q, Diagonal) else [q.mean, q.log_diagonal]
    for parameter in parameters:
        parameter.requires_grad_()
    drawn = noise(1, DRAWS, 3, 2)
    prior, plain = one_component(0.8), normal(0.8)
    terms = q.log_prob(drawn) - prior.log_prob(q.rsample(drawn))
    kl = divergence(q, prior, q.rsample(drawn), drawn)
    torch.testing.assert_close(kl, terms.mean(1))
    exact = divergence(q, plain, q.rsample(drawn[:, :1]), drawn[:, :1])
    errors = terms.std(1) / math.sqrt(DRAWS)
    assert ((kl - exact).abs() < 4 * errors).all()
    found, expected = (torch.autograd.grad(each.sum(), parameters) for each in (kl, exact))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.03)


def test_the_kl_to_a_mixture_is_that_of_quadrature() -> None:
    prior = random_mixture(latent_dim=1)
    q = Diagonal(noise(1, 3, 1), noise(1, 3, 1, seed=84))
    drawn = noise(1, DRAWS, 3, 1)
    kl = divergence(q, prior, q.rsample(drawn), drawn)
    terms = q.log_prob(drawn) - prior.log_prob(q.rsample(drawn))
    errors = terms.std(1) / math.sqrt(DRAWS)
    for image in range(3):
        mean, deviation = float(q.mean[0, image]), float(q.variance[0, image].sqrt())
        density = stats.norm(mean, deviation)

        def integrand(z: float, density: object = density) -> float:
            log_p = float(prior.log_prob(torch.tensor(z).double().view(1, 1, 1, 1)))
            return float(density.pdf(z) * (density.logpdf(z) - log_p))

        exact, _ = integrate.quad(integrand, mean - 9 * deviation, mean + 9 * deviation)
        assert abs(float(kl[0, image]) - exact) < 4 * float(errors[0, image])


def test_a_vamp_prior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs() -> None:
    cell = Cell(latent_dim=2, hidden=(5,), prior="vamp", prior_components=4)
    vae = made(cell).double()
    assert vae.prior_inputs.shape == (1, 4, PIXELS)
    q = vae.encode(vae.prior_inputs)
    assert isinstance(q, Diagonal)
    each = torch.distributions.Normal(q.mean[0], q.variance[0].sqrt())
    z = noise(1, 3, 2, 2)
    exact = torch.logsumexp(each.log_prob(z[0].unsqueeze(-2)).sum(-1), -1) - math.log(4)
    torch.testing.assert_close(vae.prior().log_prob(z)[0], exact)


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_members_of_a_pack_start_and_leave_with_the_prior_of_their_own(prior: str) -> None:
    cells = [Cell(latent_dim=3, prior=prior, prior_components=4, seed=seed) for seed in (1, 2)]
    pack, z = made(*cells), noise(2, 3, 2, 3).float()
    log_prob = pack.prior().log_prob(z)
    assert log_prob.shape == (2, 3, 2)
    for member, cell in enumerate(cells):
        own = z[member : member + 1]
        for alone in (made(cell), pack.member(member)):
            torch.testing.assert_close(alone.prior().log_prob(own)[0], log_prob[member])


def test_a_mixture_starts_with_unit_variance() -> None:
    cell = Cell(latent_dim=1, prior="mixture", prior_components=4_000)
    deviation = VAE((cell,), (1, 1, 1), 2, generators(0), 1.0).prior().deviation
    assert deviation.item() == pytest.approx(1.0, abs=0.03)
    plain, learned = (made(Cell(prior=kind)).state_dict() for kind in ("normal", "mixture"))
    for name, value in plain.items():
        assert torch.equal(learned[name], value), name
