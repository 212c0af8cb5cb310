"""Audit a loss by calling it: determine its weights from its values at chosen points.

The loss is evaluated in float64 at images, decodings and posteriors for which all known forms of a
reconstruction term and of a KL give different values. The weights are those of a least-squares fit,
which must be exact. No model is trained.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from vaebench.auditing.form import Audit, Form, Sizes, judge
from vaebench.errors import AuditError, error_text
from vaebench.model.likelihoods import family

Loss: TypeAlias = Callable[..., Tensor]
Order: TypeAlias = Sequence[str | float]

DEFAULT_ORDER = ("x", "recon", "mu", "logvar")
ROLES = {
    "x": "x data target targets input inputs image images img original batch_x",
    "recon": "recon recons recon_x x_recon recon_batch reconstruction reconstructed decoded x_hat "
    "xhat x_rec rec_x output outputs out y y_pred pred prediction x_out",
    "recon_logvar": "recon_logvar x_logvar logvar_x recon_log_var x_log_var",
    "mu": "mu mean z_mean z_mu mu_z means",
    "logvar": "logvar log_var lv log_variance z_logvar z_log_var logvar_z log_var_z",
    "std": "std sigma stddev sd z_std z_sigma",
    "logstd": "logstd log_std log_sigma logsigma z_log_std",
    "var": "var variance sigma2 z_var",
}
"""Maps the role of an argument of a loss to common parameter names."""
_ROLE_OF = {name: role for role, names in ROLES.items() for name in names.split()}

# Largest error of a fit, relative to the range of the loss over the points.
MISFIT_DOUBLE = 1e-4
MISFIT_SINGLE = 5e-3
# The logarithm of a squared error usually contains an epsilon, which changes it by this share.
MISFIT_LOGARITHM = 1e-2


@dataclass(frozen=True)
class _Shapes:
    """Shape of one image and of one decoding, latent dimensions, and batch size."""

    x: tuple[int, ...]
    decoded: tuple[int, ...]
    latents: int
    batch: int

    @property
    def sizes(self) -> Sizes:
        return Sizes(math.prod(self.x), self.latents, self.batch)


@dataclass(frozen=True)
class _Point:
    """Values of the arguments of a loss at one point.

    Images and decodings are ``(batch, *shape)`` with pixels in [0, 1], ``mu`` and ``logvar`` are
    ``(batch, latents)``. ``spread``, shaped like ``decoded``, is the log variance of the decoder.
    """

    x: Tensor
    decoded: Tensor
    mu: Tensor
    logvar: Tensor
    spread: Tensor


@dataclass
class _Probe:
    """A loss with its argument order, and the notes that were made while calling it."""

    loss: Loss
    dtype: torch.dtype
    order: tuple[str | float, ...]
    pixel_range: tuple[float, float]
    notes: list[str] = field(default_factory=list)
    single: bool = False

    @property
    def misfit(self) -> float:
        return MISFIT_SINGLE if self.single else MISFIT_DOUBLE

    @property
    def width(self) -> float:
        return self.pixel_range[1] - self.pixel_range[0]

    def __call__(self, point: _Point, seed: int = 0) -> float:
        """Return the value of the loss at a point, with the generator of torch set to ``seed``."""
        number = _number(self.tensor(point, seed)[0])
        self.single = self.single or number[1]
        return number[0]

    def seen(self, pixels: Tensor) -> Tensor:
        """Convert pixels in [0, 1] to the range that the loss expects."""
        return self.pixel_range[0] + self.width * pixels

    def tensor(self, point: _Point, seed: int = 0) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the loss, the leaf tensors of its arguments, and the arguments after the call."""
        values: dict[str, Callable[[], Tensor]] = {
            "x": lambda: self.seen(point.x),
            "recon": lambda: self.seen(point.decoded),
            "recon_logvar": lambda: point.spread + 2 * math.log(self.width),
            "mu": lambda: point.mu,
            "logvar": lambda: point.logvar,
            "logstd": lambda: point.logvar / 2,
            "std": lambda: (point.logvar / 2).exp(),
            "var": lambda: point.logvar.exp(),
        }
        roles = [role for role in self.order if isinstance(role, str)]
        leaves = [
            values[role]().to(self.dtype).clone().requires_grad_(role != "x") for role in roles
        ]
        tensors = [leaf.clone() for leaf in leaves]
        left = iter(tensors)
        arguments = [next(left) if isinstance(role, str) else role for role in self.order]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            try:
                result = self.loss(*arguments)
            except (Exception, SystemExit) as error:
                lines = error_text(error).partition(": ")[2].strip().splitlines()
                why = lines[0].rstrip(".") if lines else "no message"
                shapes = ", ".join(str(tuple(each.shape)) for each in tensors)
                raise AuditError(
                    f"The loss must accept {', '.join(roles)} of shapes {shapes}; it raised "
                    f"{type(error).__name__}: {why}. Check the shapes, and set the order of the "
                    "arguments (order)."
                ) from error
        return result, leaves, tensors


