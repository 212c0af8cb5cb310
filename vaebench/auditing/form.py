"""The common form of a VAE loss, and the sentence that it earns.

Every loss read here is brought to one form, per image and averaged over the batch:

    loss = recon_weight * R + kl_weight * KL + constant

with R the sum over pixels of a squared error, an absolute error or a cross-entropy. For a squared
error, dividing by ``kl_weight`` gives SSE / (2 sigma^2) + KL with sigma^2 = kl_weight /
(2 recon_weight): the negative ELBO of a Gaussian decoder with that sigma (Doersch, arXiv
1606.05908, section 2.4), less its constant D/2 log(2 pi sigma^2). For an absolute error the scale
of the Laplace decoder is kl_weight / recon_weight and the constant is D log(2 scale).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Audit", "Form", "Sizes", "judge", "normaliser"]

FAMILY_NAMES = {
    "gaussian": "Gaussian",
    "laplace": "Laplace",
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "continuous Bernoulli",
}
SCALE_FAMILIES = ("gaussian", "laplace")
# A loss may hold an epsilon or compute in float32: weights closer than this are the same weight.
RELATIVE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Sizes:
    """Where a loss was looked at: pixels of an image, latent dimensions, images in a batch."""

    pixels: int
    latents: int
    batch: int


@dataclass(frozen=True)
class Form:
    """A loss at one size: ``recon_weight * R + kl_weight * KL + constant``, a mean over the batch.

    ``family`` is a key of ``FAMILY_NAMES``; ``fault`` is empty, or a clause that says why the loss
    is not of this form at all (then the weights that could not be read are None). ``constant`` is
    the loss where R and KL are zero; KL is to N(0, prior_scale^2 I).
    """

    sizes: Sizes
    family: str | None
    recon_weight: float | None
    kl_weight: float | None
    constant: float = 0.0
    prior_scale: float = 1.0
    fault: str = ""

    @property
    def beta(self) -> float | None:
        """Weight of the KL against -log p(x|z) at unit scale: sigma = 1 for a Gaussian decoder."""
        if self.kl_weight is None or not self.recon_weight or self.family is None:
            return None
        unit = 2.0 if self.family == "gaussian" else 1.0
        return self.kl_weight / (unit * self.recon_weight)

    @property
    def sigma(self) -> float | None:
        """Scale of the decoder whose ELBO this is; None for a family without a scale."""
        if self.beta is None or self.beta < 0 or self.family not in SCALE_FAMILIES:
            return None
        return math.sqrt(self.beta) if self.family == "gaussian" else self.beta


@dataclass(frozen=True)
class Audit:
    """What a loss is, as a decoder: its scale, its beta and how far it is from an ELBO.

    ``sigma`` is in units of the pixel (a Laplace decoder's scale for an absolute error; None where
    there is none). ``beta_at_unit_sigma`` is the weight of the KL if one insists on sigma = 1 (for
    a cross-entropy, which has no scale, the weight of the KL). ``depends_on_*`` says whether these
    move with the batch size, the latent dimension or the number of pixels; None is "not told".
    ``missing_constant`` is in nats per image: what must be added to get the negative ELBO.
    ``is_elbo`` is true when the number printed is a negative ELBO in nats, per image or summed
    over the batch, up to that constant.
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
    is_elbo: bool
    scale: str
    verdict: str
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The audit for a terminal: a line a field, then the verdict and the notes."""
        shown = {name: _show(getattr(self, name)) for name in _LABELS}
        if self.sigma is not None:
            shown["sigma"] = _figures(self.sigma)
        rows = [(_LABELS[name], value) for name, value in shown.items()]
        width = max(len(label) for label, _ in rows)
        lines = [f"{label:<{width}}  {value}" for label, value in rows]
        return "\n".join([*lines, "", self.verdict, *(f"- {note}" for note in self.notes)])


_LABELS = {
    "family": "decoder",
    "sigma": "effective sigma",
    "beta_at_unit_sigma": "beta at unit sigma",
    "kl_sign_ok": "sign of the KL right",
    "kl_reduction": "KL",
    "recon_reduction": "reconstruction",
    "depends_on_batch": "moves with batch size",
    "depends_on_latent": "moves with latent dimension",
    "depends_on_image": "moves with image size",
    "missing_constant": "missing constant, nats/image",
    "is_elbo": "is a negative ELBO",
    "scale": "scale",
}


def _show(value: object) -> str:
    if value is None:
        return "not told"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Six figures, and no more digits than that: 720.448, 0.00025, 1.23935."""
    return f"{value:.6g}"


_SPELT_OUT = 1e6


