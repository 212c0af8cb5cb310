"""The registry: the values that axes can take, with their facts and one line about each.

The code behind the names is in `data`, `model` and `training`; nothing in this module needs torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from vaebench.grid.values import Check

Value = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | None
"""The type of the value of an axis."""


@dataclass(frozen=True)
class Takes:
    """What an axis takes, as the annotation of a field of `Cell`: a check and its meaning."""

    check: Check
    summary: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Call the check before the type is validated."""
        return core_schema.no_info_before_validator_function(self.check, handler(source))


@dataclass(frozen=True)
class Axis:
    """One axis: its meaning in one line, its default, and the check of its values."""

    name: str
    summary: str
    default: Value
    check: Check


@dataclass(frozen=True)
class LikelihoodChoice:
    """Properties of a likelihood family p(x|z), readable without torch.

    Attributes:
        name: the value of the axis ``likelihood``.
        summary: one line for ``vaebench list likelihoods``.
        kind: a density over pixel values or a probability mass.
        support: the values of x that have a probability: {0, 1}, [0, 1], the real line, the
            levels of the data, or the whole numbers from 0 upwards.
        implementation: ``module:class`` of the `vaebench.model.likelihoods.Likelihood`.
        log_peak: log-density at the mode with scale 1, in nats, where the family has a scale.
        has_mean_parameter: whether the family's mean is a parameter that ``pixel_clip`` can clip.
        exact_linear_twin: whether log p(x) of a linear VAE has a closed form (pPCA).
        numbers: how many numbers the decoder gives for a pixel, without a predicted scale; for
            support "levels" it is one for each level.
        unit: the unit of the log-likelihood.
    """

    name: str
    summary: str
    kind: Literal["density", "mass"]
    support: Literal["binary", "unit", "real", "levels", "counts"]
    implementation: str
    log_peak: float | None = None
    has_mean_parameter: bool = False
    exact_linear_twin: bool = False
    numbers: int = 1
    unit: str = "nats/image"

    @property
    def has_scale(self) -> bool:
        """Whether the family takes a sigma."""
        return self.log_peak is not None

    def fits(self, levels: int | None) -> bool:
        """Return whether the family is a likelihood for data with this number of grey levels."""
        return self.support != "binary" or levels == 2

    def numbers_per_pixel(self, levels: int | None) -> int:
        """Return how many decoder outputs give the location or the probabilities of one pixel.

        Args:
            levels: number of grey levels of the data; None for real-valued data.
        """
        return (levels or 1) if self.support == "levels" else self.numbers


@dataclass(frozen=True)
class DatasetChoice:
    """A built-in data set.

    `shape` is (channels, height, width); `levels` is the number of grey levels L, or None for
    real-valued pixels; `train_images` and `test_images` are the sizes of the complete splits.
    """

    name: str
    summary: str
    shape: tuple[int, int, int]
    levels: int | None
    train_images: int
    test_images: int


_FAMILIES = "vaebench.model.likelihoods"
_LIKELIHOODS = (
    LikelihoodChoice(
        "bernoulli",
        "probability mass on {0, 1}; on grey pixels it is a cross-entropy, not a likelihood",
        kind="mass",
        support="binary",
        implementation=f"{_FAMILIES}.bernoulli:Bernoulli",
        has_mean_parameter=True,
    ),
    LikelihoodChoice(
        "continuous_bernoulli",
        "density on [0, 1]: the Bernoulli formula with its normalising constant",
        kind="density",
        support="unit",
        implementation=f"{_FAMILIES}.continuous_bernoulli:ContinuousBernoulli",
        has_mean_parameter=True,
    ),
    LikelihoodChoice(
        "gaussian",
        "density on the real line; sigma is the standard deviation",
        kind="density",
        support="real",
        implementation=f"{_FAMILIES}.gaussian:Gaussian",
        log_peak=-0.5 * math.log(2 * math.pi),
        exact_linear_twin=True,
    ),
    LikelihoodChoice(
        "laplace",
        "density on the real line with absolute error; sigma is the scale b",
        kind="density",
        support="real",
        implementation=f"{_FAMILIES}.laplace:Laplace",
        log_peak=-math.log(2),
    ),
    LikelihoodChoice(
        "logistic",
        "density on the real line, heavier tails than gaussian; sigma is the scale s",
        kind="density",
        support="real",
        implementation=f"{_FAMILIES}.logistic:Logistic",
        log_peak=-math.log(4),
    ),
    LikelihoodChoice(
        "student_t",
        "density on the real line with 5 degrees of freedom; sigma is the scale",
        kind="density",
        support="real",
        implementation=f"{_FAMILIES}.student_t:StudentT",
        log_peak=math.log(8 / (3 * math.pi * math.sqrt(5))),
    ),
    LikelihoodChoice(
        "categorical",
        "probability mass over the grey levels, one class a level",
        kind="mass",
        support="levels",
        implementation=f"{_FAMILIES}.categorical:Categorical",
    ),
    LikelihoodChoice(
        "poisson",
        "probability mass over counts; the decoder gives the logarithm of the rate",
        kind="mass",
        support="counts",
        implementation=f"{_FAMILIES}.poisson:Poisson",
    ),
    LikelihoodChoice(
        "negative_binomial",
        "probability mass over counts that vary more than a Poisson's; mean and dispersion",
        kind="mass",
        support="counts",
        implementation=f"{_FAMILIES}.negative_binomial:NegativeBinomial",
        numbers=2,
    ),
)
LIKELIHOODS: Mapping[str, LikelihoodChoice] = {each.name: each for each in _LIKELIHOODS}

