"""The bug zoo: common errors in VAE code, each with its effect in nats on the 8x8 digits.

Small VAEs are trained on the digits. A specimen is one error: it computes one number correctly and
with the error, from the same models and the same noise. The number is an ELBO or an
importance-weighted bound in nats per test image; higher is better. For an error in a report it is
the printed number; for an error in the training loss it is the unweighted ELBO of the trained
model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from vaebench.data.pixels import TrainingPixels, evaluation_pixels
from vaebench.data.sources import ImageData, load
from vaebench.errors import AuditError
from vaebench.grid.cell import Cell
from vaebench.model.likelihoods.bernoulli import Bernoulli
from vaebench.model.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaebench.model.likelihoods.gaussian import Gaussian
from vaebench.model.objective import Draw, draw, importance_weighted_bound
from vaebench.model.vae import VAE
from vaebench.training.loop import Generators, train

SIGMA, LATENTS, BATCH, CODES = 0.15, 8, 64, 50
PIXELS = 64
# A wrong reduction in training is a wrong weight of the KL, relative to the reconstruction.
BETAS = {"right": 1.0, "mean over pixels": PIXELS, "mean over latents": 1 / LATENTS,
         "divided by the batch": 1 / BATCH}  # fmt: skip


class Subject:
    """The trained models and the images on which the errors are measured.

    ``gaussian`` is a pack of VAEs with a fixed sigma that differ in the weight of the KL, in the
    order of ``BETAS``. ``bernoulli`` is trained with cross-entropy on grey pixels.

    Args:
        seed: seed of the models.
        epochs: training epochs.
    """

    def __init__(self, seed: int = 0, epochs: int = 40) -> None:
        self.seed = seed
        data = load("digits")
        shared = {
            "dataset": "digits", "latent_dim": LATENTS, "hidden": (128,), "epochs": epochs,
            "batch_size": BATCH, "learning_rate": 2e-3, "seed": seed,
        }  # fmt: skip
        gaussian = [
            Cell.model_validate({**shared, "likelihood": "gaussian", "sigma": SIGMA, "beta": beta})
            for beta in BETAS.values()
        ]
        bernoulli = [Cell.model_validate({**shared, "likelihood": "bernoulli"})]
        self.gaussian = _trained(gaussian, data, seed)
        self.bernoulli = _trained(bernoulli, data, seed)
        self.train = evaluation_pixels(data.train.images, data.levels, "none", False).double()
        self.test = evaluation_pixels(data.test.images, data.levels, "none", False).double()

    def draws(self, vae: VAE, x: Tensor) -> Draw:
        """Score images ``(B, D)`` with ``CODES`` codes per image, always with the same noise."""
        members = len(vae.cells)
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(1, CODES, len(x), LATENTS, generator=generator, dtype=x.dtype)
        with torch.no_grad():
            return draw(vae, x.expand(members, -1, -1), noise.expand(members, -1, -1, -1))

    @cached_property
    def scored(self) -> Draw:
        """Scores of the Gaussian pack on the test images."""
        return self.draws(self.gaussian, self.test)

    @cached_property
    def right(self) -> Tensor:
        """ELBO of the correctly trained Gaussian VAE for each test image, ``(B,)``."""
        return self.scored.elbo()[0]

    def residuals(self, x: Tensor) -> Tensor:
        """Return x - E[x|z] of the correctly trained VAE, ``(S, B, D)``."""
        vae = self.gaussian.member(0)
        with torch.no_grad():
            mean = vae.decode(self.draws(vae, x).z).mean
        return (x - mean)[0]


def _trained(cells: Sequence[Cell], data: ImageData, seed: int) -> VAE:
    """Train a pack on the digits from one seed; return it in float64 for evaluation."""

    def source(stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(10 * seed + stream)

    vae = VAE(cells, data.shape, data.levels, [source(0) for _ in cells], SIGMA)
    pixels = TrainingPixels(data.train.images, data.levels, "none", False)
    train(vae, cells, pixels, [Generators(source(1), source(2), source(3)) for _ in cells])
    return vae.double().eval()


# --- the specimens: (right, wrong) ------------------------------------------------------------


Measure = Callable[[Subject], tuple[float, float]]


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _constants_dropped(subject: Subject) -> tuple[float, float]:
    right = _mean(subject.right)
    return right, right + PIXELS / 2 * math.log(2 * math.pi * SIGMA**2)


def _trained_with(name: str) -> Measure:
    member = list(BETAS).index(name)

    def measure(subject: Subject) -> tuple[float, float]:
        elbo = subject.scored.elbo().mean(dim=1)
        return float(elbo[0]), float(elbo[member])

    return measure


def _cross_entropy(subject: Subject) -> tuple[float, float]:
    """The correct number uses the density of the continuous Bernoulli for grey pixels."""
    drawn = subject.draws(subject.bernoulli, subject.test)
    with torch.no_grad():
        observed = subject.bernoulli.decode(drawn.z)
    if not isinstance(observed, Bernoulli):
        raise TypeError(f"the cross-entropy VAE decodes to a Bernoulli, not to {observed!r}")
    density = ContinuousBernoulli(observed.logits).log_prob(subject.test)
    right = _mean(density.mean(dim=1) - drawn.kl())
    return right, _mean(drawn.elbo())


def _elbo_with_sigma(residuals: Tensor, sigma: Tensor, kl: Tensor) -> float:
    """Return the ELBO with another sigma, ``(1 or B, 1)``, from residuals ``(S, B, D)``."""
    observed = Gaussian(torch.zeros_like(residuals), sigma)
    return _mean(observed.log_prob(residuals).mean(dim=0) - kl)


def _fitted_sigma(dimensions: tuple[int, ...]) -> Measure:
    def measure(subject: Subject) -> tuple[float, float]:
        kl = subject.scored.kl()[0]
        residuals = subject.residuals(subject.test)
        honest = subject.residuals(subject.train).square().mean().sqrt()
        fitted = residuals.square().mean(dim=dimensions, keepdim=True).sqrt()
        return (
            _elbo_with_sigma(residuals, honest.view(1, 1, 1), kl),
            _elbo_with_sigma(residuals, fitted, kl),
        )

    return measure


def _posterior_mean(subject: Subject) -> tuple[float, float]:
    scored = subject.scored
    with torch.no_grad():
        at_mean = subject.gaussian.decode(scored.posterior.mean.unsqueeze(1))
        log_likelihood = at_mean.log_prob(subject.test)[0, 0]
    return _mean(subject.right), _mean(log_likelihood - scored.kl()[0])


def _weights_turned_round(subject: Subject) -> tuple[float, float]:
    """The error is a softmax of the loss, not of its negative: bad codes get large weights."""
    log_weights = subject.scored.log_weights()[:1]
    loss = -log_weights
    turned = -(loss.softmax(dim=1) * loss).sum(dim=1)
    return _mean(importance_weighted_bound(log_weights)), _mean(turned)


def _batch_means(subject: Subject) -> tuple[float, float]:
    elbo = subject.right
    batches = [elbo[start : start + BATCH] for start in range(0, len(elbo), BATCH)]
    return _mean(elbo), _mean(torch.stack([batch.mean() for batch in batches]))


@dataclass(frozen=True)
class Specimen:
    """One common error.

    Attributes:
        name, error: name and description.
        where: whether the error is in the report or in the training loss.
        seen_in: code bases that had the error.
        measure: returns the correct and the wrong number.
    """

    name: str
    error: str
    where: Literal["report", "training"]
    seen_in: str
    measure: Measure


@dataclass(frozen=True)
class ZooCase(Specimen):
    """A measured error: ``right`` and ``wrong`` in nats per image; higher is better."""

    right: float
    wrong: float

    @property
    def effect(self) -> float:
        """wrong - right in nats per image; a positive effect makes the model look better."""
        return self.wrong - self.right


SPECIMENS: tuple[Specimen, ...] = (
    Specimen(
        "constants-dropped", f"D/2 log(2 pi sigma^2) left out, sigma = {SIGMA}", "report",
        "pythae, PyTorch-VAE, disentangling-vae", _constants_dropped,
    ),
    Specimen(
        "mean-for-sum", "reconstruction averaged over pixels, KL summed", "training",
        "PyTorch-VAE, sigma-vae-pytorch (mse_vae)", _trained_with("mean over pixels"),
    ),
    Specimen(
        "kl-mean-over-latents", "KL averaged over latent dimensions", "training",
        "lightning-bolts, disent", _trained_with("mean over latents"),
    ),
    Specimen(
        "kl-divided-by-batch", f"KL divided by the batch once too often ({BATCH})", "training",
        "pytorch/examples before PR 296", _trained_with("divided by the batch"),
    ),
    Specimen(
        "bce-on-grey", "cross-entropy on grey pixels read as -log p(x|z)", "report",
        "pytorch/examples, disentanglement_lib", _cross_entropy,
    ),
    Specimen(
        "sigma-from-test-set", "sigma fitted on the test images", "report",
        "sigma-vae-pytorch (on each test batch)", _fitted_sigma((0, 1, 2)),
    ),
    Specimen(
        "sigma-from-each-image", "sigma fitted on each test image by itself", "report",
        "BS-VAE (log arm)", _fitted_sigma((0, 2)),
    ),
    Specimen(
        "elbo-at-mean", "log p(x|z) at the posterior mean instead of at samples", "report",
        "", _posterior_mean,
    ),
    Specimen(
        "iwae-weights-turned", f"importance weights turned round, k = {CODES}", "report",
        "PyTorch-VAE (iwae, miwae)", _weights_turned_round,
    ),
    Specimen(
        "mean-of-batch-means", f"mean of means over batches of {BATCH}, the last one short",
        "report", "pythae", _batch_means,
    ),
)  # fmt: skip


def zoo(
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    subject: Subject | None = None,
    echo: Callable[[str], None] = lambda _: None,
) -> list[ZooCase]:
    """Measure the errors, all or the named ones, and return them in the order of the zoo.

    Args:
        names: names of specimens; None for all.
        seed: seed of the models, which are trained on the digits in a few seconds.
        subject: trained models to use instead.
        echo: called with each line of progress.

    Raises:
        AuditError: a name does not exist.
    """
    known = {specimen.name: specimen for specimen in SPECIMENS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise AuditError(f"A specimen must be one of {', '.join(known)}; got {', '.join(unknown)}.")
    chosen = [specimen for name, specimen in known.items() if names is None or name in names]
    if subject is None:
        echo("training two small VAEs on the digits ...")
        subject = Subject(seed)
    cases = []
    for place, specimen in enumerate(chosen, 1):
        echo(f"[{place}/{len(chosen)}] {specimen.name}")
        right, wrong = specimen.measure(subject)
        cases.append(ZooCase(**vars(specimen), right=right, wrong=wrong))
    return cases


def zoo_text(cases: Sequence[ZooCase]) -> str:
    """Return the measured errors as a text table, in nats per image."""
    head = ("specimen", "right", "wrong", "effect", "acts in", "error")
    rows = [
        (case.name, f"{case.right:.2f}", f"{case.wrong:.2f}", f"{case.effect:+.2f}", case.where,
         case.error)
        for case in cases
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if 1 <= place <= 3 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    note = (
        "Bounds in nats per test image of the 8x8 digits, higher is better. Errors of the report "
        "change the number printed; errors of training change the model, scored rightly."
    )
    return "\n".join([*lines, "", note])
