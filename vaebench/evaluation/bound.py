"""The ELBO's terms on a split, by one pass over its images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.grid.choices import LIKELIHOODS
from vaebench.model.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    LocationScale,
    Observation,
)
from vaebench.model.objective import draw
from vaebench.model.posterior import Delta
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric

__all__ = ["Scores", "bound_metrics", "mean_and_se", "score", "why_no_bits"]


@dataclass(frozen=True)
class Scores:
    """What one pass over a split gives; ``N`` images, float64.

    Attributes:
        reconstruction_error: -E_q log p(x|z) of each image, nats, ``(N,)``.
        at_mean: -log p(x|z) at the posterior mean, nats, ``(N,)``.
        kl: KL(q(z|x) || p(z)), nats, ``(N,)``; None for a delta posterior.
        discrete_error: -E_q log P(grey levels|z), nats, ``(N,)``; None without grey levels.
        squared_error: mean over pixels of (x - E[x|z])^2, ``(N,)``.
        kl_per_dimension: mean over images, nats, ``(Z,)``; None for a delta posterior.
        code_variance: variance over images of E_q[z], ``(Z,)``.
        nonzero: mean number of entries of a code that are not near zero.
        scale_squared: mean of sigma^2 over pixels and images, pixel^2; None without a scale.
    """

    reconstruction_error: Tensor
    at_mean: Tensor
    kl: Tensor | None
    discrete_error: Tensor | None
    squared_error: Tensor
    kl_per_dimension: Tensor | None
    code_variance: Tensor
    nonzero: float
    scale_squared: float | None


class _Moments:
    """Mean and variance over images of a vector, summed in float64."""

    def __init__(self) -> None:
        self.count, self._sum, self._square = 0, 0.0, 0.0
        self.shift: Tensor | None = None
        self.total: Tensor | None = None
        self.total_square: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        if self.shift is None or self.total is None or self.total_square is None:
            # A shift near the mean keeps the difference of the two sums accurate.
            self.shift = rows.mean(0)
            self.total = torch.zeros_like(self.shift)
            self.total_square = torch.zeros_like(self.shift)
        centred = rows - self.shift
        self.total += centred.sum(0)
        self.total_square += centred.square().sum(0)
        self.count += len(rows)

    def variance(self) -> Tensor:
        """The variance with 1/N."""
        if self.total is None or self.total_square is None:
            raise ValueError("an empty split has no variance")
        mean = self.total / self.count
        return (self.total_square / self.count - mean.square()).clamp(min=0)


@torch.no_grad()
def score(vae: VAE, cell: Cell, split: EvaluationSplit, generator: torch.Generator) -> Scores:
    """Score every image of a split under a pack of one, with ``cell.eval_samples`` codes an image.

    Raises:
        ValueError: if the split is empty.
    """
    if len(split) == 0:
        raise ValueError("there is nothing to evaluate on: the split has no image")
    device = vae.prior_scale.device
    columns: dict[str, list[Tensor]] = {}
    codes, kl_sum, scale_sum, nonzero = _Moments(), torch.zeros(()), [], 0.0
    discrete = why_no_bits(cell, split) is None
    width = split.pixels.shape[1] * _numbers_per_pixel(cell, split)
    for rows in split.batches(cell.eval_samples * max(width, cell.latent_dim)):
        x = split.pixels[rows].to(device).unsqueeze(0)
        noise = torch.randn(
            (1, cell.eval_samples, x.shape[1], cell.latent_dim), generator=generator
        ).to(device, x.dtype)
        drawn = draw(vae, x, noise)
        observed = vae.decode(drawn.z)
        mean = drawn.posterior.mean
        batch = {
            "reconstruction_error": drawn.reconstruction_error()[0],
            "at_mean": -vae.decode(mean.unsqueeze(1)).log_prob(x.unsqueeze(1))[0, 0],
            "squared_error": (x.unsqueeze(1) - observed.mean).square().mean((1, 3))[0],
        }
        if discrete:
            batch["discrete_error"] = -_log_mass(observed, split, rows, device).mean(1)[0]
        if not isinstance(drawn.posterior, Delta):
            per_dimension = drawn.posterior.kl_per_dimension(vae.prior_scale)[0]
            batch["kl"] = drawn.kl()[0]
            kl_sum = kl_sum.to(device) + per_dimension.double().sum(0)
        if isinstance(observed, LocationScale):
            scale_sum.append(float(observed.scale.double().square().mean()) * x.shape[1])
        codes.add(mean[0])
        nonzero += float((mean.abs() > 1e-3 * cell.prior_scale).double().sum())
        for name, value in batch.items():
            columns.setdefault(name, []).append(value.double().cpu())
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    return Scores(
        reconstruction_error=joined["reconstruction_error"],
        at_mean=joined["at_mean"],
        kl=joined.get("kl"),
        discrete_error=joined.get("discrete_error"),
        squared_error=joined["squared_error"],
        kl_per_dimension=(kl_sum / len(split)).cpu() if "kl" in joined else None,
        code_variance=codes.variance().cpu(),
        nonzero=nonzero / len(split),
        scale_squared=sum(scale_sum) / len(split) if scale_sum else None,
    )


def _numbers_per_pixel(cell: Cell, split: EvaluationSplit) -> int:
    return split.levels or 1 if cell.likelihood == "categorical" else 1


def _log_mass(
    observed: Observation, split: EvaluationSplit, rows: slice, device: torch.device
) -> Tensor:
    """Log-probability of the grey levels in float64, ``(1, S, n)``."""
    edges = split.edges(rows, torch.float64)
    edges = type(edges)(
        edges.index.to(device), edges.lower.to(device), edges.upper.to(device), edges.levels
    )
    return _in_double(observed).log_mass(edges)


def _in_double(observed: Observation) -> Observation:
    if isinstance(observed, LocationScale):
        return LocationScale(observed.family, observed.mean.double(), observed.scale.double())
    if isinstance(observed, ContinuousBernoulli):
        return ContinuousBernoulli(observed.logits.double())
    if isinstance(observed, Bernoulli):
        return Bernoulli(observed.logits.double())
    if isinstance(observed, Categorical):
        # A sum over levels of float32 logits is accurate enough, and twice the memory is not.
        return observed
    return observed


def why_no_bits(cell: Cell, split: EvaluationSplit) -> str | None:
    """Why bits_per_dim has no meaning for a cell; None where it has one."""
    if cell.posterior == "delta":
        return "a delta posterior has no KL, hence no ELBO and no code length"
    if split.levels is None:
        return "the data are real-valued: there are no grey levels to give a probability to"
    if cell.likelihood == "bernoulli" and split.levels != 2:
        return (
            f"a Bernoulli gives no probability to {split.levels} grey levels: binarise the "
            "pixels, or use another family"
        )
    return None


def mean_and_se(name: str, values: Tensor) -> Metric:
    """The mean over images with its standard error; one image has none."""
    count = len(values)
    mean = float(values.mean())
    if not math.isfinite(mean):
        return Metric.absent(name, "the value is not finite")
    se = float(values.std() / math.sqrt(count)) if count > 1 else None
    return Metric.measured(name, mean, n=count, se=se)


def bound_metrics(cell: Cell, split: EvaluationSplit, scores: Scores) -> dict[str, Metric]:
    """Turn scores into the metrics of the tidy table."""
    metrics = {
        "reconstruction_error": mean_and_se("reconstruction_error", scores.reconstruction_error),
        "reconstruction_error_at_mean": mean_and_se("reconstruction_error_at_mean", scores.at_mean),
        "mse": mean_and_se("mse", scores.squared_error),
    }
    metrics |= _divergence_metrics(cell, scores)
    reason = why_no_bits(cell, split)
    if reason is None and scores.discrete_error is not None and scores.kl is not None:
        bits = (scores.discrete_error + scores.kl) / (split.pixels.shape[1] * math.log(2))
        metrics["bits_per_dim"] = mean_and_se("bits_per_dim", bits)
    else:
        metrics["bits_per_dim"] = Metric.absent("bits_per_dim", reason or "not computed")
    metrics["sigma_fitted"] = _sigma(cell, scores)
    return metrics


def _divergence_metrics(cell: Cell, scores: Scores) -> dict[str, Metric]:
    threshold = 0.01 * cell.prior_scale**2
    active = float((scores.code_variance > threshold).sum())
    metrics = {"active_units": Metric.measured("active_units", active, n=len(scores.at_mean))}
    if scores.kl is None:
        reason = "a delta posterior has no density: its KL is infinite and there is no ELBO"
        metrics["nonzero_codes"] = Metric.measured(
            "nonzero_codes", scores.nonzero, n=len(scores.at_mean)
        )
        return metrics | {name: Metric.absent(name, reason) for name in ("elbo", "kl")}
    return metrics | {
        "elbo": mean_and_se("elbo", -(scores.reconstruction_error + scores.kl)),
        "kl": mean_and_se("kl", scores.kl),
    }


def _sigma(cell: Cell, scores: Scores) -> Metric:
    if scores.scale_squared is None or not LIKELIHOODS[cell.likelihood].has_scale:
        reason = f"the {cell.likelihood} likelihood has no scale"
        return Metric.absent("sigma_fitted", reason)
    return Metric.measured("sigma_fitted", math.sqrt(scores.scale_squared))
