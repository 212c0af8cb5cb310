"""Initial weights: torch's distribution, or the tutorial's; and the tutorial's own encoder."""

import math

import torch
from tiny_models import PIXELS, SHAPE, generators, made
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE

TUTORIAL = {"architecture": "tutorial", "initialization": "sparse", "latent_dim": 30}
LARGE = (1, 28, 28)


def tutorial(seed: int = 0, **axes: object) -> dict[str, Tensor]:
    cell = Cell.model_validate(TUTORIAL | axes)
    vae = VAE((cell,), LARGE, 256, generators(seed), 0.3)
    return {name: value.detach()[0] for name, value in vae.named_parameters()}


def test_the_tutorial_has_its_published_layers() -> None:
    shapes = {n: tuple(v.shape) for n, v in tutorial().items() if n.endswith("weight")}
    assert list(shapes.values()) == [
        *((1000, 784), (500, 1000), (250, 500), (30, 250), (30, 250)),
        *((250, 30), (500, 250), (1000, 500), (784, 1000)),
    ]


def test_sparse_weights_are_gaussian_with_15_outgoing_ones_an_input() -> None:
    """Counts an input are binomial(outputs, 15 / outputs): mean 15, variance below 15."""
    for name, weight in tutorial(latent_dim=200).items():
        if name.endswith("bias"):
            assert not weight.any()
            continue
        dense = name.startswith(("encoder.mean", "encoder.log_std"))
        outputs, inputs = weight.shape
        counts = (weight != 0).sum(0).double()
        expected = outputs if dense else 15
        spread = math.sqrt(15 / inputs)
        assert abs(float(counts.mean()) - expected) <= (0 if dense else 5 * spread), name
        if not dense:
            variance = 15 * (1 - 15 / outputs)
            assert abs(float(counts.var()) / variance - 1) < 5 * math.sqrt(2 / inputs) + 0.05
        drawn = weight[weight != 0].double()
        assert abs(float(drawn.std()) / 0.1 - 1) < 5 / math.sqrt(2 * len(drawn)), name
        assert abs(float(drawn.mean())) < 5 * 0.1 / math.sqrt(len(drawn)), name
        fourth = float((drawn / 0.1).pow(4).mean())  # 3 for a Gaussian, 1.8 for a uniform
        assert abs(fourth - 3) < 5 * math.sqrt(96 / len(drawn)), name


def test_sparse_initialization_of_an_mlp_leaves_the_posteriors_layer_dense() -> None:
    weights = tutorial(architecture="mlp", hidden=(100, 50))
    shares = [float((v != 0).double().mean()) for n, v in weights.items() if n.endswith("weight")]
    expected = [0.15, 0.3, 1.0, 0.3, 0.15, 15 / 784]
    assert all(abs(a - b) < 0.05 for a, b in zip(shares, expected, strict=True)), shares


def test_torchs_distribution_stays_what_it_was() -> None:
    """The draws of every cell that is on record: one uniform generator, weight then bias."""
    cell = Cell.model_validate({"hidden": (7,), "latent_dim": 2})
    vae = made(cell)
    source = torch.Generator().manual_seed(cell.seed)
    bound = 1 / math.sqrt(PIXELS)
    weight = torch.empty(7, PIXELS).uniform_(-bound, bound, generator=source)
    bias = torch.empty(7).uniform_(-bound, bound, generator=source)
    named = dict(vae.named_parameters())
    assert torch.equal(named["encoder.layers.0.weight"][0], weight)
    assert torch.equal(named["encoder.layers.0.bias"][0], bias)


def test_log_deviations_read_the_last_layer_before_its_activation() -> None:
    """Written out by hand with plain matrix products."""
    cell = Cell.model_validate(TUTORIAL | {"hidden": (9, 6), "latent_dim": 3})
    vae = VAE((cell,), SHAPE, 17, generators(4), 0.3).double()
    w = {name: value.detach()[0] for name, value in vae.named_parameters()}
    x = torch.rand(5, PIXELS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = torch.relu(x @ w["encoder.body.layers.0.weight"].T)
    before = first @ w["encoder.body.layers.1.weight"].T
    assert bool((before < 0).any())
    q = vae.encode(x.unsqueeze(0))
    mean = torch.relu(before) @ w["encoder.mean.weight"].T
    log_std = before @ w["encoder.log_std.weight"].T
    torch.testing.assert_close(q.mean[0], mean)
    torch.testing.assert_close(q.log_variance[0], 2 * log_std)


def test_a_pack_starts_from_the_weights_of_its_members() -> None:
    cells = [Cell.model_validate(TUTORIAL | {"hidden": (9, 6), "seed": s}) for s in (0, 1)]
    pack = VAE(cells, SHAPE, 17, generators(0, 1), 0.3)
    for index, cell in enumerate(cells):
        alone = VAE((cell,), SHAPE, 17, generators(cell.seed), 0.3)
        for name, value in alone.named_parameters():
            assert torch.equal(dict(pack.named_parameters())[name][index], value[0])
