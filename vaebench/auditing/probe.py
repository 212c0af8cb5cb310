"""Auditing a loss by calling it: its weights are read off its values at designed points.

The loss is evaluated in float64 at images, decodings and posteriors chosen so that every known
form of a reconstruction term and of a KL gives different numbers; the weights come from a
least-squares fit that has to be exact. Nothing is differentiated and nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vaebench.auditing.form import Audit, Form, Sizes, judge
from vaebench.errors import AuditError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Loss", "audit"]

Loss: TypeAlias = "Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]"

# Misfit allowed, relative to the spread of the loss over the points: float64, and below.
MISFIT_DOUBLE = 1e-4
MISFIT_SINGLE = 5e-3
# A logarithm of a squared error usually holds an epsilon that bends it by this much.
MISFIT_LOGARITHM = 1e-2


@dataclass(frozen=True)
class _Shapes:
    """Shapes without the batch: one image, one decoding."""

    x: tuple[int, ...]
    decoded: tuple[int, ...]
    latents: int
    batch: int

    @property
    def sizes(self) -> Sizes:
        return Sizes(math.prod(self.x), self.latents, self.batch)


@dataclass(frozen=True)
class _Point:
    """One set of arguments: ``(batch, *shape)`` each, latents ``(batch, latents)``."""

    x: Tensor
    decoded: Tensor
    mu: Tensor
    logvar: Tensor

    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.decoded, self.mu, self.logvar


@dataclass
class _Probe:
    """The loss, how to call it, and what was noticed while calling."""

    loss: Loss
    dtype: torch.dtype
    notes: list[str] = field(default_factory=list)
    single: bool = False

    @property
    def misfit(self) -> float:
        return MISFIT_SINGLE if self.single else MISFIT_DOUBLE

    def __call__(self, point: _Point, seed: int = 0) -> float:
        """The loss at ``point`` with torch's generator at ``seed``; raises `AuditError`."""
        return self._number(self.tensor(point, seed)[0])

    def tensor(self, point: _Point, seed: int = 0) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The loss, the leaves of its arguments, and the arguments as the loss left them."""
        import torch

        leaves = [v.to(self.dtype).clone().requires_grad_() for v in point.values()]
        leaves[0].requires_grad_(False)
        arguments = [leaf.clone() for leaf in leaves]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            try:
                result = self.loss(*arguments)
            except (Exception, SystemExit) as error:
                shapes = ", ".join(str(tuple(v.shape)) for v in arguments)
                raise AuditError(
                    f"The loss raised {type(error).__name__} for x, decoded, mu, logvar of shapes "
                    f"{shapes}: {_first_line(error)}. Check these shapes against what it expects."
                ) from error
        return result, leaves, arguments

    def _number(self, result: object) -> float:
        import torch

        if not isinstance(result, torch.Tensor):
            raise AuditError(_not_a_tensor(result))
        if result.numel() != 1:
            raise AuditError(
                f"The loss must return one number; it returned a tensor of shape "
                f"{tuple(result.shape)}. Sum or average it."
            )
        if result.is_complex():
            raise AuditError("The loss must return a real number; it returned a complex one.")
        number = float(result.detach())
        if not math.isfinite(number):
            raise AuditError(
                f"The loss is {number} at an ordinary point (x and decoded inside [0.05, 0.95], "
                "|mu| and |logvar| at most 3). If it expects a variance or a standard deviation as "
                "its fourth argument, hand it exp(logvar) or exp(logvar / 2)."
            )
        self.single = self.single or result.dtype != torch.float64
        return number


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no message"


def _not_a_tensor(result: object) -> str:
    hint = "Return the tensor that is minimised."
    if isinstance(result, dict):
        hint = f"Return one of its entries ({', '.join(map(str, result))})."
    elif isinstance(result, (tuple, list)):
        hint = "Return the one that is minimised."
    return f"The loss must return a scalar tensor; it returned a {type(result).__name__}. {hint}"


def audit(
    loss: Loss,
    *,
    x_shape: tuple[int, ...],
    latent_dim: int,
    batch_size: int = 4,
    decoded_shape: tuple[int, ...] | None = None,
) -> Audit:
    """The audit of ``loss(x, decoded, mu, logvar) -> scalar tensor``, by probing it.

    Shapes are those of one image: ``x`` arrives as ``(batch_size, *x_shape)`` in [0, 1],
    ``decoded`` as ``(batch_size, *decoded_shape)`` (default: as ``x``), ``mu`` and ``logvar`` as
    ``(batch_size, latent_dim)``. Batch, latents and the last dimension of the image are also
    doubled, where the loss accepts that. Arguments are copies: a loss may change them.

    Raises `AuditError` when the loss raises, returns no scalar tensor, is NaN or infinite at
    ordinary points, or differs between equal calls.
    """
    if not callable(loss):
        raise AuditError(f"A loss is a function of x, decoded, mu, logvar; got {loss!r}.")
    shapes = _shapes(x_shape, decoded_shape, latent_dim, batch_size)
    probe = _open(loss, shapes)
    measured = _measure(probe, shapes)
    _notice_gradients(probe, shapes)
    doubled = {size: _try(probe, other) for size, other in _doubles(shapes)}
    refused = [size for size, form in doubled.items() if form is None]
    if refused:
        probe.notes.append(f"The loss refused another size of: {', '.join(refused)}.")
    return judge(measured.form, doubled, kl_sign_ok=measured.kl_sign_ok, notes=tuple(probe.notes))


def _shapes(
    x_shape: tuple[int, ...], decoded_shape: tuple[int, ...] | None, latents: int, batch: int
) -> _Shapes:
    decoded = x_shape if decoded_shape is None else decoded_shape
    for shape in (x_shape, decoded):
        if not isinstance(shape, tuple):
            raise AuditError(f"A shape is a tuple such as (1, 28, 28); got {shape!r}.")
    for size in (*x_shape, *decoded, latents, batch):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise AuditError(
                f"Shapes, latent_dim and batch_size are whole numbers >= 1; got {size!r}."
            )
    if not x_shape or math.prod(x_shape) != math.prod(decoded):
        raise AuditError(
            f"decoded must hold one number a pixel of x; the shapes are {decoded} and {x_shape}."
        )
    return _Shapes(tuple(x_shape), tuple(decoded), latents, batch)


def _doubles(shapes: _Shapes) -> Iterator[tuple[str, _Shapes]]:
    yield "batch", replace(shapes, batch=2 * shapes.batch)
    yield "latent", replace(shapes, latents=2 * shapes.latents)
    x, decoded = ((*shape[:-1], 2 * shape[-1]) for shape in (shapes.x, shapes.decoded))
    yield "image", replace(shapes, x=x, decoded=decoded)


def _try(probe: _Probe, shapes: _Shapes) -> Form | None:
    """The form at other shapes, or None where the loss will not have them."""
    try:
        return _measure(probe, shapes).form
    except AuditError:
        return None


def _open(loss: Loss, shapes: _Shapes) -> _Probe:
    """A probe in float64, or in float32 for a loss that holds float32 tensors of its own."""
    import torch

    point = _ordinary(shapes)
    probe = _Probe(loss, torch.float64)
    try:
        probe(point)
    except AuditError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        probe = _Probe(loss, torch.float32, single=True)
        try:
            probe(point)
        except AuditError:
            raise error from error.__cause__
        probe.notes.append("The loss refuses float64: it was read in float32, to fewer figures.")
    _notice_randomness(probe, point)
    return probe


def _notice_randomness(probe: _Probe, point: _Point) -> None:
    first, again, reseeded = probe(point), probe(point), probe(point, seed=1)
    if first != again:
        raise AuditError(
            f"The loss must be a function of its arguments: equal calls with equal seeds gave "
            f"{first:.9g} and {again:.9g}."
        )
    if first != reseeded:
        probe.notes.append(
            "The loss is random (it draws from torch's generator): this holds for one draw."
        )


def _notice_gradients(probe: _Probe, shapes: _Shapes) -> None:
    """Note arguments changed in place and gradients that do not arrive."""
    import torch

    result, leaves, arguments = probe.tensor(_ordinary(shapes))
    names = ("x", "decoded", "mu", "logvar")
    changed = [
        name
        for name, leaf, left in zip(names, leaves, arguments, strict=True)
        if not torch.equal(leaf.detach(), left.detach())
    ]
    if changed:
        probe.notes.append(f"The loss changes its arguments in place: {', '.join(changed)}.")
    if not result.requires_grad:
        probe.notes.append("No gradient passes through the loss: it can be read, not trained.")
        return
    gradients = torch.autograd.grad(result.sum(), leaves[1:], allow_unused=True)
    cut = [n for n, g in zip(names[1:], gradients, strict=True) if g is None or not bool(g.any())]
    if cut:
        probe.notes.append(f"No gradient reaches {', '.join(cut)}.")


# --- the points -------------------------------------------------------------------------------


def _random(shapes: _Shapes, seed: int) -> _Point:
    """Numbers in [-1, 1] of the shapes of the four arguments."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(shapes.batch, *shape, generator=generator, dtype=torch.float64) - 1

    return _Point(
        draw(*shapes.x), draw(*shapes.decoded), draw(shapes.latents), draw(shapes.latents)
    )


