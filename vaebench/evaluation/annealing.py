"""Annealed importance sampling of log p(x): a lower bound, and an upper bound on simulated images.

Hamiltonian Monte Carlo moves codes from the prior to the posterior through distributions p_t(z)
proportional to p(z) p(x|z)^t. The weight of a chain is w = prod_i p(x|z_i)^(t_{i+1} - t_i). Its
mean is p(x), so log w is a stochastic lower bound on log p(x) (Neal 2001, "Annealed importance
sampling").
A chain in reverse starts from an exact posterior sample: for a simulated image that is the code
from which it was simulated. Then E[1/w] = 1/p(x), which gives a stochastic upper bound:
bidirectional Monte Carlo (Grosse, Ancha and Roy 2016, arXiv 1606.02275). For decoders see Wu,
Burda, Salakhutdinov and Grosse 2017, arXiv 1611.04273, section 3.

Step sizes are adapted to an acceptance rate of 0.65 on separate chains that are not used further.
The other chains use fixed step sizes, for which the bounds are always valid. All numbers are
float64.
Shapes: S chains, B images, Z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vaebench.evaluation.double_precision import codes_at_once, double_copy, double_pixels
from vaebench.model.vae import VAE

ACCEPTANCE = 0.65
"""The target acceptance rate of the step sizes, the optimum of Beskos et al. 2013."""

_TUNING_CHAINS, _SETTLING, _GAIN = 8, 20, 0.6

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Annealing:
    """The number of chains, distributions and leapfrog steps.

    Attributes:
        chains: independent chains per image, at least two, which a standard error needs.
        distributions: steps from the prior to the posterior, at least 1. The gap between the two
            bounds is about proportional to 1 / distributions.
        leapfrog_steps: steps of the longest Hamiltonian trajectory.

    Raises:
        ValueError: a number is out of range.
    """

    chains: int = 16
    distributions: int = 500
    leapfrog_steps: int = 10

    def __post_init__(self) -> None:
        for name, least in (("chains", 2), ("distributions", 1), ("leapfrog_steps", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} of annealing must be at least {least}; got {value}")


@dataclass(frozen=True)
class Annealed:
    """The results of one direction for ``N`` images.

    Attributes:
        log_weights: log w of each chain, nats, ``(N, chains)``; each is itself a bound.
        acceptance: mean acceptance rate of the proposals, ``(N,)``.
        reverse: whether the chains ran from posterior to prior.
    """

    log_weights: Tensor
    acceptance: Tensor
    reverse: bool

    @property
    def bound(self) -> Tensor:
        """Log of the mean of w over chains, nats, ``(N,)``; its expectation is below log p(x).

        In reverse it is minus the log of the mean of 1/w; its expectation is above log p(x).
        """
        sign = -1.0 if self.reverse else 1.0
        chains = self.log_weights.shape[1]
        return sign * (torch.logsumexp(sign * self.log_weights, 1) - math.log(chains))

    @property
    def standard_error(self) -> Tensor:
        """Monte Carlo error of ``bound`` by the delta method, nats, ``(N,)``.

        The reverse chains of an image start from the same exact sample, so they are not quite
        independent. For them the spread of the bounds over images is the better measure.
        """
        relative = self._relative_weights()
        return relative.std(1) / math.sqrt(relative.shape[1])

    @property
    def effective_share(self) -> Tensor:
        """(sum w)^2 / (chains sum w^2), between 1/chains and 1, ``(N,)``; in reverse with 1/w."""
        return 1 / self._relative_weights().square().mean(1)

    def _relative_weights(self) -> Tensor:
        sign = -1.0 if self.reverse else 1.0
        return (sign * self.log_weights).softmax(1) * self.log_weights.shape[1]


@dataclass(frozen=True)
class Bracket:
    """Lower and upper bound on log p(x) of simulated images."""

    forward: Annealed
    reverse: Annealed

    @property
    def gap(self) -> Tensor:
        """Upper minus lower bound, nats, ``(N,)``: at least 0, apart from noise."""
        return self.reverse.bound - self.forward.bound


def temperatures(distributions: int, contrast: float) -> Tensor:
    """Return the powers t of p(x|z) from prior (0) to posterior (1), ``(distributions + 1,)``.

    They are ((1 + contrast)^s - 1) / contrast for equal steps of s. If the likelihood is a Gaussian
    of z whose width is 1/sqrt(contrast) of that of the prior, the standard deviation of log p(x|z)
    under p_t is proportional to 1 / (1 + contrast t), and steps of equal change are the best ones
    (Neal 2001, section 4; Grosse, Maddison and Salakhutdinov 2013, section 4). The logistic
    function of Wu et al. 2017 needs many times more steps, because its first steps are too long.

    >>> [round(t, 6) for t in temperatures(2, 8.0).tolist()]
    [0.0, 0.25, 1.0]
    """
    rate = math.log1p(contrast)
    line = torch.linspace(0, 1, distributions + 1, dtype=torch.float64)
    return torch.expm1(rate * line) / math.expm1(rate)


def annealed_bound(
    vae: VAE,
    pixels: Tensor,
    settings: Annealing,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Annealed:
    """Return the stochastic lower bound on log p(x) of images ``(N, D)`` for decoder and prior.

    Args:
        vae: a pack of one, of which a float64 copy is used. Its encoder is not used.
        pixels: ``(N, D)``.
        settings: chains, distributions and trajectories.
        generator: source of all random numbers, on the CPU.
        progress: called after each move with the number of completed moves and their total.

    Raises:
        ValueError: no image, images of another size, a delta posterior, or a decoder whose
            log p(x|z) is not finite for a code from the prior.
    """
    model = double_copy(vae)
    images = double_pixels(model, pixels)
    return _Run(model, settings, generator, progress, 1).forward(images)


def bidirectional_bounds(
    vae: VAE,
    pixels: Tensor,
    codes: Tensor,
    settings: Annealing,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Bracket:
    """Return both stochastic bounds on log p(x) of images that were simulated from the model.

    Args:
        vae, settings, generator, progress: as for `annealed_bound`.
        pixels: ``(N, D)``, as `vaebench.model.sampling.simulate` returns them.
        codes: ``(N, Z)``, the codes from which these images were simulated, which are exact
            posterior samples. With other codes the result is not an upper bound.

    Raises:
        ValueError: as `annealed_bound`, or codes of another shape.
    """
    model = double_copy(vae)
    images = double_pixels(model, pixels)
    if codes.shape != (len(images), model.latent_dim):
        raise ValueError(
            "codes must be those from which the images were simulated, of shape "
            f"{(len(images), model.latent_dim)}; got {tuple(codes.shape)}: "
            "pass the codes that simulate() returned"
        )
    return _Run(model, settings, generator, progress, 2).both(images, codes)


@dataclass(frozen=True)
class _State:
    """The state of chains: codes ``(S, B, Z)``, log p(x|z) ``(S, B)`` and its gradient."""

    z: Tensor
    log_likelihood: Tensor
    gradient: Tensor


class _Target:
    """The distributions p(z) p(x|z)^t for a block of images ``(B, D)``."""

    def __init__(self, vae: VAE, x: Tensor) -> None:
        self._vae, self._x = vae, x
        self.prior = vae.prior()
        self.images = len(x)

    def at(self, z: Tensor) -> _State:
        """Return the state of chains at codes ``(S, B, Z)``."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = self._vae.decode(z.unsqueeze(0)).log_prob(self._x)[0]
            (gradient,) = torch.autograd.grad(value.sum(), z)
        return _State(z.detach(), value.detach(), gradient)

    def from_prior(self, chains: int, generator: torch.Generator) -> _State:
        shape = (chains, self.images, self._vae.latent_dim)
        noise = _normal(shape, generator, self._x).unsqueeze(0)
        state = self.at(self.prior.draw(noise, generator)[0])
        if not bool(state.log_likelihood.isfinite().all()):
            raise ValueError(
                "log p(x|z) of the decoder must be finite at codes from the prior; got nan or "
                "infinity: check whether the training of this model diverged"
            )
        return state

    def log_prob(self, state: _State, t: float) -> Tensor:
        """Return log p(z) + t log p(x|z), ``(S, B)``."""
        return self.prior.log_prob(state.z.unsqueeze(0))[0] + t * state.log_likelihood

    def force(self, state: _State, t: float) -> Tensor:
        """Return the gradient of `log_prob` with respect to z, ``(S, B, Z)``."""
        return t * state.gradient + self.prior.score(state.z.unsqueeze(0))[0]