def _number(result: object) -> tuple[float, bool]:
    """Return the value of a loss, and whether it has a lower precision than float64."""
    if not isinstance(result, torch.Tensor):
        hint = "Return the tensor that is minimised."
        if isinstance(result, dict):
            hint = f"Return one of its entries ({', '.join(map(str, result))})."
        elif isinstance(result, (tuple, list)):
            hint = "Return the one that is minimised."
        kind = type(result).__name__
        raise AuditError(f"The loss must return a scalar tensor; it returned a {kind}. {hint}")
    if result.numel() != 1:
        raise AuditError(
            f"The loss must return one number; it returned a tensor of shape "
            f"{tuple(result.shape)}. Sum or average it."
        )
    if result.is_complex():
        raise AuditError(
            f"The loss must return a real number; it returned {result.dtype}. Return its real part."
        )
    number = float(result.detach())
    if not math.isfinite(number):
        raise AuditError(
            "The loss must be finite at ordinary points (pixels in [0.01, 0.99], |mu| and |logvar| "
            f"at most 3); it is {number}. If its fourth argument is a variance or a standard "
            "deviation, set the order: x, recon, mu, std (or var). If it expects other pixels, set "
            "their range."
        )
    return number, result.dtype != torch.float64


def audit(
    loss: Loss,
    *,
    x_shape: tuple[int, ...],
    latent_dim: int,
    batch_size: int = 4,
    decoded_shape: tuple[int, ...] | None = None,
    order: Order | None = None,
    pixel_range: tuple[float, float] | None = None,
) -> Audit:
    """Audit a function ``loss(x, decoded, mu, logvar) -> scalar tensor`` by calling it.

    The loss is also called with doubled batch size, latent dimension and image width, if it accepts
    them. It gets copies of the arguments, so it may change them.

    Args:
        loss: the function.
        x_shape: shape of one image; ``x`` has the shape ``(batch_size, *x_shape)``.
        latent_dim: latent dimensions; ``mu`` and ``logvar`` have the shape ``(batch_size,
            latent_dim)``.
        batch_size: images per call.
        decoded_shape: shape of one decoding; by default the shape of an image.
        order: the arguments of the loss. Each entry is a key of `ROLES` or a number to pass
            unchanged, such as ``("recon", "x", "mu", "std", 0.5)``. By default the order follows
            from the parameter names, or is ``("x", "recon", "mu", "logvar")`` if they are unknown.
        pixel_range: lowest and highest pixel value that the loss expects. By default [0, 1] is
            tried first, then [-1, 1].

    Returns:
        The audit; its ``verdict`` is the result in one sentence.

    Raises:
        AuditError: the loss raises an error, does not return a scalar tensor, is not finite at
            ordinary points, or returns different values in equal calls.
    """
    if not callable(loss):
        raise AuditError(f"The loss must be a function of x, decoded, mu, logvar; got {loss!r}.")
    shapes = _shapes(x_shape, decoded_shape, latent_dim, batch_size)
    probe, form, sign_ok = _recognise(loss, shapes, order, pixel_range)
    _note_gradients(probe, shapes)
    doubled: dict[str, Form | None] = {}
    x, decoded = ((*shape[:-1], 2 * shape[-1]) for shape in (shapes.x, shapes.decoded))
    for size, larger in {
        "batch": replace(shapes, batch=2 * shapes.batch),
        "latent": replace(shapes, latents=2 * shapes.latents),
        "image": replace(shapes, x=x, decoded=decoded),
    }.items():
        try:
            doubled[size] = _measure(probe, larger)[0]
        except AuditError:
            doubled[size] = None
    refused = [size for size, each in doubled.items() if each is None]
    if refused:
        probe.notes.append(f"The loss refused another size of: {', '.join(refused)}.")
    largest = max(float(_residual(point).abs().max()) for point in _recon_points(shapes))
    return judge(
        form,
        doubled,
        kl_sign_ok=sign_ok,
        notes=tuple(dict.fromkeys(probe.notes)),
        probed=f"up to {largest * probe.width:.2g}, pixels from {probe.pixel_range[0]:g} to "
        f"{probe.pixel_range[1]:g}",
    )


