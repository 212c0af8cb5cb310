"""The common form of VAE losses, and the verdict on a loss in this form.

Each loss is written in one form, per image and averaged over the batch:

    loss = recon_weight * R + kl_weight * KL + constant

where R is the sum over pixels of a squared error, an absolute error or a -log p(x|z). For a squared
error, division by ``kl_weight`` gives SSE / (2 sigma^2) + KL with sigma^2 = kl_weight /
(2 recon_weight). This is the negative ELBO of a Gaussian decoder with that sigma (Doersch, arXiv
1606.05908, section 2.4) without its constant D/2 log(2 pi sigma^2). For an absolute error the scale
of the Laplace decoder is kl_weight / recon_weight, and the constant is D log(2 scale).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

DECODERS = {
    "gaussian": "Gaussian decoder",
    "laplace": "Laplace decoder",
    "bernoulli": "Bernoulli decoder",
    "continuous_bernoulli": "continuous Bernoulli decoder",
    "logistic": "logistic decoder",
    "student_t": "Student t decoder (5 degrees of freedom)",
    "predicted": "Gaussian decoder with a predicted variance",
}
FREE_SCALE = ("gaussian", "laplace")
"""Families whose scale is determined by the weights, because R does not depend on it."""
RELATIVE_TOLERANCE = 1e-4
"""Relative difference below which weights are equal; losses use an epsilon or float32."""


@dataclass(frozen=True)
class Sizes:
    """Sizes at which a loss is evaluated: pixels per image, latent dimensions, images."""

    pixels: int
    latents: int
    batch: int


@dataclass(frozen=True)
class Form:
    """A loss at one size, ``recon_weight * R + kl_weight * KL + constant``, averaged over images.

    Attributes:
        sizes: sizes of the images, latents and batch.
        family: key of `DECODERS`; None if the reconstruction term is not recognised.
        recon_weight, kl_weight: the weights; None if they are not determined.
        constant: value of the loss for R = KL = 0.
        prior_scale: scale of the prior N(0, prior_scale^2 I) in the KL.
        own_scale: scale inside R, for a family with a scale that is not in `FREE_SCALE`.
        fault: the reason why the loss is not an ELBO, as a clause; empty if there is none.
        unknown: the part of the loss that is not recognised, as a clause; empty if there is none.
        pixel_width: width of the range of pixels that the loss expects.
    """

    sizes: Sizes
    family: str | None
    recon_weight: float | None
    kl_weight: float | None
    constant: float = 0.0
    prior_scale: float = 1.0
    own_scale: float | None = None
    fault: str = ""
    unknown: str = ""
    pixel_width: float = 1.0

    @property
    def beta(self) -> float | None:
        """Weight of the KL relative to -log p(x|z) with scale 1, which is sigma for a Gaussian."""
        if self.kl_weight is None or not self.recon_weight or self.family is None:
            return None
        unit = 2.0 if self.family == "gaussian" else 1.0
        return self.kl_weight / (unit * self.recon_weight)

    @property
    def sigma(self) -> float | None:
        """Scale of the decoder for which the loss is an ELBO; None for a family without a scale."""
        if self.family not in FREE_SCALE:
            return self.own_scale
        if self.beta is None or self.beta < 0:
            return None
        return math.sqrt(self.beta) if self.family == "gaussian" else self.beta


@dataclass(frozen=True)
class Audit:
    """The result of an audit: the decoder that a loss implies, its scale, and a verdict.

    Attributes:
        family: family of p(x|z); None if it is not recognised.
        sigma: sigma of a Gaussian decoder in pixel units of the loss, or the scale of another
            family; None if there is no scale.
        beta_at_unit_sigma: weight of the KL if sigma is assumed to be 1. For a family whose scale
            is not determined by the weights, this is the weight of the KL.
        kl_sign_ok: whether the KL is minimised.
        kl_reduction, recon_reduction: how each term is summed or averaged, in words.
        depends_on_batch, depends_on_latent, depends_on_image: whether the ratio of the two weights
            changes with the batch size, the latent dimension or the number of pixels; None if it
            is not known.
        missing_constant: constant in nats per image whose addition gives the negative ELBO.
        is_elbo: whether the loss is a negative ELBO in nats apart from that constant, per image or
            summed over the batch; None if the loss is not recognised.
        scale: whether the loss is per image, and a mean or a sum over the batch, in words.
        verdict: the result in one sentence.
        notes: further observations.
        probed: range of residuals at which the loss was called; empty for a described loss.
    """

    family: str | None
    sigma: float | None
    beta_at_unit_sigma: float | None
    kl_sign_ok: bool | None
    kl_reduction: str
    recon_reduction: str
    depends_on_batch: bool | None
    depends_on_latent: bool | None
    depends_on_image: bool | None
    missing_constant: float | None
    is_elbo: bool | None
    scale: str
    verdict: str
    notes: tuple[str, ...] = ()
    probed: str = ""

    def text(self) -> str:
        """Return the audit as text: one line per field, followed by the verdict and the notes."""
        shown = {name: _show(getattr(self, name)) for name in _LABELS}
        if self.sigma is not None:
            shown["sigma"] = _figures(self.sigma)
        width = max(map(len, _LABELS.values()))
        lines = [f"{_LABELS[name]:<{width}}  {value}" for name, value in shown.items() if value]
        return "\n".join([*lines, "", self.verdict, *(f"- {note}" for note in self.notes)])


_LABELS = {
    "family": "decoder",
    "sigma": "effective sigma",
    "beta_at_unit_sigma": "beta at unit sigma",
    "kl_sign_ok": "KL has the right sign",
    "kl_reduction": "KL",
    "recon_reduction": "reconstruction",
    "depends_on_batch": "depends on batch size",
    "depends_on_latent": "depends on latent dimension",
    "depends_on_image": "depends on image size",
    "missing_constant": "missing constant, nats/image",
    "is_elbo": "is a negative ELBO",
    "scale": "scale",
    "probed": "residuals probed",
}


def _show(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Format a number with up to six digits: 720.448, 0.00025, 1.23935."""
    return f"{value:.6g}"


