"""p(x|z): every likelihood family, as a normalised density or mass with all its constants.

This is the only home of p(x|z). A family is an object made of the decoder's output; it knows

* ``log_prob(x)``: log-density (or log-mass) of pixels in [0, 1], summed over the last dimension;
* ``mean``: E[x|z] per pixel;
* ``log_mass(edges)``: log-probability that a pixel falls on a grey level, summed over the last
  dimension, in the precision of the family's own tensors (use float64 for published scores).

Shapes: the decoder's tensors are ``(P, S, B, D)``, ``x`` broadcasts against them, results are
``(P, S, B)`` in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from vaebench.grid.choices import LIKELIHOODS

__all__ = [
    "SCALE_FLOOR",
    "STUDENT_T_DEGREES",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "LevelEdges",
    "LocationScale",
    "Observation",
    "level_edges",
    "observation",
    "optimal_scale",
    "outputs_per_pixel",
]

SCALE_FLOOR = 1e-3
"""No fitted scale goes below this, in units of the [0, 1] pixel."""

STUDENT_T_DEGREES = 5.0
"""Degrees of freedom of the ``student_t`` family."""

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class LevelEdges:
    """The interval of the pixel axis that each observed grey level owns.

    Attributes:
        index: grey level of each pixel, 0 ... levels - 1, integer, ``(..., D)``.
        lower, upper: ends of the interval, ``(..., D)``; the end levels reach to minus and plus
            infinity, and a family on [0, 1] clips them to 0 and 1.
        levels: number of grey levels.
    """

    index: Tensor
    lower: Tensor
    upper: Tensor
    levels: int


def level_edges(index: Tensor, levels: int, *, dequantized: bool, dtype: torch.dtype) -> LevelEdges:
    """Intervals owned by grey levels: k/(L-1) +- half a step, or [k/L, (k+1)/L] if dequantised."""
    if levels < 2:
        raise ValueError(f"a grey scale has at least 2 levels; got levels={levels}")
    k = index.to(dtype)
    if dequantized:
        lower, upper = k / levels, (k + 1) / levels
    else:
        lower, upper = (k - 0.5) / (levels - 1), (k + 0.5) / (levels - 1)
    lower = torch.where(index == 0, -math.inf, lower)
    upper = torch.where(index == levels - 1, math.inf, upper)
    return LevelEdges(index, lower, upper, levels)


class Observation(Protocol):
    """What every likelihood family can do; see the module's text for shapes and units."""

    @property
    def mean(self) -> Tensor:
        """E[x|z] in units of the [0, 1] pixel, ``(P, S, B, D)``."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x|z) in nats, summed over pixels, ``(P, S, B)``."""

    def log_mass(self, edges: LevelEdges) -> Tensor:
        """Log-probability of the grey levels in nats, summed over pixels, ``(P, S, B)``."""


class _BernoulliLogProb(torch.autograd.Function):
    """The sum over pixels of x l - log(1 + e^l), with one transcendental function a pixel.

    log(1 + e^l) = max(l, 0) - log max(p, 1 - p) with p = sigmoid(l), and the gradient is x - p.
    Eight of these probabilities, each at least one half, are multiplied before the logarithm: its
    error stays that of adding their logarithms, and seven of eight need none.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, x: Tensor) -> Tensor:
        p = logits.sigmoid()
        ctx.save_for_backward(p, x)
        product = torch.maximum(p, 1 - p)
        for _ in range(3):
            if product.shape[-1] % 2 == 0:
                one, other = product.chunk(2, dim=-1)
                product = one * other
        linear = (x * logits).sub_(logits.clamp_min(0))
        return linear.sum(-1) + product.log_().sum(-1)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        p, x = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        return (x - p).mul_(gradient.unsqueeze(-1)), None


@dataclass(frozen=True)
class Bernoulli:
    """A coin a pixel: log p = x l - log(1 + e^l) with the logit l.

    On binary pixels this is a probability mass. On grey pixels it is the cross entropy that the
    tutorial's code minimises (Doersch 2016, section 4.1): not a likelihood of those data.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, x: Tensor) -> Tensor:
        value = _BernoulliLogProb.apply(self.logits, x)  # type: ignore[no-untyped-call]  # as torch's stub has it
        return cast(Tensor, value)

    def log_mass(self, edges: LevelEdges) -> Tensor:
        if edges.levels != 2:
            raise ValueError(
                f"a Bernoulli decoder gives mass to 2 levels; the data have {edges.levels}: "
                "binarise them, or score with another family"
            )
        return self.log_prob(edges.index.to(self.logits.dtype))


