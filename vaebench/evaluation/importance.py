"""The importance-weighted bound on log p(x) for any k, its curve over k, and effective samples.

Burda, Grosse and Salakhutdinov 2016 (arXiv 1509.00519), theorem 1: E[L_k] rises with k towards
log p(x). Weights are computed in blocks of images and samples, so memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.evaluation.bound import mean_and_se, numbers_per_image
from vaebench.model.objective import draw
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric, Note

CURVE = (1, 10, 100, 1000, 5000)
"""The numbers of samples k at which the curve of the bound is computed."""

_LEAST_EFFECTIVE, _LARGEST_RISE = 10.0, 0.5
_BLOCK_NUMBERS = 2_000_000


@dataclass(frozen=True)
class ImportanceBound:
    """The importance-weighted bound L_k of ``N`` images, and its precision.

    Attributes:
        bound: L_k of each image at the largest k, nats, ``(N,)``.
        effective_share: (sum w)^2 / (k sum w^2) of each image, between 1/k and 1, ``(N,)``.
        curve: maps k to L_k of each image, ``(N,)``, from the same weights in groups of k.
    """

    bound: Tensor
    effective_share: Tensor
    curve: dict[int, Tensor]


@torch.no_grad()
def log_weights(
    vae: VAE,
    pixels: Tensor,
    k: int,
    generator: torch.Generator,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Return log p(x, z) - log q(z|x) for ``k`` codes per image, ``(N, k)`` float64 in nats.

    Args:
        vae: a pack of one with a posterior density.
        pixels: ``(N, D)``.
        k: codes per image, at least 1.
        generator: source of the noise, on the CPU.
        progress: called with the number of completed images.

    Raises:
        ValueError: for k below 1, no image, or a delta posterior.
    """
    if k < 1:
        raise ValueError(f"k of the importance-weighted bound must be at least 1; got {k}")
    if len(pixels) == 0:
        raise ValueError("the importance-weighted bound needs at least one image; none was given")
    device = vae.prior_scale.device
    width = numbers_per_image(vae.cells[0], pixels.shape[1], vae.levels)
    images = max(1, _BLOCK_NUMBERS // (width * min(k, 100)))
    rows = []
    for image in range(0, len(pixels), images):
        x = pixels[image : image + images].to(device, vae.prior_scale.dtype).unsqueeze(0)
        done, parts = 0, []
        while done < k:
            samples = min(k - done, max(1, _BLOCK_NUMBERS // (width * x.shape[1])))
            noise = torch.randn(
                (1, samples, x.shape[1], vae.latent_dim), generator=generator, dtype=x.dtype
            )
            parts.append(draw(vae, x, noise.to(device)).log_weights()[0].double().cpu())
            done += samples
        rows.append(torch.cat(parts).T)
        if progress is not None:
            progress(min(image + images, len(pixels)))
    return torch.cat(rows)


def importance_bound(weights: Tensor) -> ImportanceBound:
    """Return L_k, its curve over k and the effective sample size from log-weights ``(N, k)``."""
    k = weights.shape[1]
    curve = {size: _bound_in_groups(weights, size) for size in CURVE if size < k}
    curve[k] = _bound_in_groups(weights, k)
    twice = torch.logsumexp(2 * weights, 1)
    effective = torch.exp(2 * torch.logsumexp(weights, 1) - twice) / k
    return ImportanceBound(curve[k], effective, curve)


def _bound_in_groups(weights: Tensor, size: int) -> Tensor:
    """Return the mean of L_size over disjoint groups, unbiased for E[L_size], ``(N,)``."""
    groups = weights.shape[1] // size
    grouped = weights[:, : groups * size].reshape(len(weights), groups, size)
    return (torch.logsumexp(grouped, 2) - math.log(size)).mean(1)


def why_too_few_samples(result: ImportanceBound) -> str | None:
    """Return why k is too small for L_k to be near log p(x), or None if it is not.

    It is too small if k times the mean effective share is below 10, or if the curve rises by more
    than 0.5 nats from k = 1,000 to k = 5,000.
    """
    k = max(result.curve)
    effective = k * float(result.effective_share.mean())
    if effective < _LEAST_EFFECTIVE:
        return f"the effective number of {k:,} samples is {effective:.1f}, below 10"
    if not {1_000, 5_000} <= result.curve.keys():
        return None
    rise = float((result.curve[5_000] - result.curve[1_000]).mean())
    if rise > _LARGEST_RISE:
        return f"the bound rises by {rise:.2f} nats from 1,000 to 5,000 samples"
    return None


def importance_metrics(result: ImportanceBound, k: int) -> dict[str, Metric]:
    """Return the columns iw_bound, iw_samples, iw_se and iw_ess."""
    bound = mean_and_se("iw_bound", result.bound)
    metrics = {
        "iw_bound": bound,
        "iw_samples": Metric.measured("iw_samples", float(k)),
        "iw_ess": mean_and_se("iw_ess", result.effective_share),
    }
    if bound.se is None:
        single = Note.of("too_few_images", "one image has no standard error")
        metrics["iw_se"] = Metric.absent("iw_se", single if bound.value is not None else bound.why)
    else:
        metrics["iw_se"] = Metric.measured("iw_se", bound.se, n=bound.n)
    return metrics
