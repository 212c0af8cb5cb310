"""Audit a loss from a description of its reductions and weights, without torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from vaebench.auditing.form import Audit, Form, Sizes, judge, normaliser
from vaebench.errors import AuditError


@dataclass(frozen=True)
class ReconChoice:
    """One form of a reconstruction term.

    Attributes:
        name, summary: name and description for users.
        family: key of `vaebench.auditing.form.DECODERS`.
        factor: factor of the sum over pixels.
        mean: whether the sum is divided by the number of pixels.
        total: whether the term is summed over the batch, not averaged.
        nll: whether it is -log p(x|z) at a given sigma, with its normalising constant.
    """

    name: str
    summary: str
    family: str
    factor: float = 1.0
    mean: bool = False
    total: bool = False
    nll: bool = False


@dataclass(frozen=True)
class KLChoice:
    """One reduction of the KL: ``mean`` over latents or sum, ``total`` over the batch or mean."""

    name: str
    summary: str
    mean: bool = False
    total: bool = False


_Choice = TypeVar("_Choice")

_LEAST = 1e-30
"""Smallest accepted size of a number; beyond it and its inverse, float64 can overflow."""

_RECON = (
    ReconChoice("mse-mean", "squared error, mean over pixels and batch", "gaussian", mean=True),
    ReconChoice("mse-sum", "squared error, sum over pixels, mean over the batch", "gaussian"),
    ReconChoice("mse-total", "squared error, sum over pixels and batch", "gaussian", total=True),
    ReconChoice("half-sse", "half the squared error, summed over pixels", "gaussian", factor=0.5),
    ReconChoice(
        "half-sse-total",
        "half the squared error, summed over pixels and batch",
        "gaussian",
        factor=0.5,
        total=True,
    ),
    ReconChoice("gaussian-nll", "-log N(x; decoded, sigma^2), all constants", "gaussian", nll=True),
    ReconChoice("gaussian-nll-mean", "the same, mean over pixels", "gaussian", mean=True, nll=True),
    ReconChoice("l1-mean", "absolute error, mean over pixels and batch", "laplace", mean=True),
    ReconChoice("l1-sum", "absolute error, sum over pixels, mean over the batch", "laplace"),
    ReconChoice("l1-total", "absolute error, sum over pixels and batch", "laplace", total=True),
    ReconChoice("laplace-nll", "-log Laplace(x; decoded, sigma), constants", "laplace", nll=True),
    ReconChoice("bce-mean", "cross-entropy, mean over pixels and batch", "bernoulli", mean=True),
    ReconChoice("bce-sum", "cross-entropy, sum over pixels, mean over the batch", "bernoulli"),
    ReconChoice("bce-total", "cross-entropy, sum over pixels and batch", "bernoulli", total=True),
)
RECONSTRUCTIONS: Mapping[str, ReconChoice] = MappingProxyType({c.name: c for c in _RECON})

_KL = (
    KLChoice("sum", "sum over latents, mean over the batch"),
    KLChoice("mean", "mean over latents and batch", mean=True),
    KLChoice("total", "sum over latents and batch", total=True),
    KLChoice("mean-total", "mean over latents, sum over the batch", mean=True, total=True),
)
KL_REDUCTIONS: Mapping[str, KLChoice] = MappingProxyType({c.name: c for c in _KL})


def audit_reductions(
    recon: str,
    kl: str = "sum",
    *,
    kl_weight: float = 1.0,
    recon_weight: float = 1.0,
    pixels: int,
    latent_dim: int | None = None,
    batch_size: int | None = None,
    sigma: float | None = None,
) -> Audit:
    """Audit the loss ``recon_weight * recon + kl_weight * kl``.

    Args:
        recon: a key of ``RECONSTRUCTIONS``.
        kl: a key of ``KL_REDUCTIONS``.
        kl_weight, recon_weight: weights of the terms.
        pixels: pixels per image, times the channels.
        latent_dim: latent dimensions; required if the KL is averaged over latents.
        batch_size: images per batch; required if one term is summed over the batch and the other
            is not.
        sigma: sigma of the terms whose name contains ``nll``; only for them.

    Raises:
        AuditError: a name is unknown, or a number is missing or impossible.

    >>> round(audit_reductions("mse-mean", kl_weight=0.00025, pixels=12288).sigma, 2)
    1.24
    """
    recon_choice = _choice(recon, RECONSTRUCTIONS, "reconstruction")
    kl_choice = _choice(kl, KL_REDUCTIONS, "KL reduction")
    _check_numbers(kl_weight=kl_weight, recon_weight=recon_weight)
    if recon_weight <= 0:
        raise AuditError(f"recon_weight must be positive; got {recon_weight:g}.")
    _check_sigma(recon_choice, sigma)
    sizes = _sizes(recon_choice, kl_choice, pixels, latent_dim, batch_size)

    def form(at: Sizes) -> Form:
        return _form(recon_choice, kl_choice, at, recon_weight, kl_weight, sigma)

    doubled = {
        "batch": form(replace(sizes, batch=2 * sizes.batch)),
        "latent": form(replace(sizes, latents=2 * sizes.latents)),
        "image": form(replace(sizes, pixels=2 * sizes.pixels)),
    }
    return judge(form(sizes), doubled, kl_sign_ok=kl_weight > 0 if kl_weight else None)


def _choice(name: str, choices: Mapping[str, _Choice], what: str) -> _Choice:
    if name not in choices:
        raise AuditError(f"The {what} must be one of {', '.join(choices)}; got {name!r}.")
    return choices[name]


def _check_numbers(**numbers: float) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not math.isfinite(number):
            raise AuditError(f"{name} must be a finite number; got {number!r}.")
        if number and not _LEAST <= abs(number) <= 1 / _LEAST:
            sizes = f"from {_LEAST:g} to {1 / _LEAST:g}"
            raise AuditError(f"{name} must be 0 or have a size {sizes}; got {number!r}.")


def _check_sigma(recon: ReconChoice, sigma: float | None) -> None:
    if not recon.nll and sigma is not None:
        raise AuditError(
            f"sigma must not be given for {recon.name}; got {sigma:g}: omit it, or use a term with "
            "nll in its name."
        )
    if recon.nll and sigma is None:
        raise AuditError(f"sigma must be given for {recon.name}: the value that the loss uses.")
    if sigma is not None:
        _check_numbers(sigma=sigma)
        if sigma <= 0:
            raise AuditError(f"sigma must be positive; got {sigma:g}.")


def _sizes(
    recon: ReconChoice, kl: KLChoice, pixels: int, latent_dim: int | None, batch_size: int | None
) -> Sizes:
    if kl.mean and latent_dim is None:
        raise AuditError(f"latent_dim must be given for KL {kl.name}, a mean over latents.")
    if kl.total != recon.total and batch_size is None:
        raise AuditError(
            f"batch_size must be given: only one of {recon.name} and KL {kl.name} is a sum over "
            "the batch."
        )
    sizes = {"pixels": pixels, "latent_dim": latent_dim, "batch_size": batch_size}
    for name, size in sizes.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise AuditError(f"{name} must be a whole number of at least 1; got {size!r}.")
    return Sizes(pixels, latent_dim or 1, batch_size or 1)


def _form(
    recon: ReconChoice,
    kl: KLChoice,
    sizes: Sizes,
    recon_weight: float,
    kl_weight: float,
    sigma: float | None,
) -> Form:
    scale = recon_weight / (sizes.pixels if recon.mean else 1)
    scale *= sizes.batch if recon.total else 1
    factor, constant = recon.factor, 0.0
    if sigma is not None:
        factor = 0.5 / sigma**2 if recon.family == "gaussian" else 1 / sigma
        constant = scale * normaliser(recon.family, sigma, sizes.pixels)
    weight = kl_weight / (sizes.latents if kl.mean else 1) * (sizes.batch if kl.total else 1)
    fault = "the KL has the wrong sign, so it is maximised" if kl_weight < 0 else ""
    return Form(sizes, recon.family, scale * factor, weight, constant, fault=fault)
