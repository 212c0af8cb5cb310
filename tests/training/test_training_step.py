"""The loss that is minimised, and the schedule of the learning rate."""

import copy
import math

import numpy as np
import pytest
import torch
from tiny_runs import SHAPE, cell, made
from torch import Tensor

from vaebench.model.loss import StepTerms, penalty_weights, training_loss
from vaebench.model.posterior import Diagonal, Full, Posterior
from vaebench.model.vae import VAE
from vaebench.training.step import learning_rate_factor
from vaebench.truth.ppca import LinearVAE

PIXELS = math.prod(SHAPE)


def batch(members: int, images: int = 6, draws: int = 4, latent_dim: int = 3) -> tuple[Tensor, ...]:
    source = torch.Generator().manual_seed(30)
    x = torch.rand(members, images, PIXELS, generator=source, dtype=torch.float64)
    noise = torch.randn(members, draws, images, latent_dim, generator=source, dtype=torch.float64)
    return x, noise


def terms_of(vae: VAE, x: Tensor, noise: Tensor) -> StepTerms:
    weights = penalty_weights(vae.cells, x.device).to(x.dtype)
    return training_loss(vae, weights, x, noise)


def linear_truth() -> LinearVAE:
    random = np.random.default_rng(31)
    W, mu = random.normal(0, 0.6, (PIXELS, 3)), random.normal(0.5, 0.2, PIXELS)
    V = random.normal(0, 0.2, (3, PIXELS))
    return LinearVAE(W, mu, 0.35, V, random.uniform(0.1, 0.9, 3))


def known(truth: LinearVAE, **axes: object) -> VAE:
    design = cell(dataset="linear-gaussian", architecture="linear", sigma=truth.sigma, **axes)
    vae = made([design], None).double()
    with torch.no_grad():
        for name, value in {
            "encoder.mean.weight": truth.V,
            "encoder.mean.bias": -truth.V @ truth.mu,
            "encoder.spread": np.log(truth.posterior_variance),
            "decoder.weight": truth.W,
            "decoder.bias": truth.mu,
        }.items():
            parameter = vae.get_parameter(name)
            parameter.copy_(torch.from_numpy(value).reshape(parameter.shape))
        vae.fixed_scale.fill_(truth.sigma)
    return vae


@pytest.mark.parametrize("beta", [1.0, 0.25, 4.0])
def test_the_loss_is_the_exact_bound_of_a_linear_vae_with_beta_on_its_divergence(
    beta: float,
) -> None:
    truth, images = linear_truth(), 6
    x = batch(1, images)[0]
    axes = math.sqrt(3) * torch.eye(3, dtype=torch.float64)
    points = torch.cat((axes, -axes))[None, :, None, :].expand(1, -1, images, -1)
    terms = terms_of(known(truth, beta=beta), x, points)
    exact = truth.bound(x[0])
    error, kl = exact.reconstruction_error.mean(), exact.kl.mean()
    assert terms.reconstruction_error.item() == pytest.approx(error, rel=1e-12)
    assert terms.kl is not None
    assert terms.kl.item() == pytest.approx(kl, rel=1e-12)
    assert terms.loss.item() == pytest.approx(error + beta * kl, rel=1e-12)


