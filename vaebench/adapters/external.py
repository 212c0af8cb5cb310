"""`ExternalVAE`: an adapter in the form of the VAE that all estimators of `evaluation` use."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    StudentT,
)

from vaebench.adapters.base import Adapter
from vaebench.errors import UsageError
from vaebench.grid.cell import Cell
from vaebench.model.likelihoods import Likelihood, LocationScale, family
from vaebench.model.posterior import Diagonal, Full, Posterior
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE

_STUDENT_DEGREES = 5.0
_FAMILIES: tuple[tuple[type[Distribution], str, str], ...] = (
    (Bernoulli, "bernoulli", "logits"),
    (ContinuousBernoulli, "continuous_bernoulli", "logits"),
    (Categorical, "categorical", "logits"),
    (Normal, "gaussian", "loc"),
    (Laplace, "laplace", "loc"),
    (StudentT, "student_t", "loc"),
)


def _base(distribution: Distribution) -> Any:
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _posterior(q: Distribution) -> Posterior:
    """Convert q(z|x) over ``(N, Z)`` to the posterior of a pack of one cell."""
    base = _base(q)
    if isinstance(base, Normal):
        return Diagonal(base.loc.unsqueeze(0), 2 * base.scale.log().unsqueeze(0))
    if isinstance(base, MultivariateNormal):
        factor = base.scale_tril
        diagonal = factor.diagonal(dim1=-2, dim2=-1).log()
        return Full(base.loc.unsqueeze(0), diagonal.unsqueeze(0), factor.tril(-1).unsqueeze(0))
    raise UsageError(
        "encode must return a Normal or a MultivariateNormal (or an Independent of one); "
        f"got {type(base).__name__}"
    )


def _likelihood(p: Distribution, shape: tuple[int, int, int]) -> Likelihood:
    """Convert p(x|z) over ``(N, C, H, W)`` to a likelihood with parameters ``(1, N, D)``."""
    base = _base(p)
    for kind, name, parameter in _FAMILIES:
        if not isinstance(base, kind):
            continue
        if isinstance(base, StudentT) and not bool((base.df == _STUDENT_DEGREES).all()):
            break
        values, make = getattr(base, parameter), cast(Any, family(name))
        if isinstance(base, Categorical):
            return cast(Likelihood, make(values.flatten(-1 - len(shape), -2).unsqueeze(0)))
        flat = [values.flatten(-len(shape)).unsqueeze(0)]
        if hasattr(base, "scale"):
            flat.append(base.scale.expand(values.shape).flatten(-len(shape)).unsqueeze(0))
        return cast(Likelihood, make(*flat))
    raise UsageError(
        "decode must return a Bernoulli, ContinuousBernoulli, Categorical, Normal, Laplace or "
        f"StudentT with 5 degrees of freedom (or an Independent of one); got {base}"
    )


def _prior_scale(prior: Distribution, size: int) -> float:
    base = _base(prior)
    over = (*prior.batch_shape, *prior.event_shape)
    if over not in ((size,), ()):
        raise UsageError(
            f"prior must be a distribution over ({size},), the codes of encode; got one over {over}"
        )
    if isinstance(base, Normal) and not base.loc.any():
        scale = base.scale.flatten()
        if bool((scale == scale[0]).all()):
            return float(scale[0])
    raise UsageError(
        "prior must be N(0, s^2 I): a Normal with mean 0 and one scale (or an Independent of one); "
        f"got {type(base).__name__}. Codes of a normal prior with another mean or other scales can "
        "be shifted and scaled within encode and decode; other priors cannot be evaluated"
    )


def _require_functions(
    adapter: Adapter, images: Tensor, shape: tuple[int, int, int], q: Posterior, p: Likelihood
) -> None:
    """Raise UsageError unless each image and each code alone determines its distribution.

    Compares with the answers for the first half of the images.
    """
    half = (len(images) + 1) // 2
    again_q = _posterior(adapter.encode(images[:half]))
    again_p = _likelihood(adapter.decode(q.mean[0, :half]), shape)
    pairs = (
        ("encode", ((q.mean, again_q.mean), (q.variance, again_q.variance))),
        ("decode", ((p.mean, again_p.mean),)),
    )
    for name, compared in pairs:
        for whole, part in compared:
            allowed = 1e-5 * float(whole.abs().max())
            if not torch.allclose(whole[:, :half], part, rtol=1e-3, atol=allowed):
                raise UsageError(
                    f"{name} gives another distribution for the same input in a smaller batch: it "
                    "adds noise, or it depends on the other examples (dropout or batch "
                    "normalisation in training mode). Return the distribution itself, and call "
                    "eval() of the module"
                )


class ExternalVAE(VAE):
    """A pack of one cell whose encoder and decoder are those of an adapter.

    Args:
        adapter: the model.
        cell: its design, as `describe` returns it.
        image_shape: (C, H, W).
        levels: number of grey levels of the data; None for real-valued data.
    """

    def __init__(
        self,
        adapter: Adapter,
        cell: Cell,
        image_shape: tuple[int, int, int],
        levels: int | None,
    ) -> None:
        nn.Module.__init__(self)
        self.adapter = adapter
        # Placeholders: the adapter does the work of both.
        self.encoder, self.decoder = nn.Identity(), nn.Identity()
        # Register modules of an adapter that is not a module, so that `double` converts them.
        held = vars(adapter).values() if not isinstance(adapter, nn.Module) else ()
        self.held = nn.ModuleList(each for each in held if isinstance(each, nn.Module))
        self.cells, self.latent_dim = (cell,), cell.latent_dim
        self.image_shape, self.levels = image_shape, levels
        self.sigma_kind = "fixed" if isinstance(cell.sigma, float) else "none"
        self.decoder_width = math.prod(image_shape)
        self.initial_scale = 1.0
        self.register_buffer("prior_scale", torch.full((1, 1, 1), cell.prior_scale))
        if self.sigma_kind == "fixed":
            self.register_buffer("fixed_scale", torch.full((1, 1, 1, 1), float(cell.sigma or 1)))

    def member(self, index: int) -> VAE:
        """Return the model itself, which is a pack of one."""
        del index
        return self

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z|x) for pixels ``x (1, B, D)``."""
        return _posterior(self.adapter.encode(x[0].reshape(-1, *self.image_shape)))

    def decode(self, z: Tensor, fit_to: Tensor | None = None) -> Likelihood:
        """Return p(x|z) for codes ``z (1, S, B, Z)``."""
        del fit_to
        draws, images = z.shape[1:3]
        p = _likelihood(self.adapter.decode(z[0].flatten(0, 1)), self.image_shape)
        return _unflattened(p, draws, images)

    def scale(self) -> Tensor | None:
        """Return the scale in pixel units, ``(1, 1, 1, 1)``, or None if it is not one number."""
        return self.fixed_scale if self.sigma_kind == "fixed" else None


