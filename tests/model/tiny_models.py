"""Small models with known weights."""

import numpy as np
import torch
from torch import Tensor

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE

SHAPE = (1, 3, 4)
PIXELS = 12


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def made(
    *cells: Cell,
    shape: tuple[int, int, int] = SHAPE,
    levels: int | None = 17,
    scale: float = 0.3,
) -> VAE:
    """A pack whose members start from the weights of their own seeds, in evaluation mode."""
    return VAE(cells, shape, levels, generators(*(c.seed for c in cells)), scale).eval()


def linear_cell(latent_dim: int, sigma: float, **axes: object) -> Cell:
    return Cell.model_validate(
        {
            "dataset": "linear-gaussian",
            "architecture": "linear",
            "likelihood": "gaussian",
            "sigma": sigma,
            "latent_dim": latent_dim,
        }
        | axes
    )


def known(truth: LinearVAE, **axes: object) -> VAE:
    """The float64 model that has the very weights of a linear VAE."""
    cell = linear_cell(truth.latent_dim, truth.sigma, **axes)
    vae = made(cell, shape=(1, 1, truth.dimension), levels=None).double().requires_grad_(False)
    state = vae.state_dict()
    values = {
        "encoder.mean.weight": truth.V,
        "encoder.mean.bias": -truth.V @ truth.mu,
        "encoder.spread": spread(truth, cell),
        "decoder.weight": truth.W,
        "decoder.bias": truth.mu,
        "fixed_scale": np.array(truth.sigma),
    }
    for name, value in values.items():
        state[name].copy_(torch.as_tensor(value).reshape(state[name].shape))
    return vae


def spread(truth: LinearVAE, cell: Cell) -> np.ndarray:
    """Log-variances of a diagonal posterior, or the exact Cholesky factor of a full one."""
    if cell.posterior == "diagonal":
        return np.log(truth.posterior_variance)
    factor = np.linalg.cholesky(truth.exact_posterior_covariance)
    rows, columns = np.tril_indices(truth.latent_dim, -1)
    return np.concatenate((np.log(np.diag(factor)), factor[rows, columns]))


def random_truth(pixels: int = 12, latent_dim: int = 3, sigma: float = 0.4) -> LinearVAE:
    """A linear VAE whose columns are not orthogonal, with an encoder that is not the best one."""
    random = np.random.default_rng(5)
    W, mu = random.normal(0, 0.7, (pixels, latent_dim)), random.normal(0, 1, pixels)
    V = random.normal(0, 0.3, (latent_dim, pixels))
    return LinearVAE(W, mu, sigma, V, random.uniform(0.05, 1.5, latent_dim))


def sigma_points(latent_dim: int, images: int) -> Tensor:
    """Noise of mean 0 and covariance 1 over its draws: the mean of any quadratic is exact."""
    axes = torch.eye(latent_dim, dtype=torch.float64) * latent_dim**0.5
    points = torch.cat((axes, -axes))
    return points[None, :, None, :].expand(1, -1, images, -1)
