"""Draws from every family have the distribution that its own density or mass says they have."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vaebench.grid.cell import Cell
from vaebench.model.likelihoods import family
from vaebench.model.likelihoods.bernoulli import Bernoulli
from vaebench.model.likelihoods.categorical import Categorical
from vaebench.model.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaebench.model.sampling import simulate
from vaebench.model.vae import VAE

COUNT = 20_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def wide(value):
    return torch.full((1, 1, COUNT, 1), value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("gaussian", stats.norm(0.3, 0.2)),
        ("laplace", stats.laplace(0.3, 0.2)),
        ("logistic", stats.logistic(0.3, 0.2)),
        ("student_t", stats.t(5, 0.3, 0.2)),
    ],
)
def test_location_scale(name, law):
    observed = family(name)(wide(0.3), wide(0.2))
    x = observed.sample(generator()).flatten()
    assert stats.kstest(x.numpy(), law.cdf).pvalue > 1e-3
    # The same law as the family's density, and not only as scipy's.
    entropy = -observed.log_prob(x.view(1, 1, -1, 1)).mean()
    assert float(entropy) == pytest.approx(law.entropy(), abs=0.03)


@pytest.mark.parametrize("logit", [-40.0, -3.0, -1e-9, 0.0, 0.5, 4.0, 800.0])
def test_continuous_bernoulli(logit):
    x = ContinuousBernoulli(wide(logit)).sample(generator()).flatten()

    def distribution_function(at):
        if abs(logit) < 1e-6:
            return at
        if logit < 0:
            return np.expm1(logit * at) / math.expm1(logit)
        # From the upper end, where nothing overflows.
        return (np.exp(-logit * (1 - at)) - math.exp(-logit)) / -math.expm1(-logit)

    law = stats.kstest(x.numpy(), distribution_function)
    assert law.pvalue > 1e-3
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1


def test_bernoulli_and_categorical():
    x = Bernoulli(wide(-1.0)).sample(generator())
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert float(x.mean()) == pytest.approx(1 / (1 + math.e), abs=0.012)
    probabilities = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    levels = Categorical(probabilities.log().expand(1, 1, COUNT, 1, 3)).sample(generator())
    shares = [float((levels == level).double().mean()) for level in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx(probabilities.tolist(), abs=0.014)


def test_simulated_images_follow_their_codes():
    cell = Cell(likelihood="gaussian", sigma=0.01, latent_dim=3, hidden=(8,), prior_scale=2.0)
    vae = VAE((cell,), (1, 4, 4), None, (generator(),), 0.01)
    pixels, codes = simulate(vae, 4_000, generator(1))
    assert (pixels.shape, codes.shape) == ((4_000, 16), (4_000, 3))
    assert float(codes.std()) == pytest.approx(2.0, abs=0.06)
    with torch.no_grad():
        residual = pixels - vae.decode(codes[None, None]).mean[0, 0]
    assert float(residual.std()) == pytest.approx(0.01, rel=0.02)


def test_no_image_is_refused():
    vae = VAE((Cell(latent_dim=2),), (1, 4, 4), 2, (generator(),), 1.0)
    with pytest.raises(ValueError, match="at least 1; got count=0"):
        simulate(vae, 0, generator())


def test_one_image_can_be_simulated():
    cell = Cell(likelihood="gaussian", sigma=0.5, latent_dim=2, hidden=(4,))
    vae = VAE((cell,), (1, 2, 3), 17, (generator(),), 0.5)
    pixels, codes = simulate(vae, 1, generator())
    assert (pixels.shape, codes.shape) == ((1, 6), (1, 2))


def test_every_generator_gives_counts_of_its_own():
    mean, dispersion = torch.full((1, 1, 8, 8), 6.0), torch.zeros(1, 1, 8, 8)
    observed = family("negative_binomial")(mean, dispersion)
    drawn = {observed.sample(generator(seed)).numpy().tobytes() for seed in range(300)}
    assert len(drawn) == 300
