"""Every estimator uses the prior of the model: against quadrature over one latent dimension."""

import math

import numpy as np
import pytest
import torch
from scored_models import cell, grey_split, made, random_grey, source
from torch import Tensor

from vaebench.evaluation.annealing import Annealing, annealed_bound, bidirectional_bounds
from vaebench.evaluation.bound import bound_metrics, score
from vaebench.evaluation.evaluate import Evaluation, evaluate
from vaebench.evaluation.importance import importance_bound, log_weights
from vaebench.evaluation.linear import exact_log_likelihood, has_closed_form
from vaebench.evaluation.pictures import pictures, small_decoder
from vaebench.evaluation.prior_sampling import prior_log_weights
from vaebench.model.sampling import simulate
from vaebench.model.vae import VAE

SHAPE = (1, 2, 3)
KINDS = pytest.mark.parametrize("kind", ["mixture", "vamp"])
GRID = torch.linspace(-12, 12, 24_001, dtype=torch.float64)


def model(kind: str, **axes: object) -> VAE:
    """A decoder that is not linear and a prior that is neither centred nor Gaussian."""
    design = {"architecture": "mlp", "hidden": (6,), "latent_dim": 1, "sigma": 0.5}
    vae = made(cell(**design, prior=kind, prior_components=3, **axes), SHAPE).double()
    for name, parameter in vae.named_parameters():
        if name.startswith(("decoder", "encoder")):
            parameter.mul_(2.0)
    if kind == "mixture":
        vae.prior_means.copy_(torch.tensor([[-0.5], [0.6], [1.8]]))
        vae.prior_log_scale.copy_(torch.tensor([[0.3], [0.7], [0.2]]).log())
        vae.prior_logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
    else:
        vae.prior_inputs.mul_(20.0)
    return vae


