"""The VAE's networks and where its scale comes from."""

import math

import pytest
import torch
from tiny_models import PIXELS, SHAPE, made
from torch import Tensor, nn

from vaebench.grid.cell import Cell
from vaebench.model.likelihoods import SCALE_FLOOR, LocationScale
from vaebench.model.likelihoods.categorical import Categorical
from vaebench.model.likelihoods.negative_binomial import NegativeBinomial
from vaebench.model.networks import affine_layers
from vaebench.model.objective import draw
from vaebench.model.vae import VAE, Units, sigma_kind

KINDS = ("learned", "optimal", "per_pixel", "predicted", 0.2)


def cell(**axes: object) -> Cell:
    return Cell.model_validate(
        {"hidden": (7,), "latent_dim": 2, "likelihood": "gaussian", "sigma": 0.2} | axes
    )


def codes(members: int, draws: int = 3, images: int = 5, latent_dim: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(12)
    return torch.randn(members, draws, images, latent_dim, generator=source)


def located(vae: VAE, z: Tensor, fit_to: Tensor | None = None) -> LocationScale:
    observed = vae.decode(z, fit_to)
    assert isinstance(observed, LocationScale)
    return observed


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.2, "fixed"), (None, "none"), ("optimal", "optimal")]
)
def test_the_kind_of_sigma_follows_from_the_cell(sigma: float | str | None, expected: str) -> None:
    likelihood = "bernoulli" if sigma is None else "gaussian"
    assert sigma_kind(cell(sigma=sigma, likelihood=likelihood)) == expected


@pytest.mark.parametrize("sigma", KINDS)
def test_a_fitted_scale_starts_where_it_is_told_and_a_fixed_one_stays(sigma: float | str) -> None:
    vae = made(cell(sigma=sigma), scale=0.3)
    scale = located(vae, codes(1)).scale
    if sigma == "predicted":
        assert scale.shape == (1, 3, 5, PIXELS)
        assert scale.log().mean().item() == pytest.approx(math.log(0.3), abs=0.3)
        assert vae.scale() is None
        return
    expected = 0.2 if sigma == 0.2 else 0.3
    assert scale.shape == (1, 1, 1, PIXELS if sigma == "per_pixel" else 1)
    torch.testing.assert_close(scale, torch.full_like(scale, expected))


@pytest.mark.parametrize("start", [SCALE_FLOOR, 1.2 * SCALE_FLOOR, 0.05, 1.0])
def test_a_learned_scale_can_start_anywhere_above_its_floor(start: float) -> None:
    scale = made(cell(sigma="learned"), scale=start).scale()
    assert scale is not None
    assert scale.item() == pytest.approx(max(start, 1.01 * SCALE_FLOOR), rel=1e-4)


@pytest.mark.parametrize("sigma", ["learned", "per_pixel", "predicted"])
def test_no_learned_scale_goes_below_the_floor(sigma: str) -> None:
    vae = made(cell(sigma=sigma))
    with torch.no_grad():
        if sigma == "predicted":
            bias = vae.get_parameter("decoder.layers.1.bias")
            bias[:, 1::2] = -60.0
        else:
            vae.raw_scale.fill_(-60.0)
    scale = located(vae, codes(1)).scale
    torch.testing.assert_close(scale, torch.full_like(scale, SCALE_FLOOR))


def test_an_optimal_scale_follows_the_batch_only_when_told_to() -> None:
    vae = made(cell(sigma="optimal"), scale=0.3)
    x, z = torch.rand(1, 5, PIXELS), codes(1)
    before = located(vae, z).scale.item()
    residual = x.unsqueeze(1) - located(vae, z).mean
    assert before == pytest.approx(0.3)
    expected = residual.square().mean().sqrt().item()
    assert located(vae, z, x).scale.item() == pytest.approx(expected, rel=1e-6)
    assert located(vae, z).scale.item() == pytest.approx(expected, rel=1e-6)
    vae.fixed_scale.fill_(0.7)
    assert located(vae, z).scale.item() == pytest.approx(0.7)


def test_each_member_of_a_pack_has_its_own_numbers() -> None:
    vae = made(cell(sigma=0.2, prior_scale=1.0), cell(sigma=0.5, prior_scale=3.0, seed=1))
    scale = vae.scale()
    assert scale is not None
    torch.testing.assert_close(scale.flatten(), torch.tensor([0.2, 0.5]))
    z = torch.ones(2, 1, 1, 2)
    exact = torch.distributions.Normal(0.0, torch.tensor([1.0, 3.0])).log_prob(torch.ones(2))
    torch.testing.assert_close(vae.prior().log_prob(z).flatten(), 2 * exact)


