"""The loop's books: epochs, short batches, divergence, precision."""

import math
from collections.abc import Callable

import pytest
import torch
from tiny_runs import (
    BATCH,
    IMAGES,
    SHAPE,
    assert_close_series,
    cell,
    generator,
    images,
    made,
    pixels_of,
    run,
)
from torch import nn

from vaebench.grid.cell import Cell
from vaebench.model.objective import draw
from vaebench.training.loop import Generators, Training, train


def factory(
    image_shape: tuple[int, int, int], latent_dim: int, encoder_width: int, decoder_width: int
) -> tuple[nn.Module, nn.Module]:
    """A user's own networks; one parameter has no dimension."""

    class Scaled(nn.Linear):
        def __init__(self, size_in: int, size_out: int) -> None:
            super().__init__(size_in, size_out)
            self.factor = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.factor

    encoder = nn.Sequential(nn.Flatten(), Scaled(math.prod(image_shape), encoder_width))
    return encoder, Scaled(latent_dim, decoder_width)


def test_training_raises_the_bound_and_keeps_a_series_an_epoch() -> None:
    told: list[tuple[int, int]] = []
    result = run(
        cell(epochs=12, learning_rate_schedule="cosine", sigma="learned"),
        progress=lambda epoch, epochs, _: told.append((epoch, epochs)),
    )
    series = result.training.series[0]
    assert told == [(epoch, 12) for epoch in range(1, 13)]
    assert {len(values) for values in series.values()} == {12}
    elbo = [value for value in series["train_elbo"] if value is not None]
    assert elbo[-1] > elbo[0] + 2
    rates = [3e-3 * 0.5 * (1 + math.cos(math.pi * epoch / 12)) for epoch in range(12)]
    assert series["learning_rate"] == pytest.approx(rates)
    assert not result.vae.training


def test_recorded_terms_are_unweighted_and_add_up_to_the_loss() -> None:
    series = run(cell(beta=3.0)).training.series[0]
    for loss, error, kl, elbo in zip(
        series["train_loss"],
        series["train_reconstruction_error"],
        series["train_kl"],
        series["train_elbo"],
        strict=True,
    ):
        assert error is not None
        assert kl is not None
        assert loss == pytest.approx(error + 3 * kl, rel=1e-6)
        assert elbo == pytest.approx(-(error + kl), rel=1e-6)


def test_each_image_counts_once_an_epoch_also_in_a_short_last_batch() -> None:
    # Without a step worth the name and without noise, the epoch's mean is that of all images.
    design = cell(posterior="delta", learning_rate=1e-30, epochs=2)
    result = run(design)
    assert IMAGES % BATCH == 4
    assert len(result.training.step_seconds) == 2 * math.ceil(IMAGES / BATCH)
    assert result.training.images == 2 * IMAGES
    x = (images().flatten(1).float() / 16).unsqueeze(0)
    with torch.no_grad():
        drawn = draw(made([design]), x, torch.zeros(1, 1, IMAGES, 3))
        exact = drawn.reconstruction_error().mean().item()
    series = result.training.series[0]
    assert series["train_reconstruction_error"] == pytest.approx([exact, exact], rel=1e-5)
    assert "train_kl" not in series


def test_the_step_at_which_the_loss_stops_being_finite_is_named() -> None:
    design = cell(dataset="linear-gaussian", epochs=3)
    broken = torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(40))
    broken[17] = math.inf
    result = run(design, grey=broken)
    order = torch.randperm(IMAGES, generator=generator(0, 1))
    step = 1 + int((order == 17).nonzero()) // BATCH
    divergence = result.training.divergence[0]
    assert divergence is not None
    assert divergence.step == step == len(result.training.step_seconds)
    assert (divergence.loss is None) == (step == 1)
    assert divergence.sigma == pytest.approx(0.2)
    assert result.training.images == BATCH * (step - 1)
    assert {len(values) for values in result.training.series[0].values()} == {1}


def test_a_wild_learning_rate_diverges_after_one_step_with_its_last_loss() -> None:
    result = run(cell(learning_rate=1e30, sigma="learned"))
    divergence = result.training.divergence[0]
    assert divergence is not None
    assert divergence.step == 2
    assert divergence.loss is not None
    assert math.isfinite(divergence.loss)