def _normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like.device)


def _move(
    target: _Target,
    state: _State,
    t: float,
    step: Tensor,
    longest: int,
    generator: torch.Generator,
) -> tuple[_State, Tensor]:
    """Make one Hamiltonian move that leaves p_t invariant.

    ``step (B,)`` are step sizes. The number of steps is drawn from 1 to ``longest``, because on a
    Gaussian target a trajectory of fixed length can return to its start. Returns the new state and
    the acceptance rate of each image, ``(B,)``. Source: Neal 2011, "MCMC
    using Hamiltonian dynamics", sections 3.2 and 4.2.
    """
    size = step.unsqueeze(-1)
    leapfrog_steps = int(torch.randint(1, longest + 1, (), generator=generator))
    momentum = _normal(tuple(state.z.shape), generator, step)
    before = target.log_prob(state, t) - 0.5 * momentum.square().sum(-1)
    proposal = state
    momentum = momentum + 0.5 * size * target.force(state, t)
    for taken in range(1, leapfrog_steps + 1):
        proposal = target.at(proposal.z + size * momentum)
        last = taken == leapfrog_steps
        momentum = momentum + (0.5 if last else 1.0) * size * target.force(proposal, t)
    after = target.log_prob(proposal, t) - 0.5 * momentum.square().sum(-1)
    # A trajectory that overflows is rejected.
    rate = torch.nan_to_num((after - before).clamp(max=0).exp(), nan=0.0)
    uniform = torch.rand(rate.shape, generator=generator, dtype=torch.float64).to(step.device)
    accepted = uniform < rate
    wide = accepted.unsqueeze(-1)
    chosen = _State(
        torch.where(wide, proposal.z, state.z),
        torch.where(accepted, proposal.log_likelihood, state.log_likelihood),
        torch.where(wide, proposal.gradient, state.gradient),
    )
    return chosen, rate.mean(0)


