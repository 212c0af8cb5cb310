"""The interface of a likelihood family, and the pixel intervals of grey levels.

Shapes: the decoder's tensors are ``(P, S, B, D)``, ``x`` broadcasts against them, log-probabilities
are ``(P, S, B)`` in nats, summed over pixels.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar, Self

import torch
from torch import Tensor

from vaebench.grid.axes import LIKELIHOODS, LikelihoodChoice


@dataclass(frozen=True)
class LevelEdges:
    """The interval of the pixel axis that belongs to each observed grey level.

    Attributes:
        index: grey level of each pixel, 0 ... levels - 1, integer, ``(..., D)``.
        lower, upper: ends of the interval, ``(..., D)``. The intervals of the lowest and the
            highest level are unbounded; a family on [0, 1] clips them to 0 and 1.
        levels: number of grey levels; None for counts, whose index is the count itself.
    """

    index: Tensor
    lower: Tensor
    upper: Tensor
    levels: int | None


def count_edges(index: Tensor, dtype: torch.dtype) -> LevelEdges:
    """Return counts as levels, each with the interval from half below to half above it."""
    return LevelEdges(index, index.to(dtype) - 0.5, index.to(dtype) + 0.5, None)


def level_edges(index: Tensor, levels: int, *, dequantized: bool, dtype: torch.dtype) -> LevelEdges:
    """Return the intervals of grey levels.

    Args:
        index: grey levels, integer, any shape.
        levels: number of grey levels L.
        dequantized: level k is [k/L, (k+1)/L] if true, else k/(L-1) +- half a step.
        dtype: dtype of the ends.

    Raises:
        ValueError: if there are fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"the number of grey levels must be at least 2; got levels={levels}")
    k = index.to(dtype)
    if dequantized:
        lower, upper = k / levels, (k + 1) / levels
    else:
        lower, upper = (k - 0.5) / (levels - 1), (k + 0.5) / (levels - 1)
    lower = torch.where(index == 0, -math.inf, lower)
    upper = torch.where(index == levels - 1, math.inf, upper)
    return LevelEdges(index, lower, upper, levels)


class Likelihood(ABC):
    """A likelihood family; an instance is p(x|z) for one batch of decoder outputs.

    Attributes:
        facts: the entry of the family in `vaebench.grid.axes.LIKELIHOODS`.
        scale: in pixel units, broadcasts against ``mean``; None for a family without a scale.
    """

    facts: ClassVar[LikelihoodChoice]
    scale: Tensor | None = None

    @classmethod
    def from_output(
        cls, output: Tensor, scale: Tensor | None, *, levels: int | None, clip: float | None
    ) -> Self:
        """Make p(x|z) from the decoder's output.

        Args:
            output: ``(P, S, B, D * n)`` for a family with n numbers per pixel, side by side.
            scale: in pixel units, broadcasts against ``(P, S, B, D)``, or None.
            levels: number of grey levels of the data; None for real-valued data.
            clip: keep the mean parameter in [clip, 1 - clip], where the family has one.

        Raises:
            ValueError: if the family needs a scale and none is given, or the reverse.
        """
        if cls.facts.has_scale and scale is None:
            raise ValueError(f"the {cls.facts.name} likelihood needs a scale (sigma); got None")
        if scale is not None and not cls.facts.has_scale:
            raise ValueError(f"the {cls.facts.name} likelihood has no scale, but one was given")
        return cls._from_output(output, scale, levels, clip)

    @classmethod
    @abstractmethod
    def _from_output(
        cls, output: Tensor, scale: Tensor | None, levels: int | None, clip: float | None
    ) -> Self:
        """Implement `from_output`; the presence of the scale is already checked."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x|z] in pixel units, ``(P, S, B, D)``."""

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """The x of highest density or mass, in pixel units, ``(P, S, B, D)``."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x|z) in nats, summed over pixels, ``(P, S, B)``."""

    @abstractmethod
    def log_mass(self, edges: LevelEdges) -> Tensor:
        """Log-probability of the grey levels in nats, summed over pixels, ``(P, S, B)``.

        The precision is that of the family's own tensors: use `double` for published scores.
        """

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw of x, ``(P, S, B, D)`` in pixel units, in the family's own dtype.

        The noise comes from ``generator``, on the CPU, in float64.
        """

    @classmethod
    def optimal_scale(
        cls,
        residual: Tensor,
        dim: tuple[int, ...],
        *,
        start: Tensor | None = None,
        steps: int = 60,
    ) -> Tensor:
        """Return the maximum-likelihood scale of residuals x - mean, at least SCALE_FLOOR.

        Args:
            residual: residuals in pixel units.
            dim: the dimensions that share one scale; they are kept, with size 1.
            start: first value of the iteration, for a family without a closed form; by default a
                moment estimate.
            steps: number of iterations, each of which raises the likelihood.

        Raises:
            TypeError: for a family without a scale.
        """
        raise TypeError(f"cannot fit a scale: the {cls.facts.name} likelihood has none")

    @abstractmethod
    def double(self) -> Self:
        """The same distribution with float64 parameters."""


def family(name: str) -> type[Likelihood]:
    """Return the class of a likelihood family.

    Args:
        name: a name in ``vaebench list likelihoods``.

    Raises:
        ValueError: if no family has this name.
        TypeError: if the registered class does not implement the complete interface.
    """
    if name not in LIKELIHOODS:
        raise ValueError(f"unknown likelihood {name!r}; choose from {', '.join(LIKELIHOODS)}")
    entry = LIKELIHOODS[name]
    module, _, attribute = entry.implementation.partition(":")
    found = getattr(import_module(module), attribute)
    if not (inspect.isclass(found) and issubclass(found, Likelihood)):
        raise TypeError(f"{entry.implementation} must be a subclass of Likelihood; got {found!r}")
    missing = sorted(found.__abstractmethods__)
    if entry.has_scale and "optimal_scale" not in {
        name for each in found.__mro__ if each is not Likelihood for name in vars(each)
    }:
        missing.append("optimal_scale")
    if missing:
        raise TypeError(f"{entry.implementation} must also implement {', '.join(missing)}")
    if getattr(found, "facts", None) is not entry:
        raise TypeError(f"{entry.implementation} must set facts to LIKELIHOODS[{name!r}]")
    return found


def log1mexp(difference: Tensor) -> Tensor:
    """Return log(1 - e^-d) for d >= 0, accurate for small and large d (Maechler 2012)."""
    small = difference < math.log(2)
    of_small = torch.log(-torch.expm1(-torch.where(small, difference, 1.0)))
    of_large = torch.log1p(-torch.exp(-torch.where(small, 1.0, difference)))
    return torch.where(small, of_small, of_large)


def uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw float64 numbers from the open interval (0, 1), so that their logarithm is finite."""
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    return drawn.clamp(min=torch.finfo(torch.float64).tiny, max=1 - 2**-53)