def test_the_series_of_a_member_that_diverges_are_those_it_has_alone() -> None:
    def broken(*cells: Cell) -> Training:
        """The first member's weights are broken at the end of step 6."""
        vae, replays = made(cells), iter(range(100))

        def capture(step: Callable[[], None]) -> Callable[[], None]:
            def replay() -> None:
                step()
                if next(replays) == 1:
                    vae.get_parameter("decoder.layers.0.weight").data[0] = math.nan

            return replay

        sources = [Generators(*(generator(c.seed, i) for i in (1, 2, 3))) for c in cells]
        return train(vae, cells, pixels_of(cells[0]), sources, capture=capture)

    cells = cell(seed=1, sigma="learned"), cell(seed=2, sigma="learned")
    together, alone = broken(*cells), broken(cells[0])
    assert_close_series(together.series[0], alone.series[0])
    assert_close_series(together.series[1], run(cells[1]).training.series[0])
    assert [len(each["train_loss"]) for each in together.series] == [2, cells[1].epochs]
    divergence = together.divergence[0]
    assert divergence is not None
    assert divergence.step == 7
    assert divergence.loss is not None
    assert divergence.gradient_norm is None
    assert together.divergence[1] is None


def test_a_model_that_the_last_step_breaks_has_diverged() -> None:
    result = run(cell(learning_rate=3e38, epochs=1, batch_size=IMAGES, sigma="learned"))
    assert len(result.training.step_seconds) == 1
    divergence = result.training.divergence[0]
    assert divergence is not None
    assert divergence.step == 1


def test_an_optimal_sigma_follows_the_residuals() -> None:
    result = run(cell(sigma="optimal", epochs=10))
    sigma = result.training.series[0]["sigma"]
    assert sigma[0] != sigma[-1]
    x = (images().flatten(1).float() / 16).unsqueeze(0)
    with torch.no_grad():
        noise = torch.randn(1, 1, IMAGES, 3, generator=torch.Generator().manual_seed(41))
        residual = x - draw(result.vae, x, noise).observed.mean[0]
    assert sigma[-1] == pytest.approx(residual.square().mean().sqrt().item(), rel=0.2)


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"posterior": "full", "objective": "iwae", "importance_samples": 2},
        {"architecture": "conv", "likelihood": "continuous_bernoulli", "sigma": None},
        {"architecture": "linear", "sigma": "optimal", "likelihood": "student_t"},
    ],
    ids=["mlp", "full iwae", "conv", "linear"],
)
def test_bfloat16_trains_float32_weights_to_about_the_same_loss(axes: dict[str, object]) -> None:
    single = run(cell(epochs=8, **axes))
    half = run(cell(epochs=8, precision="bfloat16", **axes))
    assert half.training.divergence == [None]
    for name, value in half.weights().items():
        assert value.dtype == torch.float32, name
        assert value.isfinite().all(), name
    losses = single.training.series[0]["train_loss"], half.training.series[0]["train_loss"]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=0.3)


def test_sparsity_makes_codes_small() -> None:
    x = (images().flatten(1).float() / 16).unsqueeze(0)
    sizes = [
        run(cell(posterior="delta", sparsity=s, epochs=20)).vae.encode(x).mean.abs().mean().item()
        for s in (0.0, 30.0)
    ]
    assert sizes[1] < 0.3 * sizes[0]


def test_a_users_own_networks_are_trained() -> None:
    result = run(cell(architecture=f"{__name__}:factory", epochs=10, sigma="learned"))
    elbo = [value for value in result.training.series[0]["train_elbo"] if value is not None]
    assert elbo[-1] > elbo[0] + 1
    factor = result.vae.get_parameter("encoder.network.1.factor")
    assert factor.item() != 1.0


def test_pixels_and_noise_come_from_their_own_generators() -> None:
    design = cell(binarization="dynamic", likelihood="bernoulli", sigma=None, epochs=1)

    def series(order: int, pixels: int, noise: int) -> object:
        vae = made([design], 2)
        sources = Generators(*(torch.Generator().manual_seed(s) for s in (order, pixels, noise)))
        return train(vae, [design], pixels_of(design), [sources]).series

    first = series(1, 2, 3)
    assert series(1, 2, 3) == first
    for other in ((9, 2, 3), (1, 9, 3), (1, 2, 9)):
        assert series(*other) != first