@dataclass(frozen=True)
class ContinuousBernoulli:
    """The density on [0, 1] proportional to e^(l x), with the logit l.

    Loaiza-Ganem and Cunningham 2019 (arXiv 1907.06845). In natural form
    log p(x) = l (x - 1/2) - log(sinh(l/2)/(l/2)), which is accurate at every logit; the form with
    the mean parameter saturates in float32 beyond |l| = 16.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        small = self.logits.abs() < 0.1
        safe = torch.where(small, 1.0, self.logits)
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return torch.where(small, series, -1 / torch.expm1(-safe) - 1 / safe)

    def log_prob(self, x: Tensor) -> Tensor:
        return (self.logits * (x - 0.5) - _log_sinhc(self.logits / 2)).sum(-1)

    def log_mass(self, edges: LevelEdges) -> Tensor:
        lower, upper = edges.lower.clamp(min=0), edges.upper.clamp(max=1)
        middle, width = (lower + upper) / 2, upper - lower
        log_density = self.logits * (middle - 0.5) - _log_sinhc(self.logits / 2)
        return (log_density + width.log() + _log_sinhc(self.logits * width / 2)).sum(-1)


def _log_sinhc(u: Tensor) -> Tensor:
    """log(sinh(u)/u), even in u: a series near 0, elsewhere free of overflow."""
    a = u.abs()
    small = a < 0.25
    # Not the value that is used, but its gradient, would overflow to NaN for a large argument.
    square = torch.where(small, a, 0.0).square()
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    safe = torch.where(small, 1.0, a)
    large = safe + torch.log1p(-torch.exp(-2 * safe)) - torch.log(2 * safe)
    return torch.where(small, series, large)


@dataclass(frozen=True)
class LocationScale:
    """A location and a scale a pixel: ``gaussian``, ``laplace``, ``logistic`` or ``student_t``.

    ``scale`` is the Gaussian's standard deviation, the Laplace b, the logistic s, or the scale of
    a Student t with 5 degrees of freedom; it broadcasts against ``mean``.
    """

    family: str
    mean: Tensor
    scale: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        residual = (x - self.mean) / self.scale
        log_scale = self.scale.log().expand_as(residual).sum(-1)
        return _LOG_DENSITY[self.family](residual).sum(-1) - log_scale

    def log_mass(self, edges: LevelEdges) -> Tensor:
        lower = (edges.lower - self.mean) / self.scale
        upper = (edges.upper - self.mean) / self.scale
        # Every family is symmetric: measured from the nearer tail nothing cancels.
        flip = lower + upper > 0
        lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
        return _LOG_INTERVAL[self.family](lower, upper).sum(-1)


def _gaussian_log_density(r: Tensor) -> Tensor:
    return -0.5 * (r.square() + _LOG_2PI)


def _laplace_log_density(r: Tensor) -> Tensor:
    return -r.abs() - math.log(2)


def _logistic_log_density(r: Tensor) -> Tensor:
    return -r.abs() - 2 * F.softplus(-r.abs())


def _student_t_log_density(r: Tensor) -> Tensor:
    v = STUDENT_T_DEGREES
    constant = math.lgamma((v + 1) / 2) - math.lgamma(v / 2) - 0.5 * math.log(v * math.pi)
    return constant - (v + 1) / 2 * torch.log1p(r.square() / v)


def _difference_of_cdfs(log_cdf: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """log(F(upper) - F(lower)) from log F, for intervals in or around the lower tail."""

    def log_interval(lower: Tensor, upper: Tensor) -> Tensor:
        log_upper = log_cdf(upper)
        return log_upper + _log1mexp(log_upper - log_cdf(lower))

    return log_interval


def _log1mexp(difference: Tensor) -> Tensor:
    """log(1 - e^-d) for d >= 0, accurate for small and large d (Maechler 2012)."""
    small = difference < math.log(2)
    of_small = torch.log(-torch.expm1(-torch.where(small, difference, 1.0)))
    of_large = torch.log1p(-torch.exp(-torch.where(small, 1.0, difference)))
    return torch.where(small, of_small, of_large)


def _laplace_log_cdf(r: Tensor) -> Tensor:
    below = r.clamp(max=0) - math.log(2)
    above = torch.log1p(-0.5 * torch.exp(-r.clamp(min=0)))
    return torch.where(r < 0, below, above)


def _logistic_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """F(b) - F(a) = F(b) F(-a) (1 - e^-(b-a)) for the logistic CDF F: no cancellation."""
    return F.logsigmoid(upper) + F.logsigmoid(-lower) + _log1mexp(upper - lower)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def _student_t_log_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """With t = -sqrt(5) cot(phi) the mass is 8/(3 pi) times the integral of sin(phi)^4.

    Sixteen Gauss-Legendre nodes integrate that to rounding error, as a sum of positive terms.
    """
    root = math.sqrt(STUDENT_T_DEGREES)
    start = torch.atan2(torch.full_like(lower, root), -lower)
    bounded = torch.atan2(root * (upper - lower), STUDENT_T_DEGREES + lower * upper)
    stop = torch.atan2(torch.full_like(upper, root), -upper)
    width = torch.where(lower.isinf() | upper.isinf(), stop - start, bounded)
    total = torch.zeros_like(width)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        total = total + weight * torch.sin(start + (0.5 + 0.5 * node) * width) ** 4
    return torch.log(4 / (3 * math.pi) * width * total)


_LOG_DENSITY: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": _gaussian_log_density,
    "laplace": _laplace_log_density,
    "logistic": _logistic_log_density,
    "student_t": _student_t_log_density,
}
_LOG_INTERVAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": _difference_of_cdfs(torch.special.log_ndtr),
    "laplace": _difference_of_cdfs(_laplace_log_cdf),
    "logistic": _logistic_log_interval,
    "student_t": _student_t_log_interval,
}


@dataclass(frozen=True)
class Categorical:
    """One class a grey level: a softmax for every pixel; logits ``(P, S, B, D, levels)``."""

    logits: Tensor

    @property
    def levels(self) -> int:
        return int(self.logits.shape[-1])

    @property
    def mean(self) -> Tensor:
        grey = torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return self.logits.softmax(-1) @ grey

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_mass(torch.round(x * (self.levels - 1)).long())

    def log_mass(self, edges: LevelEdges) -> Tensor:
        if edges.levels != self.levels:
            raise ValueError(
                f"the decoder has a class for each of {self.levels} levels; "
                f"the data have {edges.levels}"
            )
        return self._log_mass(edges.index.long())

    def _log_mass(self, index: Tensor) -> Tensor:
        index = index.expand(self.logits.shape[:-1]).unsqueeze(-1)
        return self.logits.log_softmax(-1).gather(-1, index).squeeze(-1).sum(-1)


def outputs_per_pixel(likelihood: str, sigma: float | str | None, levels: int | None) -> int:
    """How many numbers a decoder gives for one pixel under this likelihood."""
    if likelihood == "categorical":
        if levels is None:
            raise ValueError("a categorical likelihood needs data with grey levels")
        return levels
    return 2 if sigma == "predicted" else 1


def observation(
    likelihood: str, output: Tensor, scale: Tensor | None, *, levels: int | None, clip: float | None
) -> Observation:
    """p(x|z) from the decoder's output.

    Args:
        likelihood: a name in ``vaebench list likelihoods``.
        output: ``(P, S, B, D)``, or ``(P, S, B, D * levels)`` for ``categorical``.
        scale: in pixel units, broadcasts against ``output``; None for a family without a scale.
        levels: number of grey levels, used by ``categorical``.
        clip: keep a Bernoulli mean parameter in [clip, 1 - clip].

    Raises:
        ValueError: if the name is unknown, or a scale is missing or not wanted.
    """
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood {likelihood!r}; there are {', '.join(LIKELIHOODS)}")
    if LIKELIHOODS[likelihood].has_scale:
        if scale is None:
            raise ValueError(f"the {likelihood} likelihood needs a scale (sigma); none was given")
        return LocationScale(likelihood, output, scale)
    if scale is not None:
        raise ValueError(f"the {likelihood} likelihood has no scale, but one was given")
    if likelihood == "categorical":
        return Categorical(output.reshape(*output.shape[:-1], -1, levels or 0))
    if clip is not None:
        limit = math.log((1 - clip) / clip)
        output = output.clamp(-limit, limit)
    return Bernoulli(output) if likelihood == "bernoulli" else ContinuousBernoulli(output)


def optimal_scale(
    family: str,
    residual: Tensor,
    dim: tuple[int, ...],
    *,
    start: Tensor | None = None,
    steps: int = 60,
) -> Tensor:
    """The scale of highest likelihood given the residuals x - mean, over the dimensions ``dim``.

    Gaussian: root mean square (Rybkin et al. 2021, eq. 5, there printed without the root).
    Laplace: mean absolute residual. Student t and logistic have no closed form: ``steps``
    iterations that each raise the likelihood (EM for the t; for the logistic the fixed point
    s = mean(r tanh(r / 2s)) of its score equation), from ``start`` or from a moment estimate.
    Keeps the reduced dimensions; never below SCALE_FLOOR.
    """
    if family == "laplace":
        return residual.abs().mean(dim, keepdim=True).clamp(min=SCALE_FLOOR)
    square = residual.square()
    root_mean_square = square.mean(dim, keepdim=True).sqrt()
    if family == "gaussian":
        return root_mean_square.clamp(min=SCALE_FLOOR)
    ratio = math.sqrt(3) / math.pi if family == "logistic" else math.sqrt(3 / 5)
    scale = (ratio * root_mean_square if start is None else start).clamp(min=SCALE_FLOOR)
    for _ in range(steps):
        if family == "logistic":
            scale = (residual * torch.tanh(residual / (2 * scale))).mean(dim, keepdim=True)
        else:
            v = STUDENT_T_DEGREES
            weight = (v + 1) / (v + square / scale.square())
            scale = (weight * square).mean(dim, keepdim=True).sqrt()
        scale = scale.clamp(min=SCALE_FLOOR)
    return scale
