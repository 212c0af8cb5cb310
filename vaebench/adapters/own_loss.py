"""Compare the loss of an external model with the bound of its distributions.

The model's own loss of each image is fitted by

    loss = recon_weight * (-E_q log p(x|z)) + kl_weight * KL + constant

with least squares. For an ELBO both weights are 1 and the constant is 0; otherwise the fit shows
which weight or constant explains the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaebench.adapters.external import ExternalVAE
from vaebench.errors import UsageError
from vaebench.grid.axes import LIKELIHOODS
from vaebench.model.objective import draw

_IMAGES, _DRAWS = 64, 1000
_UNEXPLAINED = 0.1
"""Largest share of the spread of a loss over images that the fit may leave."""
_TOLERANCE = 0.03
"""Relative tolerance for equal numbers, because both are means over random codes."""


@dataclass(frozen=True)
class OwnLoss:
    """Least-squares fit of a model's own loss by the terms of its ELBO, in nats per image.

    Attributes:
        loss: mean of the model's own loss.
        negative_elbo: mean of the negative ELBO of its distributions.
        recon_weight, kl_weight, constant: coefficients of the fit.
        unexplained: standard deviation of the residuals, in the unit of the loss.
        pixels: pixels per image.
        family: name of the likelihood family.
        sigma: the scale of the family, or None if it is not one number.
        kl_weight_se: standard error of ``kl_weight``; infinite if all images have one KL.
        spread: standard deviation of the loss over the images, in the loss's own unit.
    """

    loss: float
    negative_elbo: float
    recon_weight: float
    kl_weight: float
    constant: float
    unexplained: float
    pixels: int
    family: str
    sigma: float | None
    kl_weight_se: float = 0.0
    spread: float = math.inf

    @property
    def agrees(self) -> bool:
        """Whether the loss equals the negative ELBO within the tolerance."""
        difference = self.loss - self.negative_elbo
        size = max(1.0, abs(self.negative_elbo))
        weighted = self._is(self.recon_weight, 1) and (
            self._is(self.kl_weight, 1) or self._kl_is_unknown
        )
        return weighted and abs(difference) < _TOLERANCE * size and not self._constants()

    def text(self) -> str:
        """Return the result in a sentence."""
        if self.agrees:
            return f"its own loss, {self.loss:.2f}, is the negative ELBO of its distributions"
        return (
            f"its own loss, {self.loss:.4g}, is not the negative ELBO of its distributions, "
            f"{self.negative_elbo:.2f} nats/image: {self._explanation()}"
        )

    def _is(self, value: float, expected: float) -> bool:
        return abs(value - expected) <= _TOLERANCE * abs(expected)

    @property
    def _kl_is_unknown(self) -> bool:
        """Whether the KL varies too little over the images to tell its weight."""
        return 3 * self.kl_weight_se > 0.1 * max(abs(self.recon_weight), abs(self.kl_weight))

    def _explanation(self) -> str:
        if self.unexplained > _UNEXPLAINED * self.spread:
            return (
                "no weight or constant explains the difference: the best fit by the terms of the "
                f"bound leaves {self.unexplained / self.spread:.0%} of its spread over images"
            )
        causes = []
        if self._is(self.recon_weight * self.pixels, 1):
            causes.append(f"the reconstruction term is a mean over {self.pixels} pixels, not a sum")
        elif self._is(self.recon_weight / _DRAWS, 1):
            causes.append("it is a sum over the batch, not a mean")
        elif self.recon_weight < 0:
            causes.append("the reconstruction term has the wrong sign")
        elif not self._is(self.recon_weight, 1):
            causes.append(f"the reconstruction term has the weight {self.recon_weight:.4g}")
        if self._kl_is_unknown:
            causes.append("the KL varies too little over the images to tell its weight")
        elif self.recon_weight and not self._is(self.kl_weight / self.recon_weight, 1):
            beta = self.kl_weight / self.recon_weight
            causes.append(
                "the KL has the wrong sign"
                if self.kl_weight < 0 < self.recon_weight
                else f"beta = {beta:.4g}"
            )
        causes += self._constants()
        return "; ".join(causes) or "no weight or constant explains the difference"

    def _constants(self) -> list[str]:
        constant = self.constant
        normaliser = self._normaliser()
        scale = max(1.0, 0.01 * abs(self.negative_elbo))
        if normaliser and abs(constant + self.recon_weight * normaliser) < scale * max(
            1e-3, abs(self.recon_weight)
        ):
            return [f"the constant {normaliser:.2f} nats of the {self.family} density is missing"]
        if abs(constant) < scale * max(1e-3, abs(self.recon_weight)):
            return []
        return [f"a constant of {constant:.4g} is added"]

    def _normaliser(self) -> float | None:
        """Return -log p(x|z) at a residual of 0, which squared or absolute errors omit."""
        if self.sigma is None or not LIKELIHOODS[self.family].has_scale:
            return None
        if self.family == "gaussian":
            return 0.5 * self.pixels * math.log(2 * math.pi * self.sigma**2)
        return self.pixels * math.log(2 * self.sigma) if self.family == "laplace" else None


@dataclass(frozen=True)
class ImportanceLoss:
    """A model's own loss and its importance-weighted bound, in nats per image.

    Attributes:
        loss: mean of the model's own loss.
        samples: k of the bound.
        negative_bound: minus the bound, -E log (1/k) sum_i w_i.
        weighted: -E sum_i w_i log w_i / sum_i w_i, whose gradient with constant weights is that of
            the bound (Burda et al. 2016, eq. 14).
    """

    loss: float
    samples: int
    negative_bound: float
    weighted: float

    @property
    def agrees(self) -> bool:
        """Whether the loss is minus the bound."""
        gap = abs(self.loss - self.negative_bound)
        near = gap < _TOLERANCE * max(1.0, abs(self.negative_bound))
        return near and gap <= abs(self.loss - self.weighted)

    def text(self) -> str:
        """Return the result in a sentence."""
        bound = f"the importance-weighted bound with k = {self.samples}"
        if self.agrees:
            return f"its own loss, {self.loss:.2f}, is minus {bound}"
        size = max(1.0, abs(self.weighted))
        why = "no weight or constant explains the difference"
        if abs(self.loss - self.weighted) < _TOLERANCE * size:
            why = (
                "it is minus the mean of log w weighted by w, which has the gradient of the bound, "
                f"but a value that is up to log {self.samples} = {math.log(self.samples):.2f} nats "
                "too low"
            )
        return (
            f"its own loss, {self.loss:.2f}, is not minus {bound}, {self.negative_bound:.2f} "
            f"nats/image: {why}"
        )


@torch.no_grad()
def compare_own_loss(
    vae: ExternalVAE, own_loss: Callable[[Tensor], Tensor], pixels: Tensor, samples: int = 1
) -> OwnLoss | ImportanceLoss:
    """Compare a model's own loss with its bound on up to 64 images ``(N, D)``.

    The loss is a mean over a batch. It is called with 1,000 copies of one image, so that it
    averages over as many random codes as the terms of the bound.

    Args:
        vae: the model.
        own_loss: the loss of the model, the mean over images ``(N, C, H, W)``.
        pixels: the images.
        samples: number k of importance samples in the loss; 1 for an ELBO.
    """
    generator = torch.Generator().manual_seed(0)
    terms, losses = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for row in pixels[:_IMAGES]:
            noise = torch.randn((1, _DRAWS, 1, vae.latent_dim), generator=generator)
            drawn = draw(vae, row[None, None], noise.to(row))
            if samples == 1:
                terms.append(torch.cat((drawn.reconstruction_error()[0], drawn.kl()[0])))
            else:
                terms.append(_importance_terms(drawn.log_weights().flatten(), samples))
            copies = row.reshape(1, *vae.image_shape).expand(_DRAWS, *vae.image_shape)
            losses.append(_number(own_loss(copies.contiguous())))
    first, second = torch.stack(terms).double().unbind(1)
    if samples == 1:
        return _fit(vae, first, second, torch.stack(losses))
    loss = float(torch.stack(losses).mean())
    return ImportanceLoss(loss, samples, float(first.mean()), float(second.mean()))


def _number(loss: object) -> Tensor:
    """Return the loss as a tensor of no dimension.

    Raises:
        UsageError: it is not one finite number.
    """
    value = torch.as_tensor(loss).double()
    if value.numel() != 1 or not bool(value.isfinite().all()):
        what = (
            "nan or infinity" if value.numel() == 1 else f"a tensor of shape {tuple(value.shape)}"
        )
        raise UsageError(
            "own_loss(x) must return one finite number, the mean over the images of the loss in "
            f"nats; got {what}"
        )
    return value.reshape(())


def _importance_terms(log_weights: Tensor, samples: int) -> Tensor:
    """Return minus the bound and minus the weighted mean of log w over groups of ``samples``."""
    groups = log_weights[: len(log_weights) // samples * samples].view(-1, samples)
    bound = torch.logsumexp(groups, 1) - math.log(samples)
    weighted = (groups.softmax(1) * groups).sum(1)
    return -torch.stack((bound.mean(), weighted.mean()))


def _fit(vae: ExternalVAE, recon: Tensor, kl: Tensor, losses: Tensor) -> OwnLoss:
    # Centred columns keep the weights accurate if the constant is large.
    design = torch.stack((recon - recon.mean(), kl - kl.mean()), 1).numpy()
    weights, *_ = np.linalg.lstsq(design, (losses - losses.mean()).numpy(), rcond=1e-8)
    constant = float(losses.mean() - weights[0] * recon.mean() - weights[1] * kl.mean())
    left = (losses - losses.mean()).numpy() - design @ weights
    # What the reconstruction term does not predict of the KL is what determines its weight.
    slope = design[:, 0] @ design[:, 1] / max(design[:, 0] @ design[:, 0], 1e-300)
    free = float(np.linalg.norm(design[:, 1] - slope * design[:, 0]))
    cell = vae.cells[0]
    return OwnLoss(
        float(losses.mean()),
        float((recon + kl).mean()),
        float(weights[0]),
        float(weights[1]),
        constant,
        float(left.std()),
        math.prod(vae.image_shape),
        cell.likelihood,
        cell.sigma if isinstance(cell.sigma, float) else None,
        float(left.std()) / free if free > 1e-6 * len(left) else math.inf,
        float(losses.std()),
    )