def _figures(sigma: float) -> str:
    """Format sigma with three digits (1.24, 78.4), or with three decimals if exact (1.000)."""
    if sigma < 1e6 and math.isclose(sigma, round(sigma, 3), rel_tol=1e-7):
        return f"{sigma:.3f}"
    return f"{sigma:#.3g}".rstrip(".")


def normaliser(family: str, scale: float | None, pixels: int) -> float:
    """Return -log p(x|z) of a perfect reconstruction, in nats per image.

    Many losses omit this constant.
    """
    if family == "gaussian" and scale:
        return 0.5 * pixels * math.log(2 * math.pi * scale**2)
    if family == "laplace" and scale:
        return pixels * math.log(2 * scale)
    return 0.0


def _close(value: float, other: float, slack: float = 0.0) -> bool:
    return math.isclose(value, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=slack)


@dataclass(frozen=True)
class _Reading:
    """Properties of a loss that follow from its form at one size and at doubled sizes."""

    form: Form
    doubled: Mapping[str, Form | None]

    def moves(self, size: str) -> bool | None:
        """Return whether the ratio of the two weights changes when a size is doubled."""
        other = self.doubled.get(size)
        if other is None or other.fault or other.unknown:
            return None
        betas = other.beta, self.form.beta
        return None if betas[0] is None or betas[1] is None else not _close(betas[0], betas[1])

    def growth(self, weight: str, size: str) -> float | None:
        """Return the factor by which a weight changes when a size is doubled."""
        other = self.doubled.get(size)
        now = getattr(self.form, weight)
        then = getattr(other, weight) if other is not None else None
        return then / now if now and then is not None else None

    @property
    def is_bound(self) -> bool:
        """Whether a multiple of the loss is the ELBO of one model, apart from constants."""
        form = self.form
        return not (form.fault or form.unknown) and bool(form.kl_weight) and not self.moves("batch")

    @property
    def per_image(self) -> float:
        """Weight of the KL of one image."""
        return (self.form.kl_weight or 0.0) / self.unit

    @property
    def summed_over_batch(self) -> bool:
        growth = self.growth("kl_weight", "batch")
        if growth is not None:
            return _close(growth, 2.0)
        batch = self.form.sizes.batch
        return batch > 1 and _close(self.form.kl_weight or 0.0, batch)

    @property
    def scale(self) -> str:
        place = "summed over the batch" if self.summed_over_batch else "averaged over the batch"
        if _close(self.per_image, 1.0):
            return f"per image, {place}"
        return f"{_number(self.per_image)} times per image, {place}"

    @property
    def declared_sigma(self) -> float | None:
        """Scale whose normalising constant the loss contains; None if it contains none."""
        family, weight = self.form.family, self.form.recon_weight
        if family not in FREE_SCALE or not weight or weight < 0:
            return None
        weight = weight / self.unit
        sigma = math.sqrt(0.5 / weight) if family == "gaussian" else 1 / weight
        held = self.form.constant / self.unit - self.prior_constant
        # The constant is 0 for sigma = 1/sqrt(2 pi) and for a Laplace scale of 1/2.
        contained = _close(held, normaliser(family, sigma, self.form.sizes.pixels), 1e-9)
        return sigma if contained else None

    @property
    def unit(self) -> float:
        """Number of images over which the loss is summed."""
        return float(self.form.sizes.batch) if self.summed_over_batch else 1.0

    @property
    def prior_constant(self) -> float:
        """KL(N(0, I) || N(0, prior_scale^2 I)), which the constant of the form includes."""
        scale = self.form.prior_scale
        return self.form.sizes.latents * (math.log(scale) + 0.5 / scale**2 - 0.5)

    @property
    def missing_constant(self) -> float | None:
        """Constant in nats per image whose addition to the loss gives the negative ELBO."""
        form = self.form
        if not self.is_bound or not form.kl_weight or form.family not in DECODERS:
            return None
        if self.declared_sigma is not None:
            return 0.0
        known = normaliser(form.family, form.sigma, form.sizes.pixels) + self.prior_constant
        missing = known - form.constant / form.kl_weight
        return 0.0 if abs(missing) < 1e-5 * max(1.0, abs(known)) else missing


