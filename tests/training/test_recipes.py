"""KL annealing, free bits and learned priors in training; what is reported stays the bound."""

import math

import numpy as np
import pytest
import torch
from test_training_step import PIXELS, batch, known, linear_truth, terms_of
from tiny_runs import assert_close_series, assert_close_weights, cell, generator, made, run

from vaebench.data.pixels import TrainingPixels
from vaebench.evaluation.linear import linear_bound
from vaebench.model.loss import penalty_weights, schedule_factor
from vaebench.model.vae import VAE
from vaebench.training.loop import Generators, train
from vaebench.truth.ppca import fit


@pytest.mark.parametrize(
    ("schedule", "done", "factor"),
    [
        ("constant", 0.0, 1.0),
        ("linear:4", 0.0, 0.0),
        ("linear:4", 1.5, 0.375),
        ("linear:4", 4.0, 1.0),
        ("linear:4", 9.5, 1.0),
        # Fu et al. 2019: two cycles over ten epochs, each rises over its first half.
        ("cyclical:2", 0.0, 0.0),
        ("cyclical:2", 1.25, 0.5),
        ("cyclical:2", 2.5, 1.0),
        ("cyclical:2", 4.9, 1.0),
        ("cyclical:2", 5.0, 0.0),
        ("cyclical:2", 6.25, 0.5),
        ("cyclical:2", 9.9, 1.0),
    ],
)
def test_beta_rises_as_its_schedule_states(schedule: str, done: float, factor: float) -> None:
    assert schedule_factor(schedule, done, 10) == pytest.approx(factor)
    design = cell(beta=0.5, beta_schedule=schedule, epochs=10)
    weight = penalty_weights([design], torch.device("cpu"), done)
    assert weight.tolist() == pytest.approx([0.5 * factor])


def test_training_follows_the_schedule_from_step_to_step() -> None:
    """Four batches an epoch: the loss is that of beta = step / 8 over two epochs."""
    series = run(cell(beta_schedule="linear:2")).training.series[0]
    names = ("train_loss", "train_reconstruction_error", "train_kl", "train_elbo")
    loss, error, kl, elbo = (np.array(series[name]) for name in names)
    gaps = (loss - error) / kl
    # 100 images in batches of 32: the mean factor of an epoch is weighted by the KL of each step.
    assert gaps[0] == pytest.approx(np.mean([0, 1 / 8, 2 / 8, 3 / 8]), abs=0.06)
    assert gaps[1] == pytest.approx(np.mean([4 / 8, 5 / 8, 6 / 8, 7 / 8]), abs=0.06)
    assert gaps[2:] == pytest.approx(1.0, rel=1e-5)
    assert elbo == pytest.approx(-(error + kl))


def optimum_distance(**axes: object) -> float:
    """ELBO of the pPCA optimum minus that of a linear VAE after training, nats per image."""
    random = np.random.default_rng(90)
    images = random.normal(size=(240, 3)) @ random.normal(0, 0.5, size=(3, PIXELS))
    images += random.normal(0, 0.5, images.shape)
    pixels = torch.from_numpy(images).float()
    design = cell(
        dataset="linear-gaussian",
        architecture="linear",
        sigma=0.5,
        epochs=150,
        batch_size=60,
        learning_rate=0.05,
        importance_samples=2,
        learning_rate_schedule="cosine",
        **axes,
    )
    vae = made([design], None)
    data = TrainingPixels(pixels.view(240, 1, 4, 5), None, "none", dequantize=False)
    train(vae, [design], data, [Generators(*(generator(0, i) for i in (1, 2, 3)))])
    elbo = float(linear_bound(vae, pixels).elbo.mean())
    return fit(images).log_likelihood(3, 0.5) - elbo


@pytest.mark.parametrize("schedule", ["linear:50", "cyclical:2"])
def test_annealing_that_ends_early_enough_reaches_the_optimum(schedule: str) -> None:
    assert 0 <= optimum_distance(beta_schedule=schedule) < 0.05


def test_annealing_that_does_not_end_misses_the_optimum() -> None:
    assert optimum_distance(beta_schedule="linear:100000") > 0.5


@pytest.mark.parametrize("free_bits", [0.05, 0.3, 2.0])
def test_free_bits_are_the_least_kl_that_a_latent_dimension_is_charged(free_bits: float) -> None:
    truth, images = linear_truth(), 6
    x = batch(1, images)[0]
    axes = math.sqrt(3) * torch.eye(3, dtype=torch.float64)
    points = torch.cat((axes, -axes))[None, :, None, :].expand(1, -1, images, -1)
    terms = terms_of(known(truth, beta=0.5, free_bits=free_bits), x, points)
    exact = truth.bound(x[0])
    charged = np.maximum(exact.kl_per_dimension.mean(0), free_bits).sum()
    error, kl = exact.reconstruction_error.mean(), exact.kl.mean()
    assert terms.loss.item() == pytest.approx(error + 0.5 * charged, rel=1e-12)
    assert terms.kl is not None
    assert terms.kl.item() == pytest.approx(kl, rel=1e-12)


