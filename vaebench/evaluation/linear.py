"""The bridge between a linear `VAE` and `truth.ppca`, which knows everything about it.

A VAE with architecture ``linear`` and a Gaussian likelihood is probabilistic PCA: its log p(x) has
a closed form, and so have the terms of its ELBO. Any estimator can thus be held against the truth.
Source: Lucas et al. 2019, arXiv 1911.02469, section 4; Tipping and Bishop 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vaebench.evaluation.double_precision import double_copy, double_pixels
from vaebench.grid.cell import Cell
from vaebench.grid.choices import LIKELIHOODS
from vaebench.model.posterior import Delta, Diagonal, Full
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE

__all__ = [
    "LinearBound",
    "as_linear",
    "as_vae",
    "exact_log_likelihood",
    "has_closed_form",
    "linear_bound",
]


@dataclass(frozen=True)
class LinearBound:
    """The ELBO of ``N`` images by its exact terms, float64, nats; nothing is sampled.

    Attributes:
        reconstruction_error: -E_q log p(x|z), ``(N,)``.
        kl: KL(q(z|x) || p(z)), ``(N,)``.
        kl_per_dimension: KL of each latent dimension, ``(N, Z)``.
        distortion: E_q ||x - E[x|z]||^2 in squared pixel units, summed over pixels, ``(N,)``.
    """

    reconstruction_error: Tensor
    kl: Tensor
    kl_per_dimension: Tensor
    distortion: Tensor

    @property
    def elbo(self) -> Tensor:
        """-(reconstruction_error + kl), ``(N,)``."""
        return -(self.reconstruction_error + self.kl)


@torch.no_grad()
def as_vae(linear: LinearVAE, image_shape: tuple[int, int, int] | None = None) -> VAE:
    """A float64 `VAE` of one cell with the decoder, encoder and sigma of a pPCA model.

    ``image_shape`` (C, H, W) has D pixels; None is one row of them.

    Raises:
        ValueError: for an image shape of another number of pixels.
    """
    shape = image_shape or (1, 1, linear.dimension)
    if int(np.prod(shape)) != linear.dimension:
        raise ValueError(
            f"image_shape must have the model's {linear.dimension} pixels; got {shape}"
        )
    design = {
        "dataset": "linear-gaussian",
        "architecture": "linear",
        "likelihood": "gaussian",
        "sigma": linear.sigma,
        "latent_dim": linear.latent_dim,
    }
    cell = Cell.model_validate(design)
    vae = VAE((cell,), shape, None, (torch.Generator(),), linear.sigma).double().eval()
    values = {
        "encoder.mean.weight": linear.V,
        "encoder.mean.bias": -linear.V @ linear.mu,
        "encoder.spread": np.log(linear.posterior_variance),
        "decoder.weight": linear.W,
        "decoder.bias": linear.mu,
        "fixed_scale": np.float64(linear.sigma),
    }
    for name, tensor in vae.state_dict().items():
        if name in values:
            tensor.copy_(torch.as_tensor(values[name]).reshape(tensor.shape))
    return vae


def as_linear(vae: VAE) -> LinearVAE:
    """The pPCA model of a linear Gaussian VAE's decoder, whose `log_likelihood` is exact.

    Its encoder is the best diagonal one, not the VAE's own: log p(x) knows no encoder. A prior
    N(0, s^2 I) is taken into W, so that the codes of the result are z / s.

    Raises:
        ValueError: for a VAE that is no linear one with one Gaussian sigma for all pixels.
    """
    model = double_copy(vae)
    scale = _fixed_scale(model)
    if scale.numel() != 1:
        raise ValueError("pPCA has one sigma for all pixels; got sigma = per_pixel: use another")
    W = _decoder_matrix(model) * model.prior_scale[0]
    origin = torch.zeros((1, 1, 1, model.latent_dim), dtype=torch.float64, device=W.device)
    mu = model.decode(origin).mean[0, 0, 0]
    return LinearVAE.with_optimal_encoder(W.cpu().numpy(), mu.cpu().numpy(), float(scale))


@torch.no_grad()
def exact_log_likelihood(vae: VAE, pixels: Tensor) -> Tensor:
    """Log p(x) of images ``(N, D)`` under a linear Gaussian VAE, in closed form, ``(N,)`` float64.

    Sigma may differ between pixels: divided by it, they follow a pPCA model with sigma 1, whose
    density is lower by the product of the sigmas.

    Raises:
        ValueError: as `linear_bound`, except for a delta posterior, which is not asked for.
    """
    model = double_copy(vae)
    x = double_pixels(model, pixels)
    scale = _fixed_scale(model)[0, 0, 0].expand(x.shape[-1])
    W = _decoder_matrix(model) * model.prior_scale[0] / scale.unsqueeze(1)
    origin = torch.zeros((1, 1, 1, model.latent_dim), dtype=torch.float64, device=W.device)
    standard = (x - model.decode(origin).mean[0, 0, 0]) / scale
    unit = LinearVAE.with_optimal_encoder(W.cpu().numpy(), np.zeros(len(W)), 1.0)
    return torch.from_numpy(unit.log_likelihood(standard.cpu().numpy())) - scale.log().sum().cpu()


@torch.no_grad()
def linear_bound(vae: VAE, pixels: Tensor) -> LinearBound:
    """The ELBO of images ``(N, D)`` under a linear Gaussian VAE, with E_q log p(x|z) exact.

    With z ~ N(m, S), E_q log p(x|z) = log p(x|m) - sum_d (W S W')_dd / (2 sigma_d^2): a linear
    decoder's squared error has the second moment of a Gaussian (Lucas et al. 2019, section 4).
    At the pPCA optimum it is log p(x) itself.

    Raises:
        ValueError: for no image, images of another size, a delta posterior, or a VAE that is no
            linear one with a Gaussian sigma that does not depend on z.
    """
    model = double_copy(vae)
    x = double_pixels(model, pixels)
    scale = _fixed_scale(model)[0, 0, 0]
    q = model.encode(x.unsqueeze(0))
    if isinstance(q, Delta):
        raise ValueError("a delta posterior has no density, hence no ELBO: use diagonal or full")
    at_mean = model.decode(q.mean.unsqueeze(1))
    spread = _pixel_variance(model, q)
    log_likelihood = at_mean.log_prob(x)[0, 0] - (spread / (2 * scale.square())).sum(-1)
    residual = (x - at_mean.mean[0, 0]).square().sum(-1)
    return LinearBound(
        -log_likelihood.cpu(),
        q.kl(model.prior_scale)[0].cpu(),
        q.kl_per_dimension(model.prior_scale)[0].cpu(),
        (residual + spread.sum(-1)).cpu(),
    )


def _pixel_variance(vae: VAE, q: Diagonal | Full) -> Tensor:
    """Variance over z ~ q(z|x) of each pixel of W z: the diagonal of W S W', ``(N, D)``."""
    W = _decoder_matrix(vae)
    if isinstance(q, Diagonal):
        return q.log_variance[0].exp() @ W.square().T
    return (W @ q.factor[0]).square().sum(-1)


def _decoder_matrix(vae: VAE) -> Tensor:
    """W of a linear decoder in the unit of the data, ``(D, Z)``."""
    W = cast(Tensor, vae.decoder.weight)[0]
    return W if vae.units is None else W * vae.data_scale[0, 0, 0].unsqueeze(1)


def has_closed_form(cell: Cell) -> bool:
    """Whether log p(x) has a closed form: a linear decoder with Gaussian noise that ignores z."""
    linear = cell.architecture == "linear" and cell.posterior != "delta"
    return linear and LIKELIHOODS[cell.likelihood].exact_linear_twin and cell.sigma != "predicted"


def _fixed_scale(vae: VAE) -> Tensor:
    """Sigma ``(1, 1, 1, 1 or D)`` of a linear Gaussian VAE; ValueError for any other VAE."""
    cell, scale = vae.cells[0], vae.scale()
    if not has_closed_form(cell) or scale is None:
        raise ValueError(
            "the closed form is that of architecture linear, likelihood gaussian and a sigma that "
            f"does not depend on z; got {cell.architecture}, {cell.likelihood}, "
            f"sigma {cell.sigma}: use annealed_bound, which takes any decoder"
        )
    return scale
