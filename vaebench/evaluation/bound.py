"""The terms of the ELBO on a split, from one pass over its images."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.axes import LIKELIHOODS
from vaebench.grid.cell import Cell
from vaebench.model.objective import draw
from vaebench.model.posterior import Delta
from vaebench.model.prior import numbers_per_code
from vaebench.model.vae import VAE
from vaebench.records.schema import Metric, Note

_NOT_FINITE = Note.of("not_finite", "the value is not finite")
_NO_KL = Note.of("no_density", "a delta posterior has no density: its KL is infinite")


@dataclass(frozen=True)
class Scores:
    """The results of one pass over a split of ``N`` images, float64.

    Attributes:
        reconstruction_error: -E_q log p(x|z) of each image, nats, ``(N,)``.
        at_mean: -log p(x|z) at the posterior mean, nats, ``(N,)``.
        kl: KL(q(z|x) || p(z)), nats, ``(N,)``; None for a delta posterior.
        discrete_error: -E_q log P(grey levels|z), nats, ``(N,)``; None without grey levels.
        squared_error: mean over pixels of (x - E[x|z])^2, ``(N,)``.
        kl_per_dimension: mean over images of the KL of each dimension, nats, ``(Z,)``; None for a
            delta posterior and for a mixture prior.
        code_variance: variance over images of E_q[z], ``(Z,)``.
        prior_variance: variance of p(z), ``(Z,)``.
        second_moment: mean over images of E_q[z^2], ``(Z,)``.
        nonzero: mean number of entries of E_q[z] whose size is above 0.001 of the prior scale.
        scale_squared: mean of sigma^2 over pixels and images, pixel^2; None without a scale.
    """

    reconstruction_error: Tensor
    at_mean: Tensor
    kl: Tensor | None
    discrete_error: Tensor | None
    squared_error: Tensor
    kl_per_dimension: Tensor | None
    code_variance: Tensor
    prior_variance: Tensor
    second_moment: Tensor
    nonzero: float
    scale_squared: float | None


class _Moments:
    """Variance over images of a vector, summed in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._shift: Tensor | None = None
        self._sum = self._square = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        if self._shift is None:
            # A shift near the mean keeps the difference of the two sums accurate.
            self._shift = rows.mean(0)
        centred = rows - self._shift
        self._sum = self._sum + centred.sum(0)
        self._square = self._square + centred.square().sum(0)
        self.count += len(rows)

    def variance(self) -> Tensor:
        """Return the variance with the factor 1/N."""
        mean = self._sum / self.count
        return (self._square / self.count - mean.square()).clamp(min=0)


@torch.no_grad()
def score(vae: VAE, cell: Cell, split: EvaluationSplit, generator: torch.Generator) -> Scores:
    """Score every image of a split with ``cell.eval_samples`` codes per image.

    Args:
        vae: a pack of one.
        cell: its design.
        split: the images.
        generator: source of all random numbers, on the CPU.

    Raises:
        ValueError: if the split is empty.
    """
    if len(split) == 0:
        raise ValueError("a split must have at least one image; it is empty")
    device, discrete = vae.prior_scale.device, why_no_bits(cell, split) is None
    columns: dict[str, list[Tensor]] = defaultdict(list)  # one number per image
    sums: dict[str, list[Tensor]] = defaultdict(list)  # one sum over images per batch
    scale_squares: list[float] = []
    codes = _Moments()
    size = numbers_per_image(cell, split.pixels.shape[1], split.levels, cell.eval_samples)
    for rows in split.batches(size):
        x = split.pixels[rows].to(device).unsqueeze(0)
        noise = torch.randn(
            (1, cell.eval_samples, x.shape[1], cell.latent_dim), generator=generator
        ).to(device, x.dtype)
        drawn = draw(vae, x, noise)
        q, observed, means = drawn.posterior, drawn.observed, drawn.posterior.mean[0]
        pixels, at_mean = x.unsqueeze(1), vae.decode(q.mean.unsqueeze(1))
        columns["reconstruction_error"].append(drawn.reconstruction_error()[0])
        columns["at_mean"].append(-at_mean.log_prob(pixels)[0, 0])
        columns["squared_error"].append((pixels - observed.mean).square().mean((1, 3))[0])
        if not isinstance(q, Delta):
            columns["kl"].append(drawn.kl()[0])
        if discrete:
            mass = observed.double().log_mass(split.edges(rows, device))
            columns["discrete_error"].append(-mass.mean(1)[0])
        codes.add(means)
        sums["second_moment"].append((means.square() + q.variance[0]).double().sum(0))
        sums["nonzero"].append((means.abs() > 1e-3 * cell.prior_scale).double().sum())
        if (per_dimension := drawn.kl_per_dimension()) is not None:
            sums["kl_per_dimension"].append(per_dimension[0].double().sum(0))
        if observed.scale is not None:
            scale_squares.append(float(observed.scale.double().square().mean()) * x.shape[1])
    joined = {name: torch.cat([part.double().cpu() for part in columns[name]]) for name in columns}
    mean = {name: torch.stack(parts).cpu().sum(0) / len(split) for name, parts in sums.items()}
    return Scores(
        reconstruction_error=joined["reconstruction_error"],
        at_mean=joined["at_mean"],
        kl=joined.get("kl"),
        discrete_error=joined.get("discrete_error"),
        squared_error=joined["squared_error"],
        kl_per_dimension=mean.get("kl_per_dimension"),
        code_variance=codes.variance().cpu(),
        prior_variance=vae.prior().deviation.double().square().cpu(),
        second_moment=mean["second_moment"],
        nonzero=float(mean["nonzero"]),
        scale_squared=sum(scale_squares) / len(split) if scale_squares else None,
    )