def gradients(vae: VAE, loss: torch.Tensor) -> dict[str, torch.Tensor | None]:
    found = torch.autograd.grad(loss.sum(), list(vae.parameters()), allow_unused=True)
    return dict(zip((name for name, _ in vae.named_parameters()), found, strict=True))


def test_no_free_bits_change_nothing_and_many_free_the_whole_kl() -> None:
    x, noise = batch(1)
    plain, none, all_free, no_kl = (
        made([cell(**axes)]).double()
        for axes in ({}, {"free_bits": 1e-30}, {"free_bits": 1e6}, {"beta": 0.0})
    )
    zero = made([cell(free_bits=0.0)]).double()
    assert torch.equal(terms_of(plain, x, noise).loss, terms_of(zero, x, noise).loss)
    for one, other, constant in ((none, plain, 0.0), (all_free, no_kl, 3e6)):
        found, expected = (terms_of(vae, x, noise).loss for vae in (one, other))
        torch.testing.assert_close(found, expected + constant, rtol=1e-12, atol=0.0)
        theirs = gradients(other, expected)
        for name, gradient in gradients(one, found).items():
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axes", [{}, {"objective": "iwae", "importance_samples": 3}], ids=str)
def test_the_loss_of_a_one_component_mixture_is_that_of_the_normal_prior(
    axes: dict[str, object],
) -> None:
    """In expectation over the draws; for iwae draw by draw, since it uses densities in both."""
    x, _ = batch(1)
    plain = made([cell(**axes)]).double()
    one = made([cell(prior="mixture", prior_components=1, **axes)]).double()
    with torch.no_grad():
        one.prior_means.zero_()
        one.prior_log_scale.zero_()
    draws = 3 if axes else 20_000
    noise = torch.randn(1, draws, 6, 3, generator=generator(9, 0), dtype=torch.float64)
    found, expected = (terms_of(vae, x, noise) for vae in (one, plain))
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if axes else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(found.loss, expected.loss, **tolerance)
    theirs = gradients(plain, expected.loss)
    for name, gradient in gradients(one, found.loss).items():
        if name in theirs:
            torch.testing.assert_close(gradient, theirs[name], **tolerance)


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_a_learned_prior_raises_the_bound(prior: str, objective: str) -> None:
    axes = {"prior": prior, "prior_components": 5, "objective": objective, "epochs": 40}
    trained = run(cell(seed=5, **axes))
    series = trained.training.series[0]
    plain = run(cell(seed=5, objective=objective, epochs=40)).training.series[0]
    assert np.mean(series["train_elbo"][-5:]) > np.mean(plain["train_elbo"][-5:])
    start = made([cell(seed=5, **axes)]).state_dict()
    moved = [n for n, v in trained.vae.state_dict().items() if not torch.equal(v, start[n])]
    assert sum(name.startswith("prior_") for name in moved) == (3 if prior == "mixture" else 1)


@pytest.mark.parametrize(
    "axes",
    [
        {"prior": "mixture", "prior_components": 4},
        {"prior": "mixture", "prior_components": 4, "posterior": "full"},
        {"prior": "vamp", "prior_components": 4, "beta_schedule": "cyclical:2"},
        {"free_bits": 0.2, "beta_schedule": "linear:3"},
    ],
    ids=lambda axes: "-".join(str(value) for value in axes.values()),
)
def test_a_pack_trains_as_its_members_alone(axes: dict[str, object]) -> None:
    cells = [cell(seed=seed, beta=beta, **axes) for seed, beta in ((5, 1.0), (6, 0.5))]
    pack = run(*cells)
    for member, each in enumerate(cells):
        alone = run(each)
        assert_close_weights(pack.weights(member), alone.weights())
        assert_close_series(pack.training.series[member], alone.training.series[0])


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_weight_decay_does_not_move_the_prior(prior: str) -> None:
    """With one step of SGD on a loss without KL only the decay could move it."""
    axes = {"prior": prior, "prior_components": 3, "beta": 0.0, "optimizer": "sgd"}
    trained = run(cell(weight_decay=0.5, epochs=1, **axes))
    start = made([cell(**axes)]).state_dict()
    for name, value in trained.vae.state_dict().items():
        if name.startswith("prior_"):
            assert torch.equal(value, start[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {"prior": "vamp", "prior_components": 4, "beta_schedule": "linear:3"},
        {"prior": "mixture", "prior_components": 4, "objective": "iwae"},
        {"free_bits": 0.2},
    ],
    ids=str,
)
def test_recipes_can_be_compiled(axes: dict[str, object]) -> None:
    eager, compiled = run(cell(**axes)), run(cell(**axes), compiled=True)
    assert compiled.training.note is None
    assert compiled.training.step_kind == "compiled"
    for name, value in eager.weights().items():
        torch.testing.assert_close(compiled.weights()[name], value, rtol=1e-3, atol=1e-4)
