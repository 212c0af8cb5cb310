"""The interface of an external model, and an adapter for torch modules that return tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    Distribution,
    Independent,
    Laplace,
    Normal,
)

from vaebench.errors import UsageError
from vaebench.grid.values import closest

LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian", "laplace")
"""The likelihood families for decoders that return a tensor, the mean."""
_EPSILON = 1e-7
"""Minimum distance of probabilities from 0 and 1, about the resolution of float32 near 1."""


@runtime_checkable
class Adapter(Protocol):
    """A trained VAE as three distributions; all shapes are those of `torch.distributions`.

    With ``N`` images of shape (C, H, W) and ``Z`` latent dimensions:

    Attributes:
        prior: p(z) over codes ``(Z,)``; it must be N(0, s^2 I).

    Example:
        >>> class Mine(nn.Module):
        ...     prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.encoder, self.decoder = nn.Linear(64, 4), nn.Linear(2, 64)
        ...
        ...     def encode(self, x):  # (N, 1, 8, 8) -> a distribution over (N, 2)
        ...         mean, log_variance = self.encoder(x.flatten(1)).chunk(2, 1)
        ...         return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
        ...
        ...     def decode(self, z):  # (N, 2) -> a distribution over (N, 1, 8, 8)
        ...         return Independent(Bernoulli(logits=self.decoder(z).view(-1, 1, 8, 8)), 3)
        >>> isinstance(Mine(), Adapter)
        True
    """

    prior: Distribution

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z|x) over ``(N, Z)`` for examples ``(N, C, H, W)``.

        Pixels are in [0, 1], and 0 or 1 if they are binarised. Real values and counts are in the
        unit of the data, not standardised; a row of D numbers is an example ``(1, 1, D)``.
        """

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) over ``(N, C, H, W)`` for codes ``(N, Z)``."""


class ModuleAdapter(nn.Module):
    """A module with ``encode(x) -> (mean, log_variance)`` and ``decode(z) -> reconstruction``.

    Most public code has these two methods. In place of ``encode`` a ``forward(x)`` may return
    ``(reconstruction, mean, log_variance)``, and in place of ``decode`` there may be a child module
    ``decoder`` whose output is that reconstruction. The module does not state the distribution of
    its reconstruction, so it is an argument.

    Args:
        module: the trained model; images are passed as ``(N, C, H, W)`` or, if it does not accept
            these, as rows ``(N, D)``.
        image_shape: (C, H, W).
        likelihood: a name in `LIKELIHOODS`.
        sigma: standard deviation of a gaussian or b of a laplace, in the unit of the data (for
            images, the [0, 1] pixel).

    Raises:
        UsageError: the module has no such method, or the likelihood or sigma is missing or invalid.
    """

    prior: Distribution

    def __init__(
        self,
        module: nn.Module,
        image_shape: tuple[int, int, int],
        likelihood: str | None,
        sigma: float | None,
    ) -> None:
        super().__init__()
        decoder = getattr(module, "decode", getattr(module, "decoder", None))
        if not callable(decoder):
            raise UsageError(
                f"{type(module).__name__} has no method decode: add decode(z), which returns the "
                "reconstruction of codes (N, Z)"
            )
        if likelihood not in LIKELIHOODS:
            raise UsageError(
                f"the likelihood must be given, because {type(module).__name__} returns tensors: "
                f"add --likelihood {'|'.join(LIKELIHOODS)}; got {likelihood!r}"
                f"{closest(likelihood or '', LIKELIHOODS)}"
            )
        scaled = likelihood in ("gaussian", "laplace")
        if scaled != (sigma is not None):
            raise UsageError(
                f"the {likelihood} likelihood {'needs' if scaled else 'has no'} sigma; "
                f"got sigma = {sigma}"
            )
        if sigma is not None and not (0 < sigma < math.inf):
            raise UsageError(
                f"sigma must be a positive, finite number in the unit of the data; got {sigma}"
            )
        self.module, self.image_shape = module.eval(), image_shape
        self.decoder: Callable[[Tensor], object] = decoder
        self.likelihood, self.sigma = likelihood, sigma
        self.encoder, self.rows = self._find_encoder()
        with torch.no_grad():
            if not hasattr(module, "decode"):
                self._require_last(decoder)
            mean, _ = self._moments(self._probe())
            output = self._output(mean)
        # An output outside [0, 1] cannot be a probability, so it is a logit.
        self.logits = bool((output < 0).any() or (output > 1).any())
        size = mean.shape[-1]
        self.prior = Independent(Normal(torch.zeros(size), torch.ones(size)), 1)

    def _probe(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        like = next(self.module.parameters(), torch.zeros(()))
        return torch.rand((8, *self.image_shape), generator=generator).to(like)

    def _find_encoder(self) -> tuple[Callable[[Tensor], object], bool]:
        """Find the method that returns the moments and whether it takes rows ``(N, D)``.

        It is ``encode`` or, where this does not return them, ``forward``. Vectors are tried as rows
        first.
        """
        methods = [self._forward_moments]
        if hasattr(self.module, "encode"):
            methods.insert(0, cast(Any, self.module).encode)
        images, is_vector, runs = self._probe(), self.image_shape[:2] == (1, 1), []
        for method in methods:
            for rows in (is_vector, not is_vector):
                try:
                    with torch.no_grad():
                        found = method(images.flatten(1) if rows else images)
                except (RuntimeError, ValueError, TypeError):
                    continue
                runs.append((method, rows))
                if _are_moments(found, len(images)):
                    return method, rows
        if not hasattr(self.module, "encode"):
            raise UsageError(
                f"{type(self.module).__name__} has no method encode, and its forward does not "
                "return (reconstruction, mean, log_variance): add encode(x), which returns the "
                "mean and the log-variance of q(z|x), (N, Z) each"
            )
        return runs[0] if runs else (methods[0], is_vector)

    def _forward_moments(self, x: Tensor) -> object:
        """Return what follows the reconstruction in ``forward(x) -> (recon, mean, log_var)``."""
        found = self.module(x)
        return found[1:] if isinstance(found, tuple | list) and len(found) == 3 else found

    def _require_last(self, decoder: object) -> None:
        """Raise UsageError unless forward returns the output of the child ``decoder`` itself."""
        outputs: list[Tensor] = []
        hook = cast(nn.Module, decoder).register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output)
        )
        images = self._probe()
        with torch.random.fork_rng():
            found = self.module(images.flatten(1) if self.rows else images)
        hook.remove()
        reconstruction = found[0] if isinstance(found, tuple | list) else found
        if not (outputs and torch.equal(outputs[-1].flatten(), reconstruction.flatten())):
            raise UsageError(
                f"{type(self.module).__name__} has no method decode, and its forward changes what "
                "its decoder returns: add decode(z), which returns the reconstruction of codes "
                "(N, Z)"
            )

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        name = f"{type(self.module).__name__}.encode"
        try:
            found = cast(Any, self.encoder(x.flatten(1) if self.rows else x))
        except (RuntimeError, ValueError, TypeError) as error:
            raise UsageError(
                f"{name} must accept images of shape {tuple(x.shape)} or "
                f"{tuple(x.flatten(1).shape)}, but failed: {error}"
            ) from error
        if not _are_moments(found, len(x)):
            raise UsageError(
                f"{name} must return (mean, log_variance), two tensors of shape ({len(x)}, Z) for "
                f"{len(x)} images; got {_described(found)}"
            )
        mean, log_variance = found
        if mean.shape != log_variance.shape:
            raise UsageError(
                f"{name} must return a mean and a log-variance of equal shapes; got "
                f"{_described(found)}"
            )
        return mean, log_variance

    def _output(self, z: Tensor) -> Tensor:
        output = self.decoder(z)
        pixels = int(torch.Size(self.image_shape).numel())
        if not (
            isinstance(output, Tensor)
            and output.numel() == len(z) * pixels
            and output.shape[0] == len(z)
        ):
            raise UsageError(
                f"{type(self.module).__name__}.decode must give {pixels} numbers for each code, in "
                f"one row for each; got {_described(output)} for {len(z)} codes"
            )
        return output.reshape(len(z), *self.image_shape)

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z|x) over ``(N, Z)``."""
        mean, log_variance = self._moments(x)
        return Independent(Normal(mean, (0.5 * log_variance).exp(), validate_args=False), 1)

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) over ``(N, C, H, W)``."""
        output = self._output(z)
        if self.likelihood in ("gaussian", "laplace"):
            density = Normal if self.likelihood == "gaussian" else Laplace
            return Independent(density(output, torch.full_like(output, self.sigma or math.nan)), 3)
        logits = output if self.logits else output.logit(_EPSILON)
        kind = Bernoulli if self.likelihood == "bernoulli" else ContinuousBernoulli
        return Independent(kind(logits=logits, validate_args=False), 3)


def _are_moments(found: object, count: int) -> bool:
    """Whether a method returned a mean and a log-variance of ``count`` images."""
    is_pair = isinstance(found, tuple | list) and len(found) == 2
    return is_pair and all(_is_code(part, count) for part in cast(Any, found))


def _is_code(part: object, count: int) -> bool:
    return isinstance(part, Tensor) and part.ndim == 2 and len(part) == count


def _described(found: object) -> str:
    """Describe the return value of a method, with the shape of each tensor."""
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)}"
    if isinstance(found, tuple | list):
        parts = ", ".join(map(_described, found[:5]))
        return f"{len(found)} values ({parts}{', …' * (len(found) > 5)})"
    return type(found).__name__


def as_adapter(
    model: object,
    image_shape: tuple[int, int, int],
    likelihood: str | None = None,
    sigma: float | None = None,
) -> Adapter:
    """Return a model as an `Adapter`.

    Args:
        model: an `Adapter`, or a module with ``encode`` and ``decode`` that return tensors.
        image_shape: (C, H, W).
        likelihood, sigma: the family and its scale, only for a module that returns tensors.

    Raises:
        UsageError: the model is of another type, or ``likelihood`` or ``sigma`` is missing or not
            allowed.
    """
    for each in (model, *getattr(model, "__dict__", {}).values()):
        if isinstance(each, nn.Module):
            each.eval()
    if isinstance(model, Adapter) and not isinstance(model, type):
        if likelihood is not None or sigma is not None:
            raise UsageError(
                "likelihood and sigma must not be set for a model that returns distributions"
            )
        return model
    if isinstance(model, nn.Module):
        return ModuleAdapter(model, image_shape, likelihood, sigma)
    what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
    raise UsageError(
        "the model must be an object with encode, decode and prior, or a torch module with encode "
        f"and decode; got {what}"
    )