def _reference(shapes: _Shapes) -> _Point:
    """Grey images, decoded almost right; a posterior equal to the standard normal prior."""
    import torch

    noise = _random(shapes, 0)
    x = 0.5 + 0.25 * noise.x
    decoded = x.reshape(noise.decoded.shape) + 0.05 * noise.decoded
    zero = torch.zeros_like(noise.mu)
    return _Point(x, decoded, zero, zero.clone())


def _ordinary(shapes: _Shapes) -> _Point:
    """A point where every term of a loss is away from zero."""
    noise = _random(shapes, 99)
    return replace(_reference(shapes), mu=2 * noise.mu, logvar=noise.logvar)


def _recon_points(shapes: _Shapes) -> Iterator[_Point]:
    """Images and decodings in [0.05, 0.95]: residuals of many sizes, also in parts of the batch."""
    start = _reference(shapes)
    decoded_shape = start.decoded.shape
    for seed, (contrast, level, size) in enumerate(
        [(0.25, 0.5, 0.02), (0.1, 0.5, 0.1), (0.2, 0.5, 0.2), (0.05, 0.5, 0.4), (0.05, 0.2, 0.1),
         (0.05, 0.8, 0.1), (0.02, 0.35, 0.25), (0.4, 0.5, 0.02)]
    ):  # fmt: skip
        noise = _random(shapes, seed)
        x = level + contrast * noise.x
        decoded = x.reshape(decoded_shape) + size * noise.decoded
        yield replace(start, x=x, decoded=decoded)
    for part in _parts(start.decoded):
        decoded = start.decoded.clone()
        flat = decoded.view(shapes.batch, -1)
        flat[part] = 0.9 - 0.5 * flat[part]
        yield replace(start, decoded=decoded)


