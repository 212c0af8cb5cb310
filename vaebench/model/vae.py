"""The VAE: encoder x -> q(z|x), decoder z -> p(x|z), and the scale sigma of the likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaebench.grid.cell import Cell, program_key
from vaebench.model.likelihoods import SCALE_FLOOR, Likelihood, family
from vaebench.model.networks import Sizes, build_networks
from vaebench.model.posterior import Posterior, posterior, posterior_width
from vaebench.model.prior import Mixture, Normal, Prior

SigmaKind = Literal["none", "fixed", "learned", "optimal", "per_pixel", "predicted"]

_LOG_FLOOR = math.log(SCALE_FLOOR)
_COMPONENT_SCALE = math.sqrt(0.75)


def sigma_kind(cell: Cell) -> SigmaKind:
    """Return how the scale of a cell's likelihood is determined."""
    if cell.sigma is None:
        return "none"
    return "fixed" if isinstance(cell.sigma, float | int) else cast(SigmaKind, cell.sigma)


def _floored(raw: Tensor) -> Tensor:
    """Return exp(raw) with the smooth lower limit SCALE_FLOOR."""
    return torch.exp(_LOG_FLOOR + F.softplus(raw - _LOG_FLOOR))


def _raw_of(scale: float) -> float:
    """Return the inverse of ``_floored``."""
    excess = math.log(max(scale, 1.01 * SCALE_FLOOR)) - _LOG_FLOOR
    return _LOG_FLOOR + excess + math.log(-math.expm1(-excess))


@dataclass(frozen=True)
class Units:
    """Standardisation of a user's data: shift and scale of each pixel.

    Attributes:
        shift: added to the location from the decoder, ``(D,)``.
        scale: multiplied with the location first, and with every fitted scale, ``(D,)``.
    """

    shift: Tensor
    scale: Tensor


