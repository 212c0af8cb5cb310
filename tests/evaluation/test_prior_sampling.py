"""Sampling the prior is right where the posterior is the prior, and hopeless elsewhere."""

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
    within,
)

from vaebench.evaluation import prior_sampling
from vaebench.evaluation.importance import importance_bound, log_weights
from vaebench.evaluation.linear import as_vae
from vaebench.evaluation.prior_sampling import prior_log_weights
from vaebench.grid.cell import Cell
from vaebench.model.sampling import simulate
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE


def easy():
    """KL(p(z|x) || p(z)) of about a nat: so near to the prior that sampling it works."""
    W = 0.2 * np.random.default_rng(0).standard_normal((20, 2))
    return LinearVAE.with_optimal_encoder(W, np.zeros(20), 0.5)


def test_near_the_prior_it_is_right():
    model = easy()
    x, _ = simulate(as_vae(model), 10, generator(2))
    weights = prior_log_weights(as_vae(model), x, 4_000, generator())
    assert (weights.shape, weights.dtype) == ((10, 4_000), torch.float64)
    result = importance_bound(weights)
    errors = ((1 / result.effective_share - 1) / 4_000).sqrt()
    assert float(errors.max()) < 0.1
    assert within(result.bound - exact(model, x), errors)


def test_the_prior_scale_counts():
    model = easy()
    vae = as_vae(model)
    x, _ = simulate(vae, 5, generator(2))
    vae.prior_scale.fill_(2.0)
    result = importance_bound(prior_log_weights(vae, x, 20_000, generator()))
    wider = LinearVAE.with_optimal_encoder(2 * model.W, model.mu, model.sigma)
    errors = ((1 / result.effective_share - 1) / 20_000).sqrt()
    assert within(result.bound - exact(wider, x), errors)
    assert not within(result.bound - exact(model, x), errors)


def test_it_is_hopeless_where_q_is_not():
    model = axis_aligned(synthetic())
    vae = as_vae(perturbed(model))
    x, _ = simulate(vae, 10, generator(2))
    truth = exact(model, x)
    by_q = importance_bound(log_weights(vae, x, 5_000, generator())).bound - truth
    by_prior = importance_bound(prior_log_weights(vae, x, 10_000, generator())).bound - truth
    assert float(by_q.mean().abs()) < 0.1
    assert float(by_prior.mean()) < -100
    assert float(by_prior.max()) < -10


@pytest.mark.mnist
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_it_is_hopeless_on_real_images(dataset):
    spectrum, x = real_images(dataset)
    model, x = LinearVAE.optimum(spectrum, 20), x[:8]
    vae, truth = as_vae(perturbed(model)), exact(model, x)
    by_q = importance_bound(log_weights(vae, x, 2_000, generator())).bound - truth
    by_prior = importance_bound(prior_log_weights(vae, x, 2_000, generator())).bound - truth
    assert float(by_q.mean().abs()) < 0.1
    assert float(by_prior.mean()) < -100


def test_blocks_and_progress(monkeypatch):
    vae = as_vae(easy())
    x, _ = simulate(vae, 3, generator(2))
    seen = []
    whole = prior_log_weights(vae, x, 100, generator(), seen.append)
    assert seen == [1, 2, 3]
    monkeypatch.setattr(prior_sampling, "codes_at_once", lambda _: 7)
    blocks = prior_log_weights(vae, x, 100, generator())
    assert blocks.shape == whole.shape
    # Every code of every block is a new one.
    assert len(blocks.flatten().unique()) == 300


def test_bad_input_is_refused():
    vae = as_vae(easy())
    with pytest.raises(ValueError, match="must be at least 1; got k=0"):
        prior_log_weights(vae, torch.zeros((1, 20)), 0, generator())
    with pytest.raises(ValueError, match="at least one image; none was given"):
        prior_log_weights(vae, torch.zeros((0, 20)), 5, generator())
    delta = VAE((Cell(posterior="delta", latent_dim=2),), (1, 4, 5), 2, (generator(),), 1.0)
    with pytest.raises(ValueError, match=r"got a delta posterior.*with posterior diagonal"):
        prior_log_weights(delta, torch.zeros((1, 20)), 5, generator())