@pytest.mark.parametrize("architecture", ["mlp", "conv", "linear"])
@pytest.mark.parametrize("sigma", KINDS)
def test_a_member_of_a_pack_says_what_the_cell_says_alone(
    architecture: str, sigma: float | str
) -> None:
    cells = [cell(architecture=architecture, sigma=sigma, seed=seed) for seed in (3, 4)]
    # Far below 1, where a scale that is passed on wrongly shows.
    pack = made(*cells, shape=(1, 5, 6), scale=0.01)
    x, noise = torch.rand(2, 5, 30), codes(2)
    together = draw(pack, x, noise)
    for index, each in enumerate(cells):
        alone = made(each, shape=(1, 5, 6), scale=0.01)
        single = pack.member(index)
        assert single.cells == (each,)
        rows = slice(index, index + 1)
        expected = draw(alone, x[rows], noise[rows])
        for got in (draw(single, x[rows], noise[rows]).elbo(), together.elbo()[rows]):
            torch.testing.assert_close(got, expected.elbo(), rtol=1e-5, atol=1e-4)


def test_the_only_member_of_a_pack_is_the_pack() -> None:
    vae = made(cell())
    assert vae.member(0) is vae


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 8, 8), (3, 5, 7), (1, 28, 28)])
@pytest.mark.parametrize("architecture", ["mlp", "conv", "linear"])
def test_networks_fit_images_of_any_shape(architecture: str, shape: tuple[int, int, int]) -> None:
    hidden = (4,) if min(shape[1:]) < 4 else (4, 6)
    # With so few units a relu may leave none alive for these images.
    design = cell(architecture=architecture, hidden=hidden, activation="tanh", sigma="predicted")
    vae = made(design, design, shape=shape)
    pixels = shape[0] * shape[1] * shape[2]
    drawn = draw(vae, torch.rand(2, 5, pixels), codes(2))
    assert drawn.log_likelihood.shape == (2, 3, 5)
    assert drawn.observed.mean.shape == (2, 3, 5, pixels)
    drawn.elbo().sum().backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad.flatten(1) != 0).any(1).all(), name


def test_a_conv_decoder_puts_the_numbers_of_one_pixel_side_by_side() -> None:
    design = cell(architecture="conv", hidden=(4,), likelihood="categorical", sigma=None)
    vae = made(design, shape=(2, 4, 4), levels=5)
    z = codes(1)
    before = vae.decode(z)
    assert isinstance(before, Categorical)
    with torch.no_grad():
        # The last map of the last convolution: colour 1, level 4.
        vae.get_parameter("decoder.convolutions.0.bias")[0, 9] += 1
    after = vae.decode(z)
    assert isinstance(after, Categorical)
    change = (after.logits - before.logits)[0, 0, 0]
    expected = torch.zeros(32, 5)
    expected[16:, 4] = 1
    torch.testing.assert_close(change, expected)


def test_more_convolutions_than_the_image_can_bear_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 convolutions reduce a \(3, 4\) image to nothing"):
        made(cell(architecture="conv", hidden=(4, 4, 4)))


def test_initial_weights_are_uniform_within_the_root_of_the_fan_in() -> None:
    vae = made(cell(hidden=(400,)), shape=(1, 20, 20))
    weight = vae.get_parameter("encoder.layers.0.weight")
    assert weight.abs().max().item() == pytest.approx(1 / 20, rel=1e-3)
    assert weight.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.01)