def _figures(sigma: float) -> str:
    """Three figures (1.24, 78.4, 0.0443), or three decimals where these are exact (1.000)."""
    if sigma < _SPELT_OUT and math.isclose(sigma, round(sigma, 3), rel_tol=1e-7):
        return f"{sigma:.3f}"
    return f"{sigma:#.3g}".rstrip(".")


def normaliser(family: str, scale: float | None, pixels: int) -> float:
    """-log p(x|z) of a perfect reconstruction, nats per image: the constant usually dropped."""
    if family == "gaussian" and scale:
        return 0.5 * pixels * math.log(2 * math.pi * scale**2)
    if family == "laplace" and scale:
        return pixels * math.log(2 * scale)
    return 0.0


def _close(value: float, other: float, slack: float = 0.0) -> bool:
    return math.isclose(value, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=slack)


@dataclass(frozen=True)
class _Reading:
    """What follows from a form and its doubles, before any sentence is written."""

    form: Form
    doubled: Mapping[str, Form | None]

    def moves(self, size: str) -> bool | None:
        """Whether the balance of reconstruction and KL changes when ``size`` is doubled."""
        other = self.doubled.get(size)
        if other is None or other.fault or other.beta is None or self.form.beta is None:
            return None
        return not _close(other.beta, self.form.beta)

    def growth(self, weight: str, size: str) -> float | None:
        """The factor by which a weight grows when ``size`` doubles."""
        other = self.doubled.get(size)
        now = getattr(self.form, weight)
        then = getattr(other, weight) if other is not None else None
        return then / now if now and then is not None else None

    @property
    def is_bound(self) -> bool:
        """Whether some multiple of the loss is the ELBO of one model, constants aside."""
        form = self.form
        return not form.fault and bool(form.kl_weight) and not self.moves("batch")

    @property
    def per_image(self) -> float:
        """The loss is this many times the per-image bound, once the batch is accounted for."""
        weight = self.form.kl_weight or 0.0
        return weight / self.form.sizes.batch if self.summed_over_batch else weight

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
        """The sigma whose normaliser the loss carries, if it carries one."""
        family, weight = self.form.family, self.form.recon_weight
        if family not in SCALE_FAMILIES or not weight or weight < 0:
            return None
        weight = weight / self.unit
        sigma = math.sqrt(0.5 / weight) if family == "gaussian" else 1 / weight
        held = self.form.constant / self.unit
        # It may be 0: at a sigma of 1/sqrt(2 pi), or a Laplace scale of a half, none is missing.
        known = normaliser(family, sigma, self.form.sizes.pixels)
        carries = _close(held - self.prior_constant, known, 1e-9)
        return sigma if carries else None

    @property
    def unit(self) -> float:
        return float(self.form.sizes.batch) if self.summed_over_batch else 1.0

    @property
    def prior_constant(self) -> float:
        """KL(N(0, I) || N(0, prior_scale^2 I)), which the constant was read at."""
        scale = self.form.prior_scale
        return self.form.sizes.latents * (math.log(scale) + 0.5 / scale**2 - 0.5)

    @property
    def missing_constant(self) -> float | None:
        """What is to be added to the loss, per image, to have the negative ELBO; nats."""
        form = self.form
        if not self.is_bound or not form.kl_weight or form.family not in FAMILY_NAMES:
            return None
        if self.declared_sigma is not None:
            return 0.0
        known = normaliser(form.family, form.sigma, form.sizes.pixels) + self.prior_constant
        missing = known - form.constant / form.kl_weight
        return 0.0 if abs(missing) < 1e-5 * max(1.0, abs(known)) else missing


def _reduction(reading: _Reading, weight: str, own: str, inside: str) -> str:
    """In words how a term is reduced over its own dimensions and over the batch."""
    value = getattr(reading.form, weight)
    if not value:
        return "not told" if value is None else "absent"
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
        return f"not told {place}"
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
) -> Audit:
    """The audit of a loss from its form and its form at doubled ``batch``, ``latent``, ``image``.

    A missing double (the loss refused that size) leaves "not told" in the answer.
    """
    reading = _Reading(form, doubled)
    is_elbo, verdict = _verdict(reading)
    return Audit(
        family=form.family,
        sigma=None if form.fault else form.sigma,
        beta_at_unit_sigma=None if form.fault else form.beta,
        kl_sign_ok=kl_sign_ok,
        kl_reduction=_reduction(reading, "kl_weight", "latent", "latents"),
        recon_reduction=_reduction(reading, "recon_weight", "image", "pixels"),
        depends_on_batch=reading.moves("batch"),
        depends_on_latent=reading.moves("latent"),
        depends_on_image=reading.moves("image"),
        missing_constant=reading.missing_constant,
        is_elbo=is_elbo,
        scale=reading.scale if reading.is_bound else "not an ELBO on any scale",
        verdict=verdict,
        notes=(*_notes(reading), *notes),
    )