def _shapes(
    x_shape: tuple[int, ...], decoded_shape: tuple[int, ...] | None, latents: int, batch: int
) -> _Shapes:
    decoded = x_shape if decoded_shape is None else decoded_shape
    for shape in (x_shape, decoded):
        if not isinstance(shape, tuple):
            raise AuditError(f"A shape must be a tuple such as (1, 28, 28); got {shape!r}.")
    for size in (*x_shape, *decoded, latents, batch):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise AuditError(
                f"Shapes, latent_dim and batch_size must be whole numbers >= 1; got {size!r}."
            )
    if not x_shape or math.prod(x_shape) != math.prod(decoded):
        raise AuditError(
            f"decoded must have one number per pixel of x; the shapes are {decoded} and {x_shape}. "
            "For a decoder with two outputs, write a function that takes both, and set its order: "
            "x, recon, recon_logvar, mu, logvar."
        )
    return _Shapes(tuple(x_shape), tuple(decoded), latents, batch)


def _order_of(loss: Loss, given: Order | None) -> tuple[tuple[str | float, ...], str]:
    """Return the argument order of a loss, and a note if its parameter names determined it."""
    if given is not None:
        order = tuple(given)
        unknown = [each for each in order if isinstance(each, str) and each not in ROLES]
        missing = [role for role in ("x", "recon", "mu") if order.count(role) != 1]
        if unknown or missing:
            raise AuditError(
                f"order must contain x, recon and mu once each, and otherwise any of "
                f"{', '.join(ROLES)} or numbers; got {', '.join(map(str, order))}."
            )
        return order, ""
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):
        return DEFAULT_ORDER, ""
    names = [
        each.name
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        and each.default is each.empty
    ]
    roles = tuple(_ROLE_OF.get(name.strip("_").lower(), "") for name in names)
    known = all(roles) and len(set(roles)) == len(roles) and {"x", "recon", "mu"} <= set(roles)
    if known and len(roles) >= len(DEFAULT_ORDER):
        note = f"It is called as loss({', '.join(roles)}), by the names of its parameters."
        return roles, "" if roles == DEFAULT_ORDER else note
    if len(names) > len(DEFAULT_ORDER):
        raise AuditError(
            f"The order must be set for a loss with {len(names)} arguments ({', '.join(names)}): "
            "give a number for each further argument, for example x,recon,mu,logvar,1.0."
        )
    return DEFAULT_ORDER, ""


def _open(
    loss: Loss, shapes: _Shapes, order: tuple[str | float, ...], pixels: tuple[float, float]
) -> _Probe:
    """Return a probe in float64, or in float32 for a loss that contains float32 tensors."""
    point = _ordinary(shapes)
    probe = _Probe(loss, torch.float64, order, pixels)
    try:
        probe(point)
    except AuditError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        probe = _Probe(loss, torch.float32, order, pixels, single=True)
        try:
            probe(point)
        except AuditError:
            raise error from error.__cause__
        probe.notes.append("The loss refuses float64: it was probed in float32, to fewer digits.")
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
    return probe