def on_grid(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Log p(z) ``(G,)`` and log p(x|z) ``(G, N)`` at the points of the grid."""
    z = GRID.view(1, -1, 1, 1)
    return vae.prior().log_prob(z)[0, :, 0], vae.decode(z).log_prob(x.unsqueeze(0))[0]


def exact(vae: VAE, x: Tensor) -> Tensor:
    """Log p(x) by the trapezoidal rule, ``(N,)``."""
    log_prior, log_likelihood = on_grid(vae, x)
    joint = log_prior.unsqueeze(1) + log_likelihood
    return torch.logsumexp(joint, 0) + math.log(float(GRID[1] - GRID[0]))


def images(vae: VAE, count: int = 8) -> tuple[Tensor, Tensor]:
    return simulate(vae, count, source(60))


@KINDS
def test_the_prior_of_these_models_is_a_density_far_from_the_standard_one(kind: str) -> None:
    vae = model(kind)
    log_prior, _ = on_grid(vae, images(vae)[0])
    assert float(torch.trapezoid(log_prior.exp(), GRID)) == pytest.approx(1.0, abs=1e-9)
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(GRID)
    kl = torch.trapezoid(log_prior.exp() * (log_prior - standard), GRID)
    assert float(kl) > 0.1


@KINDS
@pytest.mark.parametrize("estimator", [log_weights, prior_log_weights])
def test_importance_weights_estimate_the_integral(kind: str, estimator: object) -> None:
    vae, k = model(kind), 20_000
    x, _ = images(vae)
    result = importance_bound(estimator(vae, x, k, source()))
    errors = ((1 / result.effective_share - 1) / k).sqrt()
    assert float(errors.max()) < 0.1
    assert ((result.bound - exact(vae, x)).abs() < 4 * errors + 1e-3).all()


@KINDS
def test_annealing_brackets_the_integral(kind: str) -> None:
    vae = model(kind)
    x, z = images(vae, 12)
    bracket = bidirectional_bounds(vae, x, z, Annealing(16, 150, 3), source())
    below, above = exact(vae, x) - bracket.forward.bound, bracket.reverse.bound - exact(vae, x)
    for part in (below, above):
        assert float(part.mean()) > -3 * float(part.std()) / math.sqrt(len(part))
    assert float(bracket.gap.mean()) < 0.2
    # With one step the chains are plain draws from the prior, which must be the right one.
    single = annealed_bound(vae, x, Annealing(8_000, 1, 1), source())
    assert float(single.standard_error.max()) < 0.1
    assert ((single.bound - exact(vae, x)).abs() < 4 * single.standard_error).all()
    alone = annealed_bound(vae, x, Annealing(16, 150, 3), source())
    assert 0.4 < float(alone.acceptance.mean()) < 0.85


@KINDS
def test_the_recorded_kl_is_that_of_quadrature(kind: str) -> None:
    design = model(kind).cells[0].model_copy(update={"eval_samples": 4_000})
    vae, split = model(kind).float(), grey_split(random_grey(6, SHAPE))
    scores = score(vae, design, split, source())
    assert scores.kl_per_dimension is None
    q = vae.encode(split.pixels.unsqueeze(0))
    log_prior, _ = on_grid(vae.double(), split.pixels.double())
    for image, found in enumerate(scores.kl):
        mean, deviation = q.mean[0, image].double(), q.variance[0, image].double().sqrt()
        log_q = torch.distributions.Normal(mean, deviation).log_prob(GRID)
        expected = torch.trapezoid(log_q.exp() * (log_q - log_prior), GRID)
        assert float(found) == pytest.approx(float(expected), abs=0.1)


def test_units_are_active_relative_to_the_spread_of_the_prior() -> None:
    design = cell(prior="mixture", prior_components=1)
    weights = np.zeros((2, 6))
    weights[:, 0] = 1.0
    split = grey_split(random_grey(50, SHAPE))
    spread = float(split.pixels[:, 0].std(correction=0))
    for factor, active in ((9.0, 2), (11.0, 1)):
        scales = np.log([[spread, factor * spread]])
        parts = {"encoder.mean.weight": weights, "prior_log_scale": scales}
        vae = made(design, SHAPE, parts)
        scores = score(vae, design, split, source())
        assert bound_metrics(design, split, scores)["active_units"].value == active


def test_a_linear_model_with_another_prior_is_not_probabilistic_pca() -> None:
    design = cell(prior="mixture")
    assert has_closed_form(cell())
    assert not has_closed_form(design)
    with pytest.raises(ValueError, match="a normal prior"):
        exact_log_likelihood(made(design, SHAPE), torch.rand(3, 6))


def test_pictures_and_the_decoder_of_a_page_follow_the_prior() -> None:
    design = cell(prior="mixture", prior_components=1, likelihood="gaussian")
    decoder = np.zeros((6, 2))
    decoder[0, 0] = decoder[1, 1] = 1.0
    means, scales = [[0.5, 0.25]], np.log([[0.1, 0.02]])
    parts = {"decoder.weight": decoder, "prior_means": means, "prior_log_scale": scales}
    vae, split = made(design, SHAPE, parts), grey_split(random_grey(20, SHAPE))
    shown = pictures(vae, split, torch.tensor([1.0, 0.0]), source())
    samples = shown["prior_samples"].reshape(36, 6) / 255
    assert samples[:, :2].mean(0) == pytest.approx([0.5, 0.25], abs=0.06)
    assert samples[:, 0].std() == pytest.approx(0.1, rel=0.4)
    lines = shown["traversal"].reshape(8, 8, 6) / 255
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(8) + 0.5) / 8).numpy()
    np.testing.assert_allclose(lines[:, 0, 0], 0.5 + 0.1 * quantiles, atol=0.004)
    np.testing.assert_allclose(lines[0, :, 1], 0.25 + 0.02 * quantiles, atol=0.004)
    assert small_decoder(vae) == {}


@KINDS
def test_every_measurement_of_a_cell_exists_and_the_record_states_how_the_kl_was_computed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.evaluation.evaluate.Annealing", lambda: Annealing(4, 20, 3))
    monkeypatch.setattr("vaebench.evaluation.local._STEPS", 60)
    axes = {"prior": kind, "prior_components": 3, "architecture": "mlp", "hidden": (6,)}
    result = measured(iw_samples=50, ais_images=2, local_images=2, eval_samples=20, **axes)
    plain = measured(iw_samples=50, ais_images=2, local_images=2, eval_samples=20)
    missing = {name for name, metric in result.metrics.items() if metric.value is None}
    assert missing == {n for n, m in plain.metrics.items() if m.value is None} - {
        "exact_log_likelihood"
    }
    assert set(plain.arrays) - set(result.arrays) == {"kl_per_dimension"}
    (note,) = (each for each in result.warnings if each.code == "monte_carlo_kl")
    assert "no KL per dimension" in note.text
    assert "monte_carlo_kl" not in {each.code for each in plain.warnings}
    value = {name: metric.value for name, metric in result.metrics.items()}
    assert value["elbo"] == pytest.approx(-(value["reconstruction_error"] + value["kl"]))
    assert value["elbo"] < value["iw_bound"] + 0.1
    assert value["amortization_gap"] > -0.1


def measured(**axes: object) -> Evaluation:
    design = cell(**axes)
    split = grey_split(random_grey(40, (1, 4, 4)), labels=torch.arange(40) % 2)
    return evaluate(made(design, (1, 4, 4)), design, split, split, source())