def test_convolutional_networks_are_those_of_torch() -> None:
    """The same layers give the same outputs, and the initial weights have the same bounds."""
    design = cell(architecture="conv", hidden=(48, 32), activation="relu")
    vae = made(design, shape=(2, 8, 12))
    encoder = (nn.Conv2d(2, 48, 4, 2, 1), nn.ReLU(), nn.Conv2d(48, 32, 4, 2, 1), nn.ReLU())
    decoder = (nn.ConvTranspose2d(32, 48, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(48, 2, 4, 2, 1))
    image, code = torch.rand(5, 2, 8, 12), torch.randn(5, 2)
    for ours, theirs, x in (
        (vae.encoder, nn.Sequential(*encoder, nn.Flatten(), nn.Linear(32 * 6, 4)), image),
        (
            vae.decoder,
            nn.Sequential(
                nn.Linear(2, 32 * 6), nn.ReLU(), nn.Unflatten(1, (32, 2, 3)), *decoder, nn.Flatten()
            ),
            code,
        ),
    ):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.shape[1:] == other.shape
            if mine.numel() > 300:
                bound = other.abs().max().item()
                assert mine.abs().max().item() == pytest.approx(bound, rel=0.05)
            other.data.copy_(mine[0])
        torch.testing.assert_close(ours(x.flatten(1).unsqueeze(0))[0], theirs(x))


class TestUsersOwnNetworks:
    def test_they_are_trained_like_ours(self) -> None:
        vae = made(cell(architecture="users_networks:factory"))
        drawn = draw(vae, torch.rand(1, 5, PIXELS), codes(1))
        drawn.elbo().sum().backward()
        assert all(p.grad is not None for p in vae.parameters())

    def test_they_start_from_the_cells_seed_and_leave_the_global_one_alone(self) -> None:
        state = torch.random.get_rng_state()
        design = cell(architecture="users_networks:factory")
        first, again, other = (
            made(each).get_parameter("decoder.network.weight")
            for each in (design, design, design.model_copy(update={"seed": 1}))
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_wrong_shape_is_refused(self) -> None:
        vae = made(cell(architecture="users_networks:too_narrow"))
        message = (
            rf"the decoder must return a tensor of shape \(15, {PIXELS}\) for an input of "
            rf"shape \(15, 2\); it returned \(15, {PIXELS - 1}\)"
        )
        with pytest.raises(ValueError, match=message):
            vae.decode(codes(1))

    def test_two_tensors_are_refused(self) -> None:
        vae = made(cell(architecture="users_networks:with_two_outputs"))
        with pytest.raises(
            ValueError, match=r"encoder must .* shape \(5, 4\) .*; it returned a tuple"
        ):
            vae.encode(torch.rand(1, 5, PIXELS))

    def test_networks_with_nothing_to_train_are_refused(self) -> None:
        with pytest.raises(ValueError, match="must have a parameter to train"):
            made(cell(architecture="users_networks:with_nothing_to_train"))

    def test_anything_but_two_modules_is_refused(self) -> None:
        message = "users_networks:nothing must return two torch modules.*; it returned None"
        with pytest.raises(ValueError, match=message):
            made(cell(architecture="users_networks:nothing"))

    def test_they_are_not_packed(self) -> None:
        design = cell(architecture="users_networks:factory")
        with pytest.raises(ValueError, match="packs of one cell"):
            made(design, design)


def test_the_model_of_tests_has_the_pixels_of_its_shape() -> None:
    assert math.prod(SHAPE) == PIXELS


@pytest.mark.parametrize(
    "axes", [{"latent_dim": 3}, {"likelihood": "laplace"}, {"sigma": "learned"}], ids=str
)
def test_the_members_of_a_pack_share_their_program(axes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must have the same training step"):
        made(cell(latent_dim=2), cell(**{"latent_dim": 2, **axes}))


@pytest.mark.parametrize("sigma", ["predicted", "learned"])
def test_the_decoder_of_own_data_gives_location_and_scale_in_their_unit(sigma: str) -> None:
    own = cell(dataset="own.npz", kind="real", sigma=sigma)
    shift, scale = torch.tensor([5.0, -3.0, 0.5]), torch.tensor([2.0, 0.1, 30.0])
    plain = made(own, shape=(1, 1, 3), levels=None)
    source = torch.Generator().manual_seed(own.seed)
    vae = VAE((own,), (1, 1, 3), None, [source], 0.3, Units(shift, scale)).eval()
    inside, outside = located(plain, codes(1)), located(vae, codes(1))
    torch.testing.assert_close(outside.mean, shift + scale * inside.mean)
    torch.testing.assert_close(outside.scale, (inside.scale * scale).expand_as(outside.scale))


def test_of_two_numbers_of_a_pixel_only_the_location_is_moved_to_the_unit_of_the_data() -> None:
    own = cell(dataset="own.npz", kind="counts", likelihood="negative_binomial", sigma=None)
    shift, scale = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 30.0])
    plain = made(own, shape=(1, 1, 3), levels=None).decode(codes(1))
    source = torch.Generator().manual_seed(own.seed)
    moved = VAE((own,), (1, 1, 3), None, [source], 0.3, Units(shift, scale)).decode(codes(1))
    assert isinstance(plain, NegativeBinomial)
    assert isinstance(moved, NegativeBinomial)
    torch.testing.assert_close(moved.log_mean, shift + scale * plain.log_mean)
    torch.testing.assert_close(moved.log_dispersion, plain.log_dispersion)


def test_the_encoder_of_own_data_receives_them_standardised() -> None:
    """Counts as (log(1 + x) - shift) / scale, real numbers as (x - shift) / scale."""
    shift, scale = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 30.0])
    x = torch.tensor([[[0.0, 3.0, 40.0], [7.0, 1.0, 0.0]]])
    for kind, likelihood, seen in (
        ("counts", "poisson", (x + 1).log()),
        ("real", "laplace", x),
    ):
        sigma = 0.2 if kind == "real" else None
        own = cell(dataset="own.npz", kind=kind, likelihood=likelihood, sigma=sigma)
        source = torch.Generator().manual_seed(own.seed)
        vae = VAE((own,), (1, 1, 3), None, [source], 0.3, Units(shift, scale)).eval()
        expected = made(own, shape=(1, 1, 3), levels=None).encode((seen - shift) / scale)
        torch.testing.assert_close(vae.encode(x).mean, expected.mean)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "elu"])
def test_a_decoder_is_the_chain_of_its_affine_layers(activation: str) -> None:
    vae = made(cell(hidden=(7, 5), activation=activation)).double()
    chain = affine_layers(vae.decoder)
    assert chain is not None
    layers, named = chain
    assert named == activation
    x = z = codes(1)[0, 0].double()
    for weight, bias in layers:
        x = x if weight is layers[0][0] else getattr(torch.nn.functional, activation)(x)
        x = x @ weight.T + bias
    torch.testing.assert_close(x.expand(1, *x.shape), vae.decoder(z.unsqueeze(0)))
    assert affine_layers(made(cell(architecture="linear")).decoder) is None