def _recognise(
    loss: Loss, shapes: _Shapes, order: Order | None, pixel_range: tuple[float, float] | None
) -> tuple[_Probe, Form, bool | None]:
    """Return the probe and form of a loss, and whether its KL is minimised.

    If the reconstruction term is not recognised, the loss is called again with the decoding before
    the image, and with pixels from -1 to 1.
    """
    chosen, note = _order_of(loss, order)
    low, high = pixels = pixel_range or (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise AuditError(f"pixel_range must be two finite numbers, low < high; got {pixels}.")
    attempts = [(chosen, pixels, note)]
    if order is None:
        swapped = tuple({"x": "recon", "recon": "x"}.get(str(each), each) for each in chosen)
        called = f"loss({', '.join(map(str, swapped))})"
        attempts.append((swapped, pixels, f"It is recognised if it is called as {called}."))
    if pixel_range is None:
        attempts.append((chosen, (-1.0, 1.0), "It is recognised for pixels from -1 to 1."))
    first: tuple[_Probe, Form, bool | None] | AuditError | None = None
    for names, seen, said in attempts:
        try:
            probe = _open(loss, shapes, names, seen)
            form, sign_ok = _measure(probe, shapes)
        except AuditError as error:
            first = first or error
            continue
        if form.family is not None or form.fault:
            probe.notes += [said] if said else []
            return probe, form, sign_ok
        first = first or (probe, form, sign_ok)
    if not isinstance(first, tuple):
        raise first or AuditError("The loss could not be called.")
    return first


def _note_gradients(probe: _Probe, shapes: _Shapes) -> None:
    """Add notes on arguments changed in place, missing gradients, and trainable tensors."""
    result, leaves, arguments = probe.tensor(_ordinary(shapes))
    names = [role for role in probe.order if isinstance(role, str)]
    changed = [
        name
        for name, leaf, left in zip(names, leaves, arguments, strict=True)
        if not torch.equal(leaf.detach(), left.detach())
    ]
    if changed:
        probe.notes.append(f"The loss changes its arguments in place: {', '.join(changed)}.")
    if not result.requires_grad:
        probe.notes.append("No gradient passes through the loss: it cannot be trained.")
        return
    for tensor in _trainable(result):
        if all(tensor is not leaf for leaf in leaves):
            shape = "a number" if tensor.numel() == 1 else f"of shape {tuple(tensor.shape)}"
            now = f", now {float(tensor.detach().reshape(-1)[0]):.4g}" * (tensor.numel() == 1)
            probe.notes.append(
                f"The loss holds a trainable tensor ({shape}{now}): this audit is for its present "
                "value, and training changes it."
            )
    inputs = [leaf for leaf in leaves if leaf.requires_grad]
    gradients = torch.autograd.grad(result.sum(), inputs, allow_unused=True)
    trained = [name for name in names if name != "x"]
    cut = [n for n, g in zip(trained, gradients, strict=True) if g is None or not bool(g.any())]
    if cut:
        probe.notes.append(f"No gradient reaches {', '.join(cut)}.")


def _trainable(result: Tensor) -> list[Tensor]:
    """Return the leaf tensors in the autograd graph of a result."""
    found: list[Tensor] = []
    seen: set[Any] = set()
    stack: list[Any] = [result.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack += [parent for parent, _ in node.next_functions]
    return found


# --- the points -------------------------------------------------------------------------------


def _random(shapes: _Shapes, seed: int) -> _Point:
    """Return random numbers in [-1, 1] in the shapes of the arguments."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(shapes.batch, *shape, generator=generator, dtype=torch.float64) - 1

    x, decoded = draw(*shapes.x), draw(*shapes.decoded)
    return _Point(x, decoded, draw(shapes.latents), draw(shapes.latents), draw(*shapes.decoded))


def _reference(shapes: _Shapes) -> _Point:
    """Return grey images with small residuals, and a posterior equal to the prior N(0, I)."""
    noise = _random(shapes, 0)
    x = 0.5 + 0.25 * noise.x
    decoded = x.reshape(noise.decoded.shape) + 0.05 * noise.decoded
    zero = torch.zeros_like(noise.mu)
    return _Point(x, decoded, zero, zero.clone(), -2 + noise.spread)


def _ordinary(shapes: _Shapes) -> _Point:
    """Return a point at which no term of a loss is near zero."""
    noise = _random(shapes, 99)
    return replace(_reference(shapes), mu=2 * noise.mu, logvar=noise.logvar)


def _recon_points(shapes: _Shapes) -> Iterator[_Point]:
    """Yield images and decodings with residuals from 0 to 0.98, also in a part of the pixels."""
    start = _reference(shapes)
    decoded_shape = start.decoded.shape
    for seed, (contrast, level, size) in enumerate(
        [(0.25, 0.5, 0.02), (0.1, 0.5, 0.1), (0.2, 0.5, 0.2), (0.05, 0.5, 0.4), (0.05, 0.2, 0.1),
         (0.05, 0.8, 0.1), (0.02, 0.35, 0.25), (0.4, 0.5, 0.02)]
    ):  # fmt: skip
        noise = _random(shapes, seed)
        x = level + contrast * noise.x
        decoded = x.reshape(decoded_shape) + size * noise.decoded
        yield replace(start, x=x, decoded=decoded, spread=-2 + noise.spread)
    for seed, level in ((20, 0.05), (21, 0.05), (22, 0.95)):
        noise = _random(shapes, seed)
        x = level + 0.04 * noise.x
        yield replace(start, x=x, decoded=1 - level + 0.04 * noise.decoded)
    for part in _parts(start.decoded):
        decoded = start.decoded.clone()
        flat = decoded.view(shapes.batch, -1)
        flat[part] = 0.9 - 0.5 * flat[part]
        yield replace(start, decoded=decoded)


def _parts(values: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield the first row, the first half, the last half, and every second one of the columns."""
    columns = math.prod(values.shape[1:])
    everything = slice(None)
    yield slice(0, 1), everything
    yield everything, slice(0, (columns + 1) // 2)
    yield everything, slice(columns // 2, None)
    yield everything, slice(0, None, 2)


def _latent_points(shapes: _Shapes) -> Iterator[_Point]:
    """Yield posteriors that differ from the prior in mu, in logvar, in both, or in a part."""
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


def _fit(features: list[list[float]], values: list[float]) -> tuple[list[float], float]:
    """Return the weights of a least-squares fit, and its largest error relative to the range."""
    matrix, wanted = np.asarray(features), np.asarray(values)
    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    weights = np.linalg.lstsq(matrix / size, wanted, rcond=None)[0] / size
    spread = float(np.ptp(wanted)) or 1.0
    return weights.tolist(), float(np.abs(matrix @ weights - wanted).max()) / spread


def _measure(probe: _Probe, shapes: _Shapes) -> tuple[Form, bool | None]:
    """Return the form of the loss at one size, and whether its KL is minimised."""
    form, sign_ok = _with_kl(_recon_form(probe, shapes), probe, shapes)
    if not form.fault and not _separable(probe, shapes):
        form = replace(form, fault="the reconstruction and the latent term are not simply added")
    balanced = form.beta is None or math.isclose(form.beta, 1.0, rel_tol=1e-3)
    if form.own_scale is not None and form.constant and not balanced:
        # With a weight and a constant another family can have this shape, as Cauchy and t_5 do.
        shape = f"the shape of a {form.family} with other weights and constants"
        form = replace(form, family=None, unknown=f"its reconstruction term has {shape}")
    return form, sign_ok


def _separable(probe: _Probe, shapes: _Shapes) -> bool:
    """Return whether the latent term is independent of images and decodings."""
    other = list(_recon_points(shapes))[3]
    noise = _random(shapes, 99)
    rises = [
        probe(replace(point, mu=2 * noise.mu, logvar=noise.logvar)) - probe(point)
        for point in (_reference(shapes), other)
    ]
    floor = (1e-6 if probe.single else 1e-12) * abs(probe(other))
    return math.isclose(*rises, rel_tol=probe.misfit, abs_tol=floor)


def _recon_form(probe: _Probe, shapes: _Shapes) -> Form:
    """Return the form without its KL: the first known reconstruction term that fits."""
    points = list(_recon_points(shapes))
    values = [probe(point) for point in points]
    form = Form(shapes.sizes, None, None, None, pixel_width=probe.width)
    if np.ptp(values) <= 1e-12 * max(map(abs, values)):
        fault = "the reconstruction does not enter"
        return replace(form, constant=values[0], fault=fault)
    for template in _templates(probe, points):
        scale, errors = None, template.errors
        if template.at_scale is not None:
            scale = _best_scale(template.at_scale, values)
            errors = template.at_scale(scale)
        (weight, constant), misfit = _fit([[error, 1.0] for error in errors], values)
        # Families with a fitted scale are similar to each other, so their fit must be closer.
        allowed = probe.misfit * (1.0 if scale is None else 1e-2)
        if misfit >= max(allowed, template.slack):
            continue
        floor = probe.misfit * 1e-4 * float(np.ptp(values))
        if scale is not None:  # a large scale and its constant are known less exactly
            floor = 1e-3 * max(map(abs, values))
        if abs(constant) < floor:
            constant = 0.0
        if template.note:
            probe.notes.append(template.note)
        fault = template.fault
        if weight < 0:
            fault = "the reconstruction error has the wrong sign, so it is maximised"
        return replace(
            form,
            family=template.family,
            recon_weight=None if template.fault else weight,
            constant=constant,
            own_scale=scale,
            fault=fault,
        )
    known = "a squared error, an absolute error or the -log p(x|z) of a family of vaebench"
    return replace(
        form,
        unknown=f"its reconstruction term is not {known} with one weight for all pixels, at the "
        f"residuals that were probed. If it expects other pixels, another order of arguments or a "
        f"second output of the decoder, give pixel_range (--range) and order (--order)",
    )


def _with_kl(form: Form, probe: _Probe, shapes: _Shapes) -> tuple[Form, bool | None]:
    """Add the KL to a form; return also whether the KL is minimised."""
    points = list(_latent_points(shapes))
    start = probe(_reference(shapes))
    rises = [probe(point) - start for point in points]
    if max(map(abs, rises)) <= (1e-7 if probe.single else 1e-13) * abs(start):
        return replace(form, kl_weight=0.0), None
    weights, misfit = _fit([_kl_features(point) for point in points], rises)
    if misfit < probe.misfit:
        return _weigh_kl(form, weights)
    halved = [_kl_features(replace(point, logvar=2 * point.logvar)) for point in points]
    if _fit(halved, rises)[1] < probe.misfit:
        return _faulty(form, "its KL reads logvar as the log of the standard deviation"), None
    unknown = (
        "its latent term is not built from mu^2, exp(logvar) and logvar with one weight each, as "
        "the KL to a normal prior is (free bits, a capacity target, a sampled KL and MMD have "
        "this form)"
    )
    return replace(form, unknown="; ".join(filter(None, [unknown, form.unknown]))), None


def _faulty(form: Form, fault: str) -> Form:
    return replace(form, fault="; ".join(filter(None, [fault, form.fault])))


def _kl_features(point: _Point) -> list[float]:
    """Return the three parts of KL(N(mu, exp(logvar)) || N(0, I)); they are 0 at the prior."""
    parts = (point.mu.square(), point.logvar.exp() - 1, -point.logvar)
    return [0.5 * float(part.sum(dim=1).mean()) for part in parts]


def _weigh_kl(form: Form, weights: list[float]) -> tuple[Form, bool | None]:
    """Add the weight of the KL to a form, from the weights of its three parts.

    For a prior with another scale, the first two parts are divided by the variance of the prior.
    """
    largest = max(map(abs, weights))
    mu, variance, log = (0.0 if abs(w) < 1e-6 * largest else w for w in weights)
    if not math.isclose(mu, variance, rel_tol=1e-3) or mu * log <= 0:
        fault = (
            "its latent term weighs mu^2/2, exp(logvar)/2 and -logvar/2 by "
            f"{mu:.4g}, {variance:.4g} and {log:.4g}, where a KL has one weight for all three"
        )
        return _faulty(form, fault), min(mu, variance, log) >= 0
    form = replace(form, kl_weight=log)
    if log < 0:
        return _faulty(form, "the KL has the wrong sign, so it is maximised"), False
    scale = 1.0 if math.isclose(mu, log, rel_tol=1e-3) else math.sqrt(log / mu)
    return replace(form, prior_scale=scale), True


# --- the reconstruction terms that are known -------------------------------------------------


@dataclass(frozen=True)
class _Template:
    """A known reconstruction term and its value at each point, a mean over images.

    For a family whose scale is not a weight, ``at_scale`` returns the values for a scale.
    """

    family: str
    errors: list[float]
    note: str = ""
    fault: str = ""
    slack: float = 0.0
    at_scale: Callable[[float], list[float]] | None = None


def _residual(point: _Point) -> Tensor:
    return point.x.flatten(1) - point.decoded.flatten(1)


def _total(values: list[Tensor]) -> list[float]:
    """Return the sum over pixels as a mean over images, for each point."""
    return [float(value.sum(dim=1).mean()) for value in values]


def _best_scale(at_scale: Callable[[float], list[float]], values: list[float]) -> float:
    """Return the scale of a family with the smallest error of the fit."""

    def misfit(log_scale: float) -> float:
        return _fit([[error, 1.0] for error in at_scale(math.exp(log_scale))], values)[1]

    grid = np.linspace(math.log(1e-3), math.log(10), 36)
    best = int(np.argmin([misfit(each) for each in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(misfit, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    return math.exp(found.x)


def _templates(probe: _Probe, points: list[_Point]) -> Iterator[_Template]:
    """Yield the known reconstruction terms, in the order in which they are tried."""
    images = [point.x.flatten(1) for point in points]
    residuals = [probe.width * _residual(point) for point in points]
    seen = [probe.seen(point.decoded.flatten(1)) for point in points]
    squashed = [x - each.sigmoid() for x, each in zip(images, seen, strict=True)]

    def nll(name: str, targets: list[Tensor], *parameters: list[Tensor]) -> list[float]:
        make: Any = family(name)
        rows = zip(targets, zip(*parameters, strict=True), strict=True)
        return [-float(make(*of).log_prob(target).mean()) for target, of in rows]

    centred = [0 * residual for residual in residuals]
    if "recon_logvar" in probe.order:
        scales = [probe.width * (point.spread.flatten(1) / 2).exp() for point in points]
        yield _Template("predicted", nll("gaussian", residuals, centred, scales))
    yield _Template("gaussian", _total([r.square() for r in residuals]))
    yield _Template("laplace", _total([r.abs() for r in residuals]))
    logits = "It takes the decoder's output as logits (a sigmoid is inside the loss)."
    odds = [point.decoded.flatten(1).logit() for point in points]
    for name in ("bernoulli", "continuous_bernoulli"):
        yield _Template(name, nll(name, images, odds))
        yield _Template(name, nll(name, images, seen), note=logits)
    yield _Template("gaussian", _total([r.square() for r in squashed]), note=logits)
    yield _Template("laplace", _total([r.abs() for r in squashed]), note=logits)
    for name in ("logistic", "student_t"):

        def at_scale(scale: float, name: str = name) -> list[float]:
            return nll(name, residuals, centred, [each + scale for each in centred])

        yield _Template(name, [], at_scale=at_scale)
    fault = (
        "sigma is fitted to the same {} that is scored (the reconstruction term is the logarithm "
        "of the squared error), so no decoder is fixed and the number bounds no log p(x) of new "
        "images"
    )
    sums = [residual.square().sum(dim=1) for residual in residuals]
    logs = {"image": [float(each.log().mean()) for each in sums],
            "batch": [math.log(float(each.mean())) for each in sums]}  # fmt: skip
    for of, errors in logs.items():
        yield _Template("gaussian", errors, fault=fault.format(of), slack=MISFIT_LOGARITHM)