def _unflattened(p: Likelihood, draws: int, images: int) -> Likelihood:
    """Reshape the parameters of a likelihood from ``(1, S * B, ...)`` to ``(1, S, B, ...)``."""
    parts: list[Tensor] = [p.mean, p.scale] if isinstance(p, LocationScale) else [vars(p)["logits"]]
    shaped = [each.reshape(1, draws, images, *each.shape[2:]) for each in parts]
    return type(p)(*shaped)


@torch.no_grad()
def describe(
    adapter: Adapter,
    pixels: Tensor,
    image_shape: tuple[int, int, int],
    settings: dict[str, object],
) -> Cell:
    """Return the cell of a model, from the distributions that it returns for some images.

    Args:
        adapter: the model.
        pixels: some images of the data set, ``(N, D)``.
        image_shape: (C, H, W).
        settings: values of the other axes, such as the data set and evaluation settings.

    Raises:
        UsageError: the type or shape of a distribution is not supported.
    """
    images = pixels.reshape(-1, *image_shape)
    q = _posterior(adapter.encode(images))
    if q.mean.shape[:2] != (1, len(images)):
        raise UsageError(
            f"encode must return a distribution over ({len(images)}, Z) for {len(images)} images; "
            f"got one over {tuple(q.mean.shape[1:])}"
        )
    decoded = adapter.decode(q.mean[0])
    over = (*decoded.batch_shape, *decoded.event_shape)
    pixels_of_one = math.prod(image_shape)
    if len(over) != 4 or over[0] != len(images) or math.prod(over[1:]) != pixels_of_one:
        raise UsageError(
            f"decode must return a distribution over {(len(images), *image_shape)} for "
            f"{len(images)} codes; got one over {over}"
        )
    p = _likelihood(decoded, image_shape)
    if not (bool(q.mean.isfinite().all()) and bool(p.mean.isfinite().all())):
        raise UsageError(
            "the model must give finite numbers for images of this data set; got nan or infinity: "
            "check its weights and the pixel range of its training data"
        )
    _require_functions(adapter, images, image_shape, q, p)
    design = {
        "latent_dim": q.mean.shape[-1],
        "likelihood": p.facts.name,
        "sigma": _sigma(p),
        "posterior": "full" if isinstance(q, Full) else "diagonal",
        "prior_scale": _prior_scale(adapter.prior, q.mean.shape[-1]),
    }
    return Cell.model_validate(settings | design)


def _sigma(p: Likelihood) -> float | str | None:
    if p.scale is None:
        return None
    first = p.scale.flatten()[0]
    if bool((p.scale == first).all()):
        # The number as the user wrote it: the shortest one that is equal in single precision.
        return float(str(first.numpy()))
    return "per_pixel" if bool((p.scale == p.scale[:, :1]).all()) else "predicted"


@torch.no_grad()
def linear_twin(vae: ExternalVAE) -> LinearVAE | None:
    """Return the probabilistic PCA model of a linear Gaussian decoder; None for other decoders.

    A decoder is linear if its mean at random codes equals W z + mu within 1e-5, where W and mu are
    computed from unit codes and the origin. The encoder of the result is the optimal diagonal one.
    """
    if vae.cells[0].likelihood != "gaussian" or vae.sigma_kind != "fixed":
        return None
    size, like = vae.latent_dim, vae.prior_scale
    units = torch.eye(size).to(like)
    codes = 3 * torch.randn((16, size), generator=torch.Generator().manual_seed(0)).to(like)
    stacked = torch.cat((torch.zeros((1, size)).to(like), units, codes))
    means = vae.decode(stacked[None, None]).mean[0, 0].double()
    mu, W = means[0], (means[1 : size + 1] - means[0]).T
    expected = codes.double() @ W.T + mu
    if not torch.allclose(means[size + 1 :], expected, rtol=1e-4, atol=1e-5):
        return None
    scaled = (W * vae.prior_scale.item()).cpu().numpy()
    return LinearVAE.with_optimal_encoder(scaled, mu.cpu().numpy(), float(vae.fixed_scale))
