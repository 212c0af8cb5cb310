"""The small VAE behind the split of the posterior gap: its gradients and its exact evidence."""

import numpy as np
import pytest
from scipy.special import logsumexp

from vaebench.findings.gaps import SmallVAE

RNG = np.random.default_rng(0)
SIZE = 65 * 32 + 33 * 4 + 3 * 32 + 33 * 64
X = (RNG.random((5, 64)) < 0.4).astype(float)
WEIGHTS = 0.3 * RNG.normal(size=SIZE)
NOISE = RNG.standard_normal((3, 5, 2))


def test_the_gradient_by_the_weights_is_right():
    direction, step = RNG.normal(size=SIZE), 1e-5
    ends = [
        SmallVAE.of(WEIGHTS + sign * step * direction).gradient(X, NOISE)[0] for sign in (1, -1)
    ]
    gradient = SmallVAE.of(WEIGHTS).gradient(X, NOISE)[1]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient @ direction, rel=1e-6)


def test_the_gradient_by_the_codes_is_right():
    model, q = SmallVAE.of(WEIGHTS), RNG.normal(size=(5, 4))
    direction, step = RNG.normal(size=(5, 4)), 1e-5
    ends = [model.elbo(X, q + sign * step * direction, NOISE)[0].sum() for sign in (1, -1)]
    gradient = model.elbo(X, q, NOISE)[1]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient * direction).sum(), rel=1e-6)


def test_the_evidence_is_what_sampling_from_the_prior_gives():
    model = SmallVAE.of(WEIGHTS)
    z = np.random.default_rng(1).standard_normal((40_000, 2))
    sampled = [logsumexp(model.log_likelihood(image, z)) - np.log(len(z)) for image in X]
    np.testing.assert_allclose(model.log_evidence(X), sampled, atol=0.03)


def test_the_evidence_is_above_every_bound():
    model = SmallVAE.of(WEIGHTS)
    noise = np.random.default_rng(2).standard_normal((500, 5, 2))
    assert (model.elbo(X, model.encode(X), noise)[0] < model.log_evidence(X)).all()


def test_without_a_decoder_the_evidence_is_that_of_the_pixels():
    weights = np.zeros(SIZE)
    weights[-64:] = np.linspace(-1, 1, 64)
    exact = (X * weights[-64:] - np.logaddexp(0, weights[-64:])).sum(axis=1)
    np.testing.assert_allclose(SmallVAE.of(weights).log_evidence(X), exact, atol=1e-6)
