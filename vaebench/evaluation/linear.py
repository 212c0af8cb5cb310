"""Convert between a linear `VAE` and the exact model in `truth.ppca`.

A VAE with architecture ``linear`` and a Gaussian likelihood is probabilistic PCA: its log p(x) and
the terms of its ELBO have closed forms, with which every estimator can be compared.
Source: Lucas et al. 2019, arXiv 1911.02469, section 4; Tipping and Bishop 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vaebench.evaluation.double_precision import double_copy, double_pixels
from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.model.posterior import Delta, Diagonal, Full
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE


@dataclass(frozen=True)
class LinearBound:
    """The exact terms of the ELBO of ``N`` images, float64, nats; nothing is sampled.

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
    """Return a float64 `VAE` of one cell with the decoder, encoder and sigma of a pPCA model.

    Args:
        linear: a model of D pixels.
        image_shape: (C, H, W) with D pixels in all; (1, 1, D) by default.

    Raises:
        ValueError: the image shape has another number of pixels.
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
    """Return the pPCA model of the decoder of a linear Gaussian VAE; its `log_likelihood` is exact.

    The encoder of the result is the best diagonal one, not that of the VAE, since log p(x) does not
    depend on the encoder. A prior N(0, s^2 I) becomes a factor of W: the codes of the result are
    z / s.

    Raises:
        ValueError: the VAE is not linear, or it does not have one Gaussian sigma for all pixels.
    """
    model = double_copy(vae)
    scale = _fixed_scale(model)
    if scale.numel() != 1:
        raise ValueError("sigma must be one number for all pixels; got per_pixel: use another")
    W = _decoder_matrix(model) * model.prior_scale[0]
    origin = torch.zeros((1, 1, 1, model.latent_dim), dtype=torch.float64, device=W.device)
    mu = model.decode(origin).mean[0, 0, 0]
    return LinearVAE.with_optimal_encoder(W.cpu().numpy(), mu.cpu().numpy(), float(scale))


@torch.no_grad()
def exact_log_likelihood(vae: VAE, pixels: Tensor) -> Tensor:
    """Return log p(x) of images ``(N, D)`` under a linear Gaussian VAE, ``(N,)`` float64.

    Sigma may differ between pixels: divided by it, they follow a pPCA model with sigma 1, whose
    density is lower by the product of the sigmas.

    Raises:
        ValueError: as `linear_bound`.
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
    """Return the ELBO of images ``(N, D)`` under a linear Gaussian VAE, with exact terms.

    With z ~ N(m, S), E_q log p(x|z) = log p(x|m) - sum_d (W S W')_dd / (2 sigma_d^2): a linear
    decoder's squared error has the second moment of a Gaussian (Lucas et al. 2019, section 4).
    At the pPCA optimum it is log p(x) itself.

    Raises:
        ValueError: no image, images of another size, a delta posterior, a VAE that is not linear,
            or a sigma that depends on z.
    """
    model = double_copy(vae)
    x = double_pixels(model, pixels)
    scale = _fixed_scale(model)[0, 0, 0]
    q = model.encode(x.unsqueeze(0))
    if isinstance(q, Delta):
        raise ValueError("the ELBO is not defined for a delta posterior: use diagonal or full")
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
    """Return the variance over z ~ q(z|x) of each pixel of W z, diag(W S W'), ``(N, D)``."""
    W = _decoder_matrix(vae)
    if isinstance(q, Diagonal):
        return q.log_variance[0].exp() @ W.square().T
    return (W @ q.factor[0]).square().sum(-1)


def _decoder_matrix(vae: VAE) -> Tensor:
    """Return the matrix W of a linear decoder in the unit of the data, ``(D, Z)``."""
    W = cast(Tensor, vae.decoder.weight)[0]
    return W if vae.units is None else W * vae.data_scale[0, 0, 0].unsqueeze(1)


def has_closed_form(cell: Cell) -> bool:
    """Return whether log p(x) has a closed form: linear, Gaussian, sigma independent of z."""
    linear = cell.architecture == "linear" and cell.posterior != "delta" and cell.prior == "normal"
    return linear and LIKELIHOODS[cell.likelihood].exact_linear_twin and cell.sigma != "predicted"


def _fixed_scale(vae: VAE) -> Tensor:
    """Return sigma ``(1, 1, 1, 1 or D)`` of a linear Gaussian VAE, or raise ValueError."""
    cell, scale = vae.cells[0], vae.scale()
    if not has_closed_form(cell) or scale is None:
        raise ValueError(
            "for a closed form the model must have architecture linear, likelihood gaussian, a "
            "normal prior and a sigma that does not depend on z; got "
            f"{cell.architecture}, {cell.likelihood}, {cell.prior}, sigma {cell.sigma}: use "
            "annealed_bound, which accepts any decoder"
        )
    return scale