def _verdict(reading: _Reading) -> tuple[bool, str]:
    form = reading.form
    if form.fault:
        return False, f"This is not an ELBO: {form.fault}."
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
    if form.family in SCALE_FAMILIES:
        return _scale_verdict(reading)
    return _unscaled_verdict(reading)


def _decoder(reading: _Reading) -> str:
    form = reading.form
    name = FAMILY_NAMES[form.family or ""]
    if form.sigma is None:
        return f"a {name} decoder with beta = {_number(form.beta or 0.0)}"
    word = "sigma" if form.family == "gaussian" else "scale"
    return f"a {name} decoder with {word} = {_figures(form.sigma)}"


def _scale_verdict(reading: _Reading) -> tuple[bool, str]:
    form, declared = reading.form, reading.declared_sigma
    is_elbo = _close(reading.per_image, 1.0)
    if is_elbo:
        return True, (
            f"This is the negative ELBO of {_decoder(reading)}, {reading.scale}; "
            f"{_constants(reading)}."
        )
    if declared is not None:
        return False, (
            f"This is not an ELBO but a beta-VAE objective: -log p(x|z) of sigma = "
            f"{_figures(declared)} with every constant, and a KL weighted by "
            f"{_number(reading.per_image)}. It has the same minimum as the ELBO of "
            f"{_decoder(reading)}."
        )
    return False, (
        f"This is not an ELBO in nats, but {_number(reading.per_image)} times the negative ELBO "
        f"of {_decoder(reading)}, {reading.scale.partition(', ')[2]}: the same minimum, another "
        f"number. Divided by {_number(form.kl_weight or 0.0)}, {_constants(reading)}."
    )


def _unscaled_verdict(reading: _Reading) -> tuple[bool, str]:
    form = reading.form
    beta = form.beta or 0.0
    name = FAMILY_NAMES[form.family or ""]
    if not _close(beta, 1.0):
        return False, (
            f"This is not an ELBO: against the {name} -log p(x|z), which has no sigma to absorb "
            f"it, the KL is weighted by {_number(beta)} (a beta-VAE objective)."
        )
    if not _close(reading.per_image, 1.0):
        return False, (
            f"This is not an ELBO in nats, but {_number(reading.per_image)} times the negative "
            f"ELBO of a {name} decoder: the same minimum, another number."
        )
    where = " for pixels that are 0 or 1" if form.family == "bernoulli" else ""
    return True, (
        f"This is the negative ELBO of a {name} decoder{where}, {reading.scale}; "
        f"{_constants(reading)}."
    )


def _constants(reading: _Reading) -> str:
    missing = reading.missing_constant
    if not missing:
        return "every constant is there"
    form = reading.form
    latents = form.sizes.latents
    held = form.constant / (form.kl_weight or 1.0) - reading.prior_constant
    without_minus_one = missing + latents / 2
    if abs(without_minus_one) < 1e-5 * latents:
        return f"the KL's -1 a latent is left out, which makes it {latents / 2:g} nats too large"
    if abs(held) < 1e-5 * max(1.0, abs(missing)):
        return f"the constant {_number(missing)} nats is left out"
    return f"its constants are off by {_number(missing)} nats (to be added)"


def _notes(reading: _Reading) -> Iterator[str]:
    form = reading.form
    word = "beta" if form.family not in SCALE_FAMILIES else "sigma"
    places = {"batch": "batch size", "latent": "latent dimension", "image": "number of pixels"}
    for size, place in places.items():
        if reading.moves(size):
            other = reading.doubled[size]
            yield _movement(form, other, word, place) if other is not None else ""
    if form.family == "gaussian" and not form.fault and (form.sigma or 0.0) > 0.5:
        yield (
            "Pixels in [0, 1] have a standard deviation of at most 0.5: "
            "a larger sigma explains images as noise, and latents collapse."
        )
    if form.family == "bernoulli":
        yield (
            "On grey pixels a cross-entropy is not a likelihood: what it lacks is the continuous "
            "Bernoulli's normaliser, which moves with the decoder's output."
        )
    if not _close(form.prior_scale, 1.0):
        yield f"The KL is to a prior N(0, s^2 I) with s = {_number(form.prior_scale)}."


def _movement(form: Form, other: Form, word: str, place: str) -> str:
    def value(which: Form) -> str:
        if word == "beta":
            return _number(which.beta or 0.0)
        # Both with as many digits, whether three decimals happen to be exact or not.
        return f"{which.sigma or 0.0:#.3g}".rstrip(".")

    return (
        f"The {word} moves with the {place}: {value(form)} here, {value(other)} at twice the "
        f"{place}."
    )