@dataclass(frozen=True)
class _Plan:
    """All temperatures, and step sizes ``(distributions - 1, B)`` for those between the ends."""

    path: list[float]
    steps: Tensor


class _Run:
    """One estimate: its settings, noise and progress, in blocks of images and chains."""

    def __init__(
        self,
        vae: VAE,
        settings: Annealing,
        generator: torch.Generator,
        progress: Progress | None,
        directions: int,
    ) -> None:
        self._vae, self._settings, self._generator = vae, settings, generator
        self._progress, self._directions = progress, directions
        self._done = self._total = 0

    def forward(self, images: Tensor) -> Annealed:
        blocks = [self._forward(target, plan) for target, plan, _ in self._blocks(images)]
        return _joined(blocks)

    def both(self, images: Tensor, codes: Tensor) -> Bracket:
        forward, reverse = [], []
        for target, plan, rows in self._blocks(images):
            start = codes[rows].to(images)
            forward.append(self._forward(target, plan))
            reverse.append(self._reverse(target, plan, start))
        return Bracket(_joined(forward), _joined(reverse))

    def _blocks(self, images: Tensor) -> Iterator[tuple[_Target, _Plan, slice]]:
        """Yield each block of images, its plan, and the rows of its images."""
        size = max(1, codes_at_once(self._vae) // self._settings.chains)
        starts = range(0, len(images), size)
        groups, moves = len(self._groups()), self._settings.distributions - 1
        settling = 1 + (self._directions - 1) * groups
        runs = 1 + self._directions * groups
        self._total = len(starts) * (runs * moves + _SETTLING * settling * bool(moves))
        for start in starts:
            rows = slice(start, start + size)
            target = _Target(self._vae, images[rows])
            yield target, self._tuned(target), rows

    def _groups(self) -> list[int]:
        """Return the numbers of chains of one block that run together."""
        most = min(self._settings.chains, codes_at_once(self._vae))
        full, rest = divmod(self._settings.chains, most)
        return [most] * full + [rest] * (rest > 0)

    def _tuned(self, target: _Target) -> _Plan:
        """Choose temperatures by the spread of log p(x|z), and step sizes by the acceptance."""
        state = target.from_prior(_TUNING_CHAINS, self._generator)
        contrast = float(state.log_likelihood.var(0).mean().sqrt())
        path = temperatures(self._settings.distributions, contrast + 1e-3).tolist()
        narrowest = float(target.prior.scale.min())
        log_step = torch.full_like(state.z[0, :, 0], math.log(0.5 * narrowest))
        steps = log_step.new_empty((len(path) - 2, target.images))
        for i, t in enumerate(path[1:-1]):
            for _ in range(1 if i else 1 + _SETTLING):
                state, rate = self._moved(target, state, t, log_step.exp())
                log_step = log_step + _GAIN * (rate - ACCEPTANCE)
            steps[i] = log_step.exp()
        return _Plan(path, steps)

    def _moved(
        self, target: _Target, state: _State, t: float, step: Tensor
    ) -> tuple[_State, Tensor]:
        moved = _move(target, state, t, step, self._settings.leapfrog_steps, self._generator)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return moved

    def _forward(self, target: _Target, plan: _Plan) -> Annealed:
        starts = (target.from_prior(chains, self._generator) for chains in self._groups())
        gathered = [self._annealed(target, start, plan) for start in starts]
        return _block(gathered, reverse=False)

    def _reverse(self, target: _Target, plan: _Plan, codes: Tensor) -> Annealed:
        back = _Plan(plan.path[::-1], plan.steps.flip(0))
        gathered = []
        for chains in self._groups():
            state = target.at(codes.expand(chains, -1, -1))
            # Moves that leave the posterior invariant separate the chains; each start stays exact.
            for _ in range(_SETTLING * bool(len(back.steps))):
                state, _ = self._moved(target, state, 1.0, back.steps[0])
            gathered.append(self._annealed(target, state, back))
        return _block(gathered, reverse=True)

    def _annealed(self, target: _Target, state: _State, plan: _Plan) -> tuple[Tensor, Tensor]:
        """Return the sum of (t_{i+1} - t_i) log p(x|z_i) ``(S, B)`` and the acceptance ``(B,)``."""
        weight = torch.zeros_like(state.log_likelihood)
        rates = torch.zeros_like(weight[0])
        for i, (t, following) in enumerate(pairwise(plan.path)):
            weight = weight + (following - t) * state.log_likelihood
            if i < len(plan.steps):
                state, rate = self._moved(target, state, following, plan.steps[i])
                rates = rates + rate
        return weight, rates / max(1, len(plan.steps))


def _block(gathered: list[tuple[Tensor, Tensor]], *, reverse: bool) -> Annealed:
    weights = torch.cat([weight for weight, _ in gathered]).T
    shares = torch.stack([rate * (len(weight) / weights.shape[1]) for weight, rate in gathered])
    # In reverse the differences of t are negative, and the sum is minus the log-weight.
    return Annealed((-weights if reverse else weights).cpu(), shares.sum(0).cpu(), reverse)


def _joined(blocks: list[Annealed]) -> Annealed:
    return Annealed(
        torch.cat([block.log_weights for block in blocks]),
        torch.cat([block.acceptance for block in blocks]),
        blocks[0].reverse,
    )