def density(q: Posterior) -> torch.distributions.Distribution:
    """torch's own, of codes rather than of the noise that they were drawn with."""
    mean = q.mean.unsqueeze(1)
    if isinstance(q, Full):
        return torch.distributions.MultivariateNormal(mean, scale_tril=q.factor.unsqueeze(1))
    assert isinstance(q, Diagonal)
    scale = (0.5 * q.log_variance).exp().unsqueeze(1)
    return torch.distributions.Independent(torch.distributions.Normal(mean, scale), 1)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_the_gradient_of_iwae_weighs_each_draw_by_its_share(posterior: str) -> None:
    design = cell(objective="iwae", importance_samples=4, posterior=posterior)
    vae = made([design]).double()
    x, noise = batch(1)
    terms_of(vae, x, noise).loss.sum().backward()
    gradients = {name: p.grad for name, p in vae.named_parameters()}
    vae.zero_grad()
    # Burda et al. 2016, eq. 14: the sum over draws of w_s / sum(w) times grad log w_s.
    q = vae.encode(x)
    z = q.rsample(noise)
    log_likelihood = vae.decode(z).log_prob(x.unsqueeze(1))
    log_q = density(q).log_prob(z)
    weights = log_likelihood + vae.prior().log_prob(z) - log_q
    shares = weights.detach().softmax(1)
    (-(shares * weights).sum(1).mean(-1)).sum().backward()
    for name, parameter in vae.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_the_bound_of_a_narrow_posterior_is_that_of_float64(posterior: str) -> None:
    """A loss below what the likelihood's peak allows was what rounding alone had made."""
    design = cell(objective="iwae", importance_samples=4, posterior=posterior)
    vae = made([design])
    with torch.no_grad():
        bias = vae.get_parameter("encoder.layers.1.bias")
        vae.get_parameter("encoder.layers.1.weight")[:, 3:6] = 0
        bias[..., 3:6] = -16.0 if posterior == "full" else -32.0
    x, noise = batch(1)
    found = terms_of(vae, x.float(), noise.float()).loss
    exact = terms_of(copy.deepcopy(vae).double(), x, noise).loss
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-3)


def test_iwae_with_one_draw_is_the_elbo_in_expectation() -> None:
    x, _ = batch(1)
    noise = torch.randn(
        1, 30_000, 6, 3, generator=torch.Generator().manual_seed(32), dtype=torch.float64
    )
    with torch.no_grad():
        elbo = terms_of(made([cell()]).double(), x, noise)
        vae = made([cell(objective="iwae")]).double()
        singles = [terms_of(vae, x, noise[:, i : i + 1]).loss for i in range(400)]
        many = terms_of(vae, x, noise)
    losses = torch.cat(singles)
    error = (losses.std() / math.sqrt(len(losses))).item()
    assert losses.mean().item() == pytest.approx(elbo.loss.item(), abs=4 * error)
    assert many.loss.item() < elbo.loss.item()


def test_sparsity_adds_the_l1_norm_of_the_code() -> None:
    cells = [cell(posterior="delta", sparsity=s) for s in (0.0, 0.7, 3.0)]
    vae = made(cells).double()
    x, noise = batch(3)
    terms = terms_of(vae, x, noise[:, :1])
    assert terms.kl is None
    l1 = vae.encode(x).mean.abs().sum(-1).mean(-1)
    sparsity = torch.tensor([0.0, 0.7, 3.0], dtype=torch.float64)
    torch.testing.assert_close(terms.loss, terms.reconstruction_error + sparsity * l1)
    plain = terms_of(made(cells[:1]).double(), x[:1], noise[:1, :1])
    torch.testing.assert_close(plain.loss, terms.loss[:1])


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("constant", 0.9, 1.0),
        ("cosine", 0.0, 1.0),
        ("cosine", 0.5, 0.5),
        ("cosine", 0.75, 0.5 * (1 - math.sqrt(0.5))),
        ("iwae", 0.0, 1.0),
        # Burda et al. 2016: 3^i passes at 10^(-i/7), 3,280 in all.
        ("iwae", 0.9 / 3280, 1.0),
        ("iwae", 1.1 / 3280, 10 ** (-1 / 7)),
        ("iwae", 3.9 / 3280, 10 ** (-1 / 7)),
        ("iwae", 4.1 / 3280, 10 ** (-2 / 7)),
        ("iwae", 1092.9 / 3280, 10 ** (-6 / 7)),
        ("iwae", 1093.1 / 3280, 0.1),
        ("iwae", 1.0, 0.1),
    ],
)
def test_a_schedule_multiplies_the_learning_rate(
    schedule: str, progress: float, factor: float
) -> None:
    assert learning_rate_factor(schedule, progress) == pytest.approx(factor)