def _parts(values: Tensor) -> Iterator[tuple[slice, slice]]:
    """The first image; the first half, the last half and every other one of the columns."""
    columns = math.prod(values.shape[1:])
    everything = slice(None)
    yield slice(0, 1), everything
    yield everything, slice(0, (columns + 1) // 2)
    yield everything, slice(columns // 2, None)
    yield everything, slice(0, None, 2)


def _latent_points(shapes: _Shapes) -> Iterator[_Point]:
    """Posteriors away from the prior: in mu, in logvar, both ways, also in parts of the batch."""
    import torch

    start = _reference(shapes)
    zero = torch.zeros_like(start.mu)
    for seed in range(3):
        noise = _random(shapes, seed + 50)
        yield replace(start, mu=(seed + 1) * noise.mu)
        yield replace(start, logvar=(seed + 1) * noise.logvar)
        yield replace(start, mu=2 * noise.mu, logvar=noise.logvar)
        yield replace(start, logvar=zero + (seed + 1))
        yield replace(start, logvar=zero - (seed + 1))
    for part in _parts(start.mu):
        away = zero.clone()
        away[part] = 1.5
        yield replace(start, mu=away)
        yield replace(start, logvar=-away)


# --- the fits ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    form: Form
    kl_sign_ok: bool | None


@dataclass(frozen=True)
class _Fit:
    """``values`` = ``features @ weights``, and how badly."""

    weights: np.ndarray
    misfit: float


def _fit(features: list[list[float]], values: list[float]) -> _Fit:
    """Least squares; the misfit is the largest one, relative to the spread of the values."""
    matrix, wanted = np.asarray(features), np.asarray(values)
    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    weights = np.linalg.lstsq(matrix / size, wanted, rcond=None)[0] / size
    spread = float(np.ptp(wanted)) or 1.0
    return _Fit(weights, float(np.abs(matrix @ weights - wanted).max()) / spread)


@dataclass(frozen=True)
class _Recon:
    """The reconstruction term: weight of the mean over images, constant, or what is wrong."""

    family: str | None
    weight: float | None
    constant: float
    fault: str = ""
    note: str = ""


@dataclass(frozen=True)
class _KL:
    """The KL term: its weight of the mean over images and the prior's scale, or what is wrong."""

    weight: float | None
    sign_ok: bool | None
    prior_scale: float = 1.0
    fault: str = ""


def _measure(probe: _Probe, shapes: _Shapes) -> _Measured:
    recon, kl = _read_recon(probe, shapes), _read_kl(probe, shapes)
    fault = "; ".join(filter(None, [kl.fault, recon.fault]))
    if not fault and not _separable(probe, shapes):
        fault = "the reconstruction and the latent term are not simply added"
    if recon.note and recon.note not in probe.notes:
        probe.notes.append(recon.note)
    form = Form(
        shapes.sizes, recon.family, recon.weight, kl.weight, recon.constant, kl.prior_scale, fault
    )
    return _Measured(form, kl.sign_ok)


def _separable(probe: _Probe, shapes: _Shapes) -> bool:
    """Whether the latent term is the same beside another image and decoding."""
    start = _reference(shapes)
    other = list(_recon_points(shapes))[3]
    noise = _random(shapes, 99)
    rises = [
        probe(replace(point, mu=2 * noise.mu, logvar=noise.logvar)) - probe(point)
        for point in (start, other)
    ]
    floor = 1e-6 * abs(probe(other)) if probe.single else 1e-12 * abs(probe(other))
    return math.isclose(*rises, rel_tol=probe.misfit, abs_tol=floor)


def _read_recon(probe: _Probe, shapes: _Shapes) -> _Recon:
    points = list(_recon_points(shapes))
    values = [probe(point) for point in points]
    if np.ptp(values) <= 1e-12 * max(map(abs, values)):
        return _Recon(None, None, values[0], "the reconstruction does not enter")
    for template in _TEMPLATES:
        fit = _fit([[template.error(point), 1.0] for point in points], values)
        if fit.misfit < max(probe.misfit, template.slack):
            weight, constant = map(float, fit.weights)
            fault = template.fault
            if weight < 0:
                fault = "the reconstruction error has the wrong sign, so it is maximised"
            if abs(constant) < probe.misfit * 1e-4 * float(np.ptp(values)):
                constant = 0.0
            known = None if template.fault else weight
            return _Recon(template.family, known, constant, fault, template.note)
    return _Recon(
        None,
        None,
        0.0,
        "its reconstruction term is no squared error, absolute error, cross-entropy or continuous "
        "Bernoulli with one weight for all pixels, so no decoder known here has it as -log p(x|z)",
    )


def _read_kl(probe: _Probe, shapes: _Shapes) -> _KL:
    points = list(_latent_points(shapes))
    start = probe(_reference(shapes))
    rises = [probe(point) - start for point in points]
    if max(map(abs, rises)) <= (1e-7 if probe.single else 1e-13) * abs(start):
        return _KL(0.0, None)
    fit = _fit([_kl_features(point) for point in points], rises)
    if fit.misfit < probe.misfit:
        return _weigh_kl(*map(float, fit.weights))
    if _fit([_kl_features(replace(p, logvar=2 * p.logvar)) for p in points], rises).misfit < (
        probe.misfit
    ):
        return _KL(None, None, fault="its KL reads logvar as the log of the standard deviation")
    return _KL(
        None,
        None,
        fault="its latent term is not built from mu^2, exp(logvar) and logvar with one weight "
        "each, as the KL to a normal prior is (free bits, a capacity target, a sampled KL and "
        "MMD look like that)",
    )


def _kl_features(point: _Point) -> list[float]:
    """The three parts of KL(N(mu, exp(logvar)) || N(0, I)), less their value at the prior."""
    variance = point.logvar.exp() - 1
    parts = (point.mu.square(), variance, -point.logvar)
    return [0.5 * float(part.sum(dim=1).mean()) for part in parts]


def _weigh_kl(mu: float, variance: float, log: float) -> _KL:
    """The KL's weight from the weights of its parts; for a prior of another scale the first two
    are divided by its variance."""
    largest = max(abs(mu), abs(variance), abs(log))
    mu, variance, log = (0.0 if abs(w) < 1e-6 * largest else w for w in (mu, variance, log))
    if not math.isclose(mu, variance, rel_tol=1e-3) or mu * log <= 0:
        signs_ok = min(mu, variance, log) >= 0
        return _KL(
            None,
            signs_ok,
            fault="its latent term weighs mu^2/2, exp(logvar)/2 and -logvar/2 by "
            f"{mu:.4g}, {variance:.4g} and {log:.4g}, where a KL has one weight for all three",
        )
    if log < 0:
        return _KL(log, False, fault="the KL has the wrong sign, so it is maximised")
    scale = 1.0 if math.isclose(mu, log, rel_tol=1e-3) else math.sqrt(log / mu)
    return _KL(log, True, prior_scale=scale)


# --- the reconstruction terms that are known -------------------------------------------------


@dataclass(frozen=True)
class _Template:
    """A reconstruction term: ``error`` of a point, sum over pixels and mean over images."""

    family: str | None
    error: Callable[[_Point], float]
    note: str = ""
    fault: str = ""
    slack: float = 0.0


def _per_image(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1)


def _residual(point: _Point) -> Tensor:
    return point.x.flatten(1) - point.decoded.flatten(1)


def _squashed(point: _Point) -> _Point:
    return replace(point, decoded=point.decoded.sigmoid())


def _sse(point: _Point) -> float:
    return float(_per_image(_residual(point).square()).mean())


def _absolute(point: _Point) -> float:
    return float(_per_image(_residual(point).abs()).mean())


def _cross_entropy(point: _Point) -> float:
    x, p = point.x.flatten(1), point.decoded.flatten(1)
    return float(_per_image(-x * p.log() - (1 - x) * (1 - p).log()).mean())


def _continuous_bernoulli(point: _Point) -> float:
    """Cross-entropy less log C, C = 2 atanh(1 - 2 p)/(1 - 2 p) (Loaiza-Ganem & Cunningham 2019)."""
    import torch

    away = 1 - 2 * point.decoded.flatten(1)
    safe = torch.where(away.abs() < 1e-3, 1e-3, away)
    log_c = torch.where(
        away.abs() < 1e-3, math.log(2) + away.square() / 3, (2 * safe.atanh() / safe).log()
    )
    return _cross_entropy(point) - float(_per_image(log_c).mean())


def _log_sse_per_image(point: _Point) -> float:
    return float(_per_image(_residual(point).square()).log().mean())


def _log_sse(point: _Point) -> float:
    return math.log(_sse(point))


_LOGITS = "It takes the decoder's output as logits (a sigmoid is inside the loss)."
_FITTED = (
    "sigma is fitted to the very {} being scored (the reconstruction term is the logarithm of "
    "their squared error), so no decoder is fixed and the number bounds no log p(x) of new images"
)

_TEMPLATES = (
    _Template("gaussian", _sse),
    _Template("laplace", _absolute),
    _Template("bernoulli", _cross_entropy),
    _Template("bernoulli", lambda p: _cross_entropy(_squashed(p)), note=_LOGITS),
    _Template("continuous_bernoulli", _continuous_bernoulli),
    _Template("continuous_bernoulli", lambda p: _continuous_bernoulli(_squashed(p)), note=_LOGITS),
    _Template("gaussian", lambda p: _sse(_squashed(p)), note=_LOGITS),
    _Template("laplace", lambda p: _absolute(_squashed(p)), note=_LOGITS),
    _Template(
        "gaussian", _log_sse_per_image, fault=_FITTED.format("image"), slack=MISFIT_LOGARITHM
    ),
    _Template("gaussian", _log_sse, fault=_FITTED.format("batch"), slack=MISFIT_LOGARITHM),
)