class VAE(nn.Module):
    """A pack of VAEs, trained as one program: equal shapes, different weights and seeds.

    Pixels, p(x|z) and its scale are in the unit of the data. With ``units`` the input of the
    encoder is (x - shift) / scale, or log(1 + x) - shift for counts. The decoder's output is
    converted back to the unit of the data, so that bounds need no Jacobian.

    Args:
        cells: one cell for each member of the pack, with the same architecture, likelihood,
            posterior and kind of sigma.
        image_shape: (C, H, W).
        levels: number of grey levels of the data the likelihood sees; None for real-valued data.
        generators: one for each member, for the initial weights.
        initial_scale: initial value of a fitted scale, in units of the [0, 1] pixel, or of
            ``units.scale``.
        units: of a user's own real-valued data or counts; None for images.

    Raises:
        ValueError: the cells differ in more than numbers, so that they cannot share a program.
    """

    prior_scale: Tensor
    fixed_scale: Tensor
    data_shift: Tensor
    data_scale: Tensor

    def __init__(
        self,
        cells: Sequence[Cell],
        image_shape: tuple[int, int, int],
        levels: int | None,
        generators: Sequence[torch.Generator],
        initial_scale: float,
        units: Units | None = None,
    ) -> None:
        super().__init__()
        if len({program_key(cell) for cell in cells}) > 1:
            raise ValueError(
                "the cells of a pack must have the same training step, for example the same "
                "latent_dim and likelihood: make a pack for each kind"
            )
        design = cells[0]
        self.cells = tuple(cells)
        self.latent_dim = design.latent_dim
        self.image_shape = image_shape
        self.sigma_kind = sigma_kind(design)
        self._family, self._posterior = family(design.likelihood), design.posterior
        self.levels, self._clip = levels, design.pixel_clip
        self._outputs = self._family.facts.numbers_per_pixel(levels)
        self._counts = self._family.facts.support == "counts"
        sizes = Sizes(
            image_shape,
            self.latent_dim,
            posterior_width(design.posterior, self.latent_dim),
            self._outputs + (self.sigma_kind == "predicted"),
        )
        self.decoder_width = sizes.decoder_width
        self.encoder, self.decoder = build_networks(
            design.architecture,
            sizes,
            design.hidden,
            design.activation,
            generators,
            design.initialization,
        )
        prior_scales = torch.tensor([cell.prior_scale for cell in cells])
        self.register_buffer("prior_scale", prior_scales.view(-1, 1, 1))
        self._make_scale(cells, sizes.pixels, initial_scale)
        self.units = units
        self._make_prior(design, generators)
        if units is not None:
            self.register_buffer("data_shift", units.shift.repeat(len(cells), 1, 1, 1))
            self.register_buffer("data_scale", units.scale.repeat(len(cells), 1, 1, 1))

    def _make_scale(self, cells: Sequence[Cell], pixels: int, initial_scale: float) -> None:
        """Make the tensor behind sigma: a buffer if fixed or optimal, a parameter if learned."""
        kind, members = self.sigma_kind, len(cells)
        self.initial_scale, self._raw_start = initial_scale, _raw_of(initial_scale)
        if kind == "fixed":
            values = torch.tensor([float(cast(float, cell.sigma)) for cell in cells])
            self.register_buffer("fixed_scale", values.view(-1, 1, 1, 1))
        elif kind == "optimal":
            start = torch.full((members, 1, 1, 1), float(initial_scale))
            self.register_buffer("fixed_scale", start)
        elif kind in ("learned", "per_pixel"):
            width = pixels if kind == "per_pixel" else 1
            self.raw_scale = nn.Parameter(torch.full((members, 1, 1, width), self._raw_start))

    def _make_prior(self, design: Cell, generators: Sequence[torch.Generator]) -> None:
        """Make the parameters of a learned prior.

        The components of a mixture start with one scale and random means, such that each latent
        dimension has variance 1. Pseudo-inputs start as random pixels, in the unit of the encoder.
        """
        members, count = len(generators), design.prior_components
        if design.prior == "mixture":
            shape = (count, self.latent_dim)
            draws = torch.stack([torch.randn(shape, generator=g) for g in generators])
            self.prior_means = nn.Parameter(math.sqrt(1 - _COMPONENT_SCALE**2) * draws)
            start = torch.full((members, *shape), math.log(_COMPONENT_SCALE))
            self.prior_log_scale = nn.Parameter(start)
            self.prior_logits = nn.Parameter(torch.zeros(members, count))
        elif design.prior == "vamp":
            draw = torch.rand if self.units is None else torch.randn
            shape = (count, math.prod(self.image_shape))
            draws = torch.stack([draw(shape, generator=g) for g in generators])
            self.prior_inputs = nn.Parameter(draws)

    def prior(self) -> Prior:
        """Return the prior p(z) with the present parameters.

        ``vamp``: the mean of the encoder's q(z|u) over learned pseudo-inputs u (Tomczak and Welling
        2018, arXiv 1705.07120, eq. 9).
        """
        kind = self.cells[0].prior
        if kind == "normal":
            return Normal(self.prior_scale, self.latent_dim)
        if kind == "mixture":
            weights = self.prior_logits.log_softmax(-1)
            return Mixture(self.prior_means, self.prior_log_scale.exp(), weights)
        output = self.encoder(self.prior_inputs).to(self.prior_inputs.dtype)
        mean, log_variance = output.tensor_split((self.latent_dim,), dim=-1)
        weights = torch.full_like(mean[..., 0], -math.log(mean.shape[1]))
        return Mixture(mean, (0.5 * log_variance).exp(), weights)

    def member(self, index: int) -> VAE:
        """Return a pack of one member, with a copy of its weights."""
        if len(self.cells) == 1:
            return self
        single = VAE(
            (self.cells[index],),
            self.image_shape,
            self.levels,
            (torch.Generator(),),
            self.initial_scale,
            self.units,
        )
        own = {name: value[index : index + 1] for name, value in self.state_dict().items()}
        single.load_state_dict(own)
        return single.to(self.prior_scale.device, self.prior_scale.dtype).eval()

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z|x) for pixels ``x (P, B, D)``."""
        seen = x
        if self.units is not None:
            centred = (torch.log1p(x) if self._counts else x) - self.data_shift.squeeze(1)
            seen = centred / self.data_scale.squeeze(1)
        return posterior(self._posterior, self.encoder(seen).to(x.dtype), self.latent_dim)

    def decode(self, z: Tensor, fit_to: Tensor | None = None) -> Likelihood:
        """Return p(x|z) for codes ``z (P, S, B, Z)``.

        An ``optimal`` scale is fitted to the pixels ``fit_to (P, B, D)``, as in training for each
        batch; without ``fit_to`` the last fitted scale is used.
        """
        output = self.decoder(z.flatten(1, 2)).to(z.dtype).unflatten(1, z.shape[1:3])
        if self.sigma_kind == "predicted":
            output, raw = output.unflatten(-1, (-1, 2)).unbind(-1)
            scale: Tensor | None = self._in_data_units(_floored(raw + self._raw_start))
            output = self._located(output)
        else:
            output = self._located(output)
            if self.sigma_kind == "optimal" and fit_to is not None:
                self._fit_scale(fit_to.unsqueeze(1) - output.detach(), self.fixed_scale, steps=2)
            scale = self.scale()
        return self._family.from_output(output, scale, levels=self.levels, clip=self._clip)

    def _located(self, output: Tensor) -> Tensor:
        """Convert the location of each pixel, the first of its outputs, to the unit of the data."""
        if self.units is None:
            return output
        if self._outputs == 1:
            return self.data_shift + self.data_scale * output
        numbers = output.reshape(*output.shape[:-1], -1, self._outputs)
        location, *others = numbers.unbind(-1)
        located = self.data_shift + self.data_scale * location
        return torch.stack((located, *others), dim=-1).flatten(-2)

    def _in_data_units(self, scale: Tensor) -> Tensor:
        return scale if self.units is None else scale * self.data_scale

    def scale(self) -> Tensor | None:
        """Return the present scale, ``(P, 1, 1, 1 or D)`` in pixel units.

        None for a family without a scale, and for ``predicted``, where it depends on the image.
        """
        if self.sigma_kind in ("none", "predicted"):
            return None
        if self.sigma_kind in ("learned", "per_pixel"):
            return self._in_data_units(_floored(self.raw_scale))
        if self.sigma_kind == "optimal":
            return self._in_data_units(self.fixed_scale)
        return self.fixed_scale

    def fit_scale(self, residual: Tensor) -> None:
        """Fit an ``optimal`` scale to residuals ``(P, S, N, D)`` in pixel units."""
        self._fit_scale(residual.to(self.fixed_scale.device), None, steps=60)

    @torch.no_grad()
    def _fit_scale(self, residual: Tensor, start: Tensor | None, steps: int) -> None:
        # At the optimum the gradient with respect to the scale is zero, so it is held constant.
        if self.units is not None:
            residual = residual / self.data_scale
        best = self._family.optimal_scale(residual, (1, 2, 3), start=start, steps=steps)
        self.fixed_scale.copy_(best)