def _reduction(reading: _Reading, weight: str, own: str, inside: str) -> str:
    """Describe how a term is reduced over its own dimensions and over the batch."""
    value = getattr(reading.form, weight)
    if not value:
        return "unknown" if value is None else "absent"
    over = {1.0: f"sum over {inside}", 0.5: f"mean over {inside}"}
    batch = {1.0: "mean over the batch", 2.0: "sum over the batch", 0.5: "divided by the batch too"}
    words = [
        _nearest(over, reading.growth(weight, own), f"over {inside}"),
        _nearest(batch, reading.growth(weight, "batch"), "over the batch"),
    ]
    if words[0].startswith("sum") and words[1].startswith("divided"):
        words[1] = "mean over the batch, divided by the batch again"
    return ", ".join(words)


def _nearest(words: Mapping[float, str], growth: float | None, place: str) -> str:
    if growth is None:
        return f"unknown {place}"
    for factor, word in words.items():
        if _close(growth, factor):
            return word
    return f"neither sum nor mean {place}"


def judge(
    form: Form,
    doubled: Mapping[str, Form | None],
    *,
    kl_sign_ok: bool | None = True,
    notes: tuple[str, ...] = (),
    probed: str = "",
) -> Audit:
    """Return the audit of a loss from its form and its forms at doubled sizes.

    Args:
        form: the form at one size.
        doubled: the forms at the doubled size ``batch``, ``latent`` or ``image``; None if unknown.
        kl_sign_ok: whether the KL is minimised.
        notes: further observations.
        probed: range of residuals at which the loss was called.
    """
    reading = _Reading(form, doubled)
    is_elbo, verdict = _verdict(reading)
    clear = not (form.fault or form.unknown)
    return Audit(
        family=form.family,
        sigma=form.sigma if clear else None,
        beta_at_unit_sigma=form.beta if clear else None,
        kl_sign_ok=kl_sign_ok,
        kl_reduction=_reduction(reading, "kl_weight", "latent", "latents"),
        recon_reduction=_reduction(reading, "recon_weight", "image", "pixels"),
        depends_on_batch=reading.moves("batch"),
        depends_on_latent=reading.moves("latent"),
        depends_on_image=reading.moves("image"),
        missing_constant=reading.missing_constant,
        is_elbo=is_elbo,
        scale=reading.scale if reading.is_bound else "unknown" if is_elbo is None else "no ELBO",
        verdict=verdict,
        notes=(*_notes(reading), *notes),
        probed=probed,
    )


