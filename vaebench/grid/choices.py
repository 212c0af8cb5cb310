"""What may be chosen, as plain data: one entry a choice, each with one line for `vaebench list`.

The functions behind the names live elsewhere (`data`, `model`, `training`) and are looked up there
by the name that is their key here; nothing in this module needs torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, TypeVar

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "BINARIZATIONS",
    "DATASETS",
    "DEVICES",
    "INITIALIZATIONS",
    "LIKELIHOODS",
    "OBJECTIVES",
    "POSTERIORS",
    "PRECISIONS",
    "SCHEDULES",
    "SIGMA_KINDS",
    "Choice",
    "DatasetChoice",
    "LikelihoodChoice",
]


@dataclass(frozen=True)
class Choice:
    """A value that an axis may take, and what it means in one line."""

    name: str
    summary: str


@dataclass(frozen=True)
class LikelihoodChoice:
    """A family p(x|z) of pixels and what it can do.

    `kind` tells a density over pixel values from a probability mass; `support` is where the family
    lives: {0, 1}, the unit interval, the real line, or the grey levels of the data. Only a family
    with `has_scale` takes a sigma; only one with `has_mean_parameter` takes a `pixel_clip`.
    """

    name: str
    summary: str
    kind: Literal["density", "mass"]
    support: Literal["binary", "unit", "real", "levels"]
    has_scale: bool
    has_mean_parameter: bool = False
    unit: str = "nats/image"


@dataclass(frozen=True)
class DatasetChoice:
    """A data set that is known by name.

    `shape` is (channels, height, width); `levels` the number of grey levels L, or None for
    real-valued pixels; `train_images` and `test_images` the sizes of the whole splits.
    """

    name: str
    summary: str
    shape: tuple[int, int, int]
    levels: int | None
    train_images: int
    test_images: int


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_Named)


def _registry(entries: Iterable[_Entry]) -> Mapping[str, _Entry]:
    return MappingProxyType({entry.name: entry for entry in entries})


LIKELIHOODS = _registry(
    (
        LikelihoodChoice(
            "bernoulli",
            "probability mass on {0, 1}; on grey pixels it is a cross-entropy and no likelihood",
            kind="mass",
            support="binary",
            has_scale=False,
            has_mean_parameter=True,
        ),
        LikelihoodChoice(
            "continuous_bernoulli",
            "density on [0, 1]: the Bernoulli formula with its normalising constant",
            kind="density",
            support="unit",
            has_scale=False,
            has_mean_parameter=True,
        ),
        LikelihoodChoice(
            "gaussian",
            "density on the real line; sigma is the standard deviation",
            kind="density",
            support="real",
            has_scale=True,
        ),
        LikelihoodChoice(
            "laplace",
            "density on the real line with absolute error; sigma is the scale b",
            kind="density",
            support="real",
            has_scale=True,
        ),
        LikelihoodChoice(
            "logistic",
            "density on the real line, heavier tails than gaussian; sigma is the scale s",
            kind="density",
            support="real",
            has_scale=True,
        ),
        LikelihoodChoice(
            "student_t",
            "density on the real line with 5 degrees of freedom; sigma is the scale",
            kind="density",
            support="real",
            has_scale=True,
        ),
        LikelihoodChoice(
            "categorical",
            "probability mass over the grey levels, one class a level",
            kind="mass",
            support="levels",
            has_scale=False,
        ),
    )
)

ARCHITECTURES = _registry(
    (
        Choice("mlp", "fully connected layers of the sizes in `hidden`, mirrored in the decoder"),
        Choice("conv", "strided convolutions, then the fully connected layers of `hidden`"),
        Choice("linear", "one affine map each way: a linear VAE, whose optimum is known"),
        Choice("tutorial", "an mlp whose log-variance reads the last layer before its activation"),
    )
)

INITIALIZATIONS = _registry(
    (
        Choice("default", "torch's: uniform within 1/sqrt(fan in)"),
        Choice("sparse", "normal with deviation 0.1, about 15 weights an input; biases are zero"),
    )
)

DATASETS = _registry(
    (
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
)

BINARIZATIONS = _registry(
    (
        Choice("none", "pixels keep their grey levels"),
        Choice("dynamic", "each pixel is 1 with its grey value as probability, drawn every visit"),
        Choice("static", "as dynamic, but drawn once from a fixed seed"),
        Choice("threshold", "a pixel is 1 from a grey value of 0.5 upwards"),
    )
)

SIGMA_KINDS = _registry(
    (
        Choice("learned", "one scale shared by all pixels, a parameter of the model"),
        Choice("optimal", "the scale of highest likelihood given the residuals"),
        Choice("per_pixel", "a learned vector, one scale a pixel"),
        Choice("predicted", "the decoder's second output, one scale a pixel and image"),
    )
)

POSTERIORS = _registry(
    (
        Choice("diagonal", "Gaussian with independent latents"),
        Choice("full", "Gaussian with a full covariance, by its Cholesky factor"),
        Choice("delta", "a point: a plain autoencoder, sparse with `sparsity`"),
    )
)

OBJECTIVES = _registry(
    (
        Choice("elbo", "the evidence lower bound, averaged over `importance_samples` draws"),
        Choice("iwae", "the importance-weighted bound with `importance_samples` draws"),
    )
)

PRECISIONS = _registry(
    (
        Choice("float32", "single precision throughout"),
        Choice("bfloat16", "autocast in training; evaluation stays in float32 or better"),
    )
)

SCHEDULES = _registry(
    (
        Choice("constant", "the learning rate stays as it is"),
        Choice("cosine", "half a cosine from the learning rate down to zero"),
        Choice(
            "iwae", "Burda et al.'s staircase: 3^i epochs at 10^(-i/7) times the rate, i = 0..7"
        ),
    )
)

ACTIVATIONS = _registry(
    (
        Choice("relu", "max(0, x)"),
        Choice("tanh", "hyperbolic tangent"),
        Choice("gelu", "x times the normal distribution function"),
        Choice("silu", "x times the logistic function"),
        Choice("elu", "x, or exp(x) - 1 below zero"),
    )
)

DEVICES = _registry(
    (
        Choice("cpu", "the processor"),
        Choice("cuda", "an NVIDIA GPU; `cuda:1` for the second"),
        Choice("mps", "an Apple GPU"),
        Choice("available", "a cell for each kind of device that is there"),
    )
)