def numbers_per_image(cell: Cell, dimension: int, levels: int | None, samples: int = 1) -> int:
    """Return the size of the largest tensor that one image needs.

    Args:
        cell: the design.
        dimension: pixels per image.
        levels: number of grey levels, or None.
        samples: codes per image.
    """
    numbers = LIKELIHOODS[cell.likelihood].numbers_per_pixel(levels)
    factor = cell.latent_dim**2 if cell.posterior == "full" else 0
    return max(samples * max(dimension * numbers, numbers_per_code(cell)), factor)


def why_no_bits(cell: Cell, split: EvaluationSplit) -> Note | None:
    """Return why bits_per_dim is not defined for a cell, or None if it is defined."""
    if cell.posterior == "delta":
        text = "a delta posterior has no KL, so it has no ELBO and no code length"
        return Note.of("no_density", text)
    if split.index is None:
        text = "the data are real-valued: they have no grey levels"
        return Note.of("no_levels", text)
    if split.levels is not None and not LIKELIHOODS[cell.likelihood].fits(split.levels):
        text = (
            f"a Bernoulli gives no probability to {split.levels} grey levels: binarise the "
            "pixels, or use another family"
        )
        return Note.of("no_probability", text)
    return None


def mean_and_se(name: str, values: Tensor | Note) -> Metric:
    """Return the mean over images with its standard error, or the reason why there are no values.

    One image has no standard error.
    """
    if isinstance(values, Note):
        return Metric.absent(name, values)
    count = len(values)
    if count == 0:
        return Metric.absent(name, Note.of("too_few_images", "too few images"))
    mean = float(values.mean())
    if not math.isfinite(mean):
        return Metric.absent(name, _NOT_FINITE)
    se = float(values.std() / math.sqrt(count)) if count > 1 else None
    return Metric.measured(name, mean, n=count, se=se)


def bound_metrics(cell: Cell, split: EvaluationSplit, scores: Scores) -> dict[str, Metric]:
    """Convert the scores of a split to metrics."""
    columns: dict[str, Tensor | Note] = {
        "reconstruction_error": scores.reconstruction_error,
        "reconstruction_error_at_mean": scores.at_mean,
        "mse": scores.squared_error,
        "kl": _NO_KL if scores.kl is None else scores.kl,
        **_by_image(cell, split, scores),
    }
    metrics = {name: mean_and_se(name, values) for name, values in columns.items()}
    active = float((scores.code_variance > 0.01 * scores.prior_variance).sum())
    metrics["active_units"] = Metric.measured("active_units", active, n=len(scores.at_mean))
    if scores.kl is None:
        metrics["nonzero_codes"] = Metric.measured(
            "nonzero_codes", scores.nonzero, n=len(scores.at_mean)
        )
    metrics["sigma_fitted"] = _sigma(cell, scores)
    return metrics


def selection_metrics(
    cell: Cell,
    test: tuple[EvaluationSplit, Scores],
    valid: tuple[EvaluationSplit, Scores] | None = None,
) -> dict[str, Metric]:
    """Return scores on the images that choose a design, and on other images that report it.

    With a validation split, its images choose a design and all test images report it. Without one,
    the first, third, fifth, ... test image choose and the others report. The images of a split are
    shuffled with a fixed seed, so both halves are random samples.

    Args:
        cell: the design.
        test: the test split and its scores.
        valid: the validation split and its scores, if there is one.
    """
    held_out = _by_image(cell, *test)
    selection = held_out if valid is None else _by_image(cell, *valid)
    if valid is None:
        selection = {n: v if isinstance(v, Note) else v[0::2] for n, v in held_out.items()}
        held_out = {n: v if isinstance(v, Note) else v[1::2] for n, v in held_out.items()}
    parts = (("selection", selection), ("held_out", held_out))
    return {
        f"{name}_{part}": mean_and_se(f"{name}_{part}", values)
        for part, scores in parts
        for name, values in scores.items()
    }


def _by_image(cell: Cell, split: EvaluationSplit, scores: Scores) -> dict[str, Tensor | Note]:
    """Return the ELBO and the bits per dimension of each image, or why there are none."""
    no_bits = why_no_bits(cell, split)
    if scores.kl is None:
        return {"elbo": _NO_KL, "bits_per_dim": no_bits or _NO_KL}
    elbo = -(scores.reconstruction_error + scores.kl)
    if no_bits is not None or scores.discrete_error is None:
        return {"elbo": elbo, "bits_per_dim": no_bits or _NOT_FINITE}
    nats = scores.discrete_error + scores.kl
    return {"elbo": elbo, "bits_per_dim": nats / (split.pixels.shape[1] * math.log(2))}


def _sigma(cell: Cell, scores: Scores) -> Metric:
    if scores.scale_squared is None:
        reason = Note.of("no_scale", f"the {cell.likelihood} likelihood has no scale")
        return Metric.absent("sigma_fitted", reason)
    if not math.isfinite(scores.scale_squared):
        return Metric.absent("sigma_fitted", _NOT_FINITE)
    return Metric.measured("sigma_fitted", math.sqrt(scores.scale_squared))