def _verdict(reading: _Reading) -> tuple[bool | None, str]:
    form = reading.form
    if form.fault:
        return False, f"This is not an ELBO: {form.fault}."
    if form.unknown:
        return None, f"Not recognised: {form.unknown}."
    if not form.kl_weight:
        return False, (
            "This is not an ELBO: the KL does not enter. It trains a plain autoencoder, "
            "the limit of sigma -> 0."
        )
    if reading.moves("batch"):
        return False, (
            f"This is not the ELBO of one model: at batch size {form.sizes.batch} it trains "
            f"{_decoder(reading)}, at any other batch size another one."
        )
    if form.family not in FREE_SCALE and not _close(form.beta or 0.0, 1.0):
        return False, (
            f"This is not an ELBO: against the -log p(x|z) of {_decoder(reading, beta=False)}, "
            f"whose scale cannot absorb it, the KL is weighted by {_number(form.beta or 0.0)} "
            f"(a beta-VAE objective)."
        )
    if _close(reading.per_image, 1.0):
        where = " for pixels that are 0 or 1" if form.family == "bernoulli" else ""
        return True, (
            f"This is the negative ELBO of {_decoder(reading, beta=False)}{where}, "
            f"{reading.scale}; {_constants(reading)}."
        )
    if reading.declared_sigma is not None:
        return False, (
            f"This is not an ELBO but a beta-VAE objective: -log p(x|z) of sigma = "
            f"{_figures(reading.declared_sigma)} with every constant, and a KL weighted by "
            f"{_number(reading.per_image)}. It has the same minimum as the ELBO of "
            f"{_decoder(reading)}."
        )
    return False, (
        f"This is not an ELBO in nats, but {_number(reading.per_image)} times the negative ELBO "
        f"of {_decoder(reading, beta=False)}, {reading.scale.partition(', ')[2]}: it has the same "
        f"minimum but another value. Divided by {_number(reading.per_image)}, "
        f"{_constants(reading)}."
    )


def _decoder(reading: _Reading, *, beta: bool = True) -> str:
    """Describe the decoder with its scale, or with beta if the family has no scale."""
    form = reading.form
    name = f"a {DECODERS[form.family or '']}"
    if form.sigma is not None:
        word = "sigma" if form.family == "gaussian" else "scale"
        return f"{name} with {word} = {_figures(form.sigma)}"
    return f"{name} with beta = {_number(form.beta or 0.0)}" if beta else name


def _constants(reading: _Reading) -> str:
    missing = reading.missing_constant
    if not missing:
        return "every constant is included"
    form = reading.form
    latents = form.sizes.latents
    held = form.constant / (form.kl_weight or 1.0) - reading.prior_constant
    without_minus_one = missing + latents / 2
    if abs(without_minus_one) < 1e-5 * latents:
        return f"the KL lacks its -1 per latent, which makes it {latents / 2:g} nats too large"
    if abs(held) < 1e-5 * max(1.0, abs(missing)):
        return f"the constant {_number(missing)} nats is left out"
    return f"its constants are off by {_number(missing)} nats (to be added)"


def _notes(reading: _Reading) -> Iterator[str]:
    form = reading.form
    word = "sigma" if form.family in FREE_SCALE else "beta"
    places = {"batch": "batch size", "latent": "latent dimension", "image": "number of pixels"}
    for size, place in places.items():
        other = reading.doubled.get(size)
        if other is not None and reading.moves(size):
            # Both numbers have the same number of digits, even if three decimals are exact.
            here, there = (
                _number(each.beta or 0.0) if word == "beta" else f"{each.sigma:#.3g}".rstrip(".")
                for each in (form, other)
            )
            yield f"The {word} depends on the {place}: {here} here, {there} at twice the {place}."
    width = form.pixel_width
    if form.sigma is not None and not form.fault and width != 1.0:
        yield (
            f"Its pixels have a range of {_number(width)}: for pixels in [0, 1] the scale is "
            f"{_figures(form.sigma / width)}."
        )
    if form.family == "gaussian" and not form.fault and (form.sigma or 0.0) > 0.5 * width:
        yield (
            "Pixels in [0, 1] have a standard deviation of at most 0.5: "
            "a larger sigma explains images as noise, and latents collapse."
        )
    if form.family == "bernoulli":
        yield (
            "On grey pixels a cross-entropy is not a likelihood: it lacks the normaliser of the "
            "continuous Bernoulli, which depends on the decoder's output."
        )
    if not _close(form.prior_scale, 1.0):
        yield f"The KL is to a prior N(0, s^2 I) with s = {_number(form.prior_scale)}."
