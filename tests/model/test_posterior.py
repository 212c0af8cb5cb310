"""q(z|x): its density, its draws and its divergence, against three independent sources."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaebench.model.posterior import Delta, Diagonal, Full, posterior, posterior_width
from vaebench.truth import gaussian

P, B, Z = 2, 3, 4
PRIOR_SCALE = torch.tensor([1.0, 0.6], dtype=torch.float64).view(P, 1, 1)


def made(kind: str) -> Diagonal | Full:
    source = torch.Generator().manual_seed(6)
    output = torch.randn(P, B, posterior_width(kind, Z), generator=source, dtype=torch.float64)
    q = posterior(kind, 0.6 * output, Z)
    assert isinstance(q, Diagonal | Full)
    return q


def covariance(q: Diagonal | Full) -> Tensor:
    if isinstance(q, Full):
        return q.factor @ q.factor.mT
    return torch.diag_embed(q.log_variance.exp())


def noise(draws: int) -> Tensor:
    return torch.randn(
        P, draws, B, Z, generator=torch.Generator().manual_seed(7), dtype=torch.float64
    )


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_divergence_is_torchs(kind: str) -> None:
    q = made(kind)
    zero = torch.zeros(P, B, Z, dtype=torch.float64)
    prior = Independent(Normal(zero, PRIOR_SCALE.expand_as(zero)), 1)
    as_full = MultivariateNormal(prior.mean, torch.diag_embed(prior.variance))
    exact = kl_divergence(MultivariateNormal(q.mean, covariance(q)), as_full)
    torch.testing.assert_close(q.kl(PRIOR_SCALE), exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_divergence_is_the_closed_form_of_truth(kind: str) -> None:
    q = made(kind)
    for member, image in np.ndindex(P, B):
        scale = PRIOR_SCALE[member].item()
        S = covariance(q)[member, image].numpy()
        exact = gaussian.kl(q.mean[member, image], S, np.zeros(Z), scale**2 * np.eye(Z))
        assert q.kl(PRIOR_SCALE)[member, image].item() == pytest.approx(float(exact), rel=1e-12)
        marginals = gaussian.kl_to_prior(q.mean[member, image], np.diag(S), scale)
        np.testing.assert_allclose(
            q.kl_per_dimension(PRIOR_SCALE)[member, image], marginals, rtol=1e-12
        )


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_divergence_is_the_mean_log_ratio_of_draws(kind: str) -> None:
    q = made(kind)
    z = q.rsample(noise(20_000))
    prior = Normal(torch.zeros((), dtype=torch.float64), PRIOR_SCALE.unsqueeze(1))
    ratio = q.log_prob(noise(20_000)) - prior.log_prob(z).sum(-1)
    error = ratio.std(1) / math.sqrt(ratio.shape[1])
    assert ((ratio.mean(1) - q.kl(PRIOR_SCALE)).abs() < 4 * error).all()


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_density_is_torchs_and_draws_have_its_moments(kind: str) -> None:
    q = made(kind)
    z = q.rsample(noise(20_000))
    exact = MultivariateNormal(q.mean.unsqueeze(1), covariance(q).unsqueeze(1)).log_prob(z)
    torch.testing.assert_close(q.log_prob(noise(20_000)), exact, rtol=1e-10, atol=1e-10)
    variance = covariance(q).diagonal(dim1=-2, dim2=-1)
    spread = variance.sqrt()
    assert ((z.mean(1) - q.mean).abs() < 5 * spread / math.sqrt(20_000)).all()
    centred = ((z - q.mean.unsqueeze(1)) / spread.unsqueeze(1)).movedim(1, -1)
    correlation = covariance(q) / (spread.unsqueeze(-1) * spread.unsqueeze(-2))
    torch.testing.assert_close(centred @ centred.mT / 20_000, correlation, rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_density_of_a_narrow_posterior_keeps_its_digits_in_float32(kind: str) -> None:
    """Rounded codes lie far from where they were drawn, in units of so narrow a posterior."""
    source = torch.Generator().manual_seed(8)
    output = torch.randn(1, 5, posterior_width(kind, Z), generator=source)
    # What is below the diagonal of a full one multiplies the spreads of its condition number.
    log_spread = -5.0 if kind == "full" else -16.0
    output[..., Z : 2 * Z] = log_spread if kind == "full" else 2 * log_spread
    eps = torch.randn(1, 50, 5, Z, generator=source)
    exact_q = posterior(kind, output.double(), Z)
    assert isinstance(exact_q, Diagonal | Full)
    z = exact_q.rsample(eps.double())
    centred = (z - exact_q.mean.unsqueeze(1)).movedim(1, -1)
    if isinstance(exact_q, Full):
        standard = torch.linalg.solve_triangular(exact_q.factor, centred, upper=False)
    else:
        standard = centred / (0.5 * exact_q.log_variance).exp().unsqueeze(-1)
    exact = (
        -0.5 * (standard.square() + math.log(2 * math.pi)).sum(-2).movedim(-1, 1) - log_spread * Z
    )
    q = posterior(kind, output, Z)
    assert isinstance(q, Diagonal | Full)
    torch.testing.assert_close(q.log_prob(eps).double(), exact, rtol=1e-5, atol=1e-3)


def test_a_factor_that_underflows_leaves_the_divergence_finite() -> None:
    q = posterior("full", torch.tensor([[[0.5, -120.0]]]), 1)
    assert isinstance(q, Full)
    assert q.factor.item() == 0
    assert q.kl(torch.ones(1, 1, 1)).item() == pytest.approx(0.5 * (0.25 - 1) + 120)


def test_the_dimensions_of_a_diagonal_posterior_add_up_to_the_total() -> None:
    q = made("diagonal")
    torch.testing.assert_close(q.kl_per_dimension(PRIOR_SCALE).sum(-1), q.kl(PRIOR_SCALE))


def test_a_full_posterior_without_correlation_is_a_diagonal_one() -> None:
    diagonal = made("diagonal")
    nothing = torch.zeros(P, B, Z, Z, dtype=torch.float64)
    full = Full(diagonal.mean, 0.5 * diagonal.log_variance, nothing)
    z = diagonal.rsample(noise(3))
    torch.testing.assert_close(full.rsample(noise(3)), z)
    torch.testing.assert_close(full.log_prob(noise(3)), diagonal.log_prob(noise(3)))
    torch.testing.assert_close(full.kl(PRIOR_SCALE), diagonal.kl(PRIOR_SCALE))


def test_the_divergence_of_a_posterior_close_to_the_prior_keeps_its_digits_in_float32() -> None:
    log_variance = torch.tensor([[[1e-4, -2e-5, 0.0]]])
    q = Diagonal(torch.zeros(1, 1, 3), log_variance)
    exact = gaussian.kl_to_prior(np.zeros(3), np.exp(log_variance[0, 0].double().numpy()))
    np.testing.assert_allclose(
        q.kl_per_dimension(torch.ones(1, 1, 1))[0, 0], exact, rtol=1e-3, atol=1e-11
    )


def test_the_numbers_of_a_full_posterior_fill_its_lower_triangle() -> None:
    assert posterior_width("full", 3) == 9
    assert posterior_width("diagonal", 3) == 6
    assert posterior_width("delta", 3) == 3
    q = posterior("full", torch.arange(9.0).view(1, 1, 9) / 10, 3)
    assert isinstance(q, Full)
    diagonal = torch.tensor([0.3, 0.4, 0.5]).exp()
    torch.testing.assert_close(q.factor[0, 0].diagonal(), diagonal)
    torch.testing.assert_close(
        q.factor[0, 0].tril(-1), torch.tensor([[0, 0, 0], [0.6, 0, 0], [0.7, 0.8, 0]])
    )
    assert q.factor[0, 0].triu(1).abs().sum() == 0


def test_a_delta_posterior_is_its_mean_in_every_draw() -> None:
    q = posterior("delta", torch.arange(6.0).view(1, 2, 3), 3)
    assert isinstance(q, Delta)
    z = q.rsample(torch.randn(1, 5, 2, 3))
    assert z.shape == (1, 5, 2, 3)
    assert (z == q.mean.unsqueeze(1)).all()