_DATASETS = (
    DatasetChoice(
        "digits",
        "1,797 handwritten digits of 8x8 pixels and 17 grey levels, carried by scikit-learn",
        shape=(1, 8, 8),
        levels=17,
        train_images=1_437,
        test_images=360,
    ),
    DatasetChoice(
        "mnist",
        "70,000 handwritten digits of 28x28 pixels and 256 grey levels",
        shape=(1, 28, 28),
        levels=256,
        train_images=60_000,
        test_images=10_000,
    ),
    DatasetChoice(
        "fashion-mnist",
        "70,000 pieces of clothing of 28x28 pixels and 256 grey levels",
        shape=(1, 28, 28),
        levels=256,
        train_images=60_000,
        test_images=10_000,
    ),
    DatasetChoice(
        "linear-gaussian",
        "real-valued 8x8 images drawn from a linear Gaussian model whose truth is known",
        shape=(1, 8, 8),
        levels=None,
        train_images=10_000,
        test_images=2_000,
    ),
)
DATASETS: Mapping[str, DatasetChoice] = {each.name: each for each in _DATASETS}

TORCHVISION_PREFIX = "torchvision:"
"""Prefix of the names of torchvision's data sets."""

# Other choices are a name and its meaning in one line.

ARCHITECTURES = {
    "mlp": "fully connected layers of the sizes in `hidden`, mirrored in the decoder",
    "conv": "strided convolutions, then the fully connected layers of `hidden`",
    "linear": "one affine map each way: a linear VAE, whose optimum is known",
    "tutorial": "an mlp whose log-variance reads the last layer before its activation",
}

INITIALIZATIONS = {
    "default": "torch's: uniform within 1/sqrt(fan in)",
    "sparse": "normal with deviation 0.1, about 15 weights an input; biases are zero",
}

BINARIZATIONS = {
    "none": "pixels keep their grey levels",
    "dynamic": "each pixel is 1 with its grey value as probability, drawn every visit",
    "static": "as dynamic, but drawn once from a fixed seed",
    "threshold": "a pixel is 1 from a grey value of 0.5 upwards",
}

SIGMA_KINDS = {
    "learned": "one scale shared by all pixels, a parameter of the model",
    "optimal": "the scale of highest likelihood given the residuals",
    "per_pixel": "a learned vector, one scale a pixel",
    "predicted": "the decoder's second output, one scale a pixel and image",
}

KINDS = {
    "auto": "real for float arrays N x D and for tables, else images",
    "images": "grey levels, or floats with a declared range",
    "real": "measurements in a unit of their own",
    "counts": "whole numbers from 0 upwards",
}

LAYOUTS = {"channels_last": "N x H x W x C", "channels_first": "N x C x H x W"}

POSTERIORS = {
    "diagonal": "Gaussian with independent latents",
    "full": "Gaussian with a full covariance, by its Cholesky factor",
    "delta": "a point: a plain autoencoder, sparse with `sparsity`",
}

PRIORS = {
    "normal": "N(0, s^2 I) with s = `prior_scale`",
    "mixture": "a mixture of Gaussians whose means, scales and weights are learned",
    "vamp": "the mean of q(z|u) over learned pseudo-inputs u (VampPrior)",
}

BETA_SCHEDULES = {"constant": "beta from the first step on"}

OBJECTIVES = {
    "elbo": "the evidence lower bound, averaged over `importance_samples` draws",
    "iwae": "the importance-weighted bound with `importance_samples` draws",
}

PRECISIONS = {
    "float32": "single precision throughout",
    "bfloat16": "autocast in training; evaluation stays in float32 or better",
}

OPTIMIZERS = {
    "adam": "torch's Adam; weight decay is added to the gradient",
    "adamw": "torch's AdamW; weight decay shrinks the weights directly",
    "sgd": "torch's SGD without momentum; weight decay is added to the gradient",
}

SCHEDULES = {
    "constant": "the learning rate stays as it is",
    "cosine": "half a cosine from the learning rate down to zero",
    "iwae": "Burda et al.'s staircase: 3^i epochs at 10^(-i/7) times the rate, i = 0..7",
}

ACTIVATIONS = {
    "relu": "max(0, x)",
    "tanh": "hyperbolic tangent",
    "gelu": "x times the normal distribution function",
    "silu": "x times the logistic function",
    "elu": "x, or exp(x) - 1 below zero",
}

DEVICES = {
    "cpu": "the processor",
    "cuda": "an NVIDIA GPU; `cuda:1` for the second",
    "mps": "an Apple GPU",
    "available": "a cell for each kind of device that is there",
}
