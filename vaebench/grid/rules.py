"""Which axes depend on each other: `DEPENDENCES`, and impossible combinations of values: `RULES`.

`vaebench.grid.cell.Cell` checks both at construction, and a grid reports them for a whole file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vaebench.grid.axes import ARCHITECTURES, DATASETS, LIKELIHOODS, TORCHVISION_PREFIX, Value
from vaebench.grid.values import shown


def is_own_data(dataset: str) -> bool:
    """Return whether `dataset` is the path of a user's file or folder, not a known name."""
    return dataset not in DATASETS and not dataset.startswith(TORCHVISION_PREFIX)


@dataclass(frozen=True)
class Dependence:
    """An axis that has a meaning only for some values of another axis.

    Where it has no meaning its value is `neutral`: a grid collapses the axis there, and a cell
    with another value is refused, or gets the neutral value if `refused` is false.
    """

    axis: str
    on: str
    applies: Callable[[Any], bool]
    neutral: Value
    reason: str
    refused: bool = True


def _only(
    on: str, applies: Callable[[Any], bool], refused: bool = True, **meaningless: tuple[Value, str]
) -> Iterator[Dependence]:
    """Yield the axes that depend on one: each with its neutral value and the reason."""
    for axis, (neutral, reason) in meaningless.items():
        yield Dependence(axis, on, applies, neutral, reason, refused)


_ONE_WAY = "packaged data sets are read in one way only"

DEPENDENCES = (
    *_only(
        "likelihood",
        lambda name: name in LIKELIHOODS and LIKELIHOODS[name].has_scale,
        sigma=(None, "a likelihood without a scale has no sigma"),
    ),
    *_only(
        "likelihood",
        lambda name: name in LIKELIHOODS and LIKELIHOODS[name].has_mean_parameter,
        pixel_clip=(None, "only bernoulli and continuous_bernoulli have a mean to clip"),
    ),
    *_only(
        "architecture",
        lambda name: name != "linear",
        refused=False,
        hidden=((), "a linear network has no hidden layer"),
        activation=("relu", "a linear network has no activation"),
    ),
    *_only(
        "optimizer",
        lambda name: name != "sgd",
        adam_beta1=(0.9, "only adam and adamw keep a running mean of gradients"),
    ),
    *_only(
        "architecture",
        lambda name: name in ("mlp", "tutorial"),
        initialization=(
            "default",
            "only an mlp and the tutorial's network have another than torch's",
        ),
    ),
    *_only(
        "posterior",
        lambda name: name == "delta",
        sparsity=(0.0, "the penalty is for the code of a delta posterior"),
    ),
    *_only(
        "posterior",
        lambda name: name != "delta",
        beta=(1.0, "a delta posterior has no KL to weigh"),
        beta_schedule=("constant", "a delta posterior has no KL to weigh"),
        free_bits=(0.0, "a delta posterior has no KL to weigh"),
    ),
    *_only(
        "prior",
        lambda name: name != "normal",
        prior_components=(50, "a normal prior has one component"),
    ),
    *_only(
        "prior",
        lambda name: name == "normal",
        prior_scale=(1.0, "the scales of a mixture are learned"),
    ),
    *_only(
        "posterior",
        lambda name: name != "delta",
        ais_images=(0, "a delta posterior is trained without a prior, so log p(x) is not defined"),
        local_images=(0, "a delta posterior has no density and no posterior gap"),
        importance_samples=(1, "a delta posterior has one point only"),
    ),
    *_only(
        "dataset",
        lambda name: name not in DATASETS,
        kind=("auto", _ONE_WAY),
        layout=("channels_last", _ONE_WAY),
        range=((), _ONE_WAY),
        shape=((), _ONE_WAY),
        standardize=(True, _ONE_WAY),
        resize=((), _ONE_WAY),
        crop=(False, _ONE_WAY),
    ),
)
"""Dependences are one level deep: an axis on which others depend depends on none itself."""


@dataclass(frozen=True)
class Rule:
    """Values of some axes that cannot be combined.

    `allows` is called with the values of `axes` in their order and returns whether they can be
    combined; the error names the first of the axes.
    """

    axes: tuple[str, ...]
    allows: Callable[..., bool]
    text: str

    def explain(self, values: Sequence[object]) -> str:
        """Return what is wrong with these values of `axes`."""
        pairs = zip(self.axes, values, strict=True)
        came = ", ".join(f"{axis} = {shown(value)}" for axis, value in pairs)
        return f"{self.text} (got {came})"


def _real_valued(dataset: str) -> bool:
    known = DATASETS.get(dataset)
    return known is not None and known.levels is None


def _enough_train(train_size: int | None, valid_size: int, dataset: str) -> bool:
    known = DATASETS.get(dataset)
    return known is None or (train_size or 1) + valid_size <= known.train_images


def _enough_test(test_size: int | None, dataset: str) -> bool:
    known = DATASETS.get(dataset)
    return known is None or (test_size or 1) <= known.test_images


RULES = (
    Rule(
        ("objective", "beta"),
        lambda objective, beta: objective != "iwae" or beta == 1.0,
        "iwae has no KL term to weigh: set beta to 1 or the objective to elbo",
    ),
    Rule(
        ("objective", "beta_schedule", "free_bits"),
        lambda objective, beta_schedule, free_bits: (
            objective != "iwae" or (beta_schedule == "constant" and free_bits == 0.0)
        ),
        "iwae has no KL term to weigh: set beta_schedule to constant and free_bits to 0, or the "
        "objective to elbo",
    ),
    Rule(
        ("beta_schedule", "epochs"),
        lambda beta_schedule, epochs: (
            not beta_schedule.startswith("cyclical:")
            or int(beta_schedule.partition(":")[2]) <= epochs
        ),
        "a cycle of beta must last at least one epoch: give fewer cycles or more epochs",
    ),
    Rule(
        ("free_bits", "posterior", "prior"),
        lambda free_bits, posterior, prior: (
            free_bits == 0.0 or (posterior != "full" and prior == "normal")
        ),
        "free bits need a KL that is a sum over latent dimensions: set the posterior to diagonal "
        "and the prior to normal, or free_bits to 0",
    ),
    Rule(
        ("prior", "posterior"),
        lambda prior, posterior: posterior != "delta" or prior == "normal",
        "a delta posterior is trained without a prior: set the prior to normal or the posterior to "
        "diagonal",
    ),
    Rule(
        ("prior", "posterior"),
        lambda prior, posterior: prior != "vamp" or posterior != "full",
        "the components of a vamp prior are diagonal posteriors: set the posterior to diagonal or "
        "the prior to mixture",
    ),
    Rule(
        ("objective", "posterior"),
        lambda objective, posterior: objective != "iwae" or posterior != "delta",
        "iwae needs a posterior density, which delta is not: use diagonal or full, or elbo",
    ),
    Rule(
        ("likelihood", "dataset"),
        lambda likelihood, dataset: (
            not _real_valued(dataset) or LIKELIHOODS[likelihood].support == "real"
        ),
        "real-valued data need a density on the real line: "
        + ", ".join(name for name, each in LIKELIHOODS.items() if each.support == "real"),
    ),
    Rule(
        ("likelihood", "kind"),
        lambda likelihood, kind: (
            (LIKELIHOODS[likelihood].support == "counts") == (kind == "counts")
            and (kind != "real" or LIKELIHOODS[likelihood].support == "real")
        ),
        'kind = "counts" and a likelihood of counts need each other, kind = "real" needs a density '
        "on the real line",
    ),
    Rule(
        ("binarization", "kind"),
        lambda binarization, kind: binarization == "none" or kind in ("auto", "images"),
        "only images can be binarised: set binarization to none",
    ),
    Rule(
        ("dequantize", "kind"),
        lambda dequantize, kind: not dequantize or kind in ("auto", "images"),
        "only images can be dequantised: set dequantize to false",
    ),
    Rule(
        ("shape",),
        lambda shape: len(shape) != 1,
        "the shape of an image must be [height, width] or [channels, height, width]",
    ),
    Rule(
        ("resize", "crop"),
        lambda resize, crop: len(resize) == 2 or (not resize and not crop),
        "resize must be [height, width]; crop cannot be used without resize",
    ),
    Rule(
        ("binarization", "dataset"),
        lambda binarization, dataset: binarization == "none" or not _real_valued(dataset),
        "real-valued data cannot be binarised, they have no grey levels: set binarization to none",
    ),
    Rule(
        ("dequantize", "dataset"),
        lambda dequantize, dataset: not dequantize or not _real_valued(dataset),
        "real-valued data cannot be dequantised, they have no grey levels: set dequantize to false",
    ),
    Rule(
        ("dequantize", "binarization"),
        lambda dequantize, binarization: not dequantize or binarization == "none",
        "binarised pixels cannot be dequantised: set dequantize to false or binarization to none",
    ),
    Rule(
        ("dequantize", "likelihood"),
        lambda dequantize, likelihood: not dequantize or LIKELIHOODS[likelihood].kind == "density",
        "dequantised pixels need a density, not a probability mass: set dequantize to false or "
        "choose a density",
    ),
    Rule(
        ("hidden", "architecture"),
        lambda hidden, architecture: (
            architecture == "linear" or architecture not in ARCHITECTURES or len(hidden) > 0
        ),
        'this network needs a hidden layer: give hidden a size, or use architecture = "linear"',
    ),
    Rule(
        ("architecture", "posterior"),
        lambda architecture, posterior: architecture != "tutorial" or posterior == "diagonal",
        "the tutorial's encoder gives a mean and a log-variance: set the posterior to diagonal",
    ),
    Rule(
        ("train_size", "valid_size", "dataset"),
        _enough_train,
        "the data set has fewer training images than train_size and valid_size ask for: "
        + ", ".join(f"{name} has {each.train_images:,}" for name, each in DATASETS.items()),
    ),
    Rule(
        ("early_stopping", "valid_size", "dataset"),
        lambda early_stopping, valid_size, dataset: (
            early_stopping is None or valid_size > 0 or is_own_data(dataset)
        ),
        "early stopping needs validation images: set valid_size",
    ),
    Rule(
        ("channels",),
        lambda channels: channels != 2,
        "an image folder is read in grey or in colour: set channels to 1 or 3",
    ),
    Rule(
        ("test_size", "dataset"),
        _enough_test,
        "the data set has fewer test images than test_size asks for: "
        + ", ".join(f"{name} has {each.test_images:,}" for name, each in DATASETS.items()),
    ),
)
"""Impossible combinations. A Bernoulli on grey pixels is possible; the record warns of it."""

JUDGED = tuple(dict.fromkeys(axis for rule in RULES for axis in rule.axes))
"""The axes that appear in `RULES`."""
UNREAD = "\0unread"
"""Replaces a value that failed its check, so that no rule is applied to it."""


@lru_cache(maxsize=1024)
def broken_rules(values: tuple[Value, ...]) -> tuple[tuple[Rule, tuple[Value, ...]], ...]:
    """Return each rule that values of the `JUDGED` axes break, with the values of its axes.

    Cached, because most cells of a grid differ only in axes without a rule, such as the seed.
    """
    of = dict(zip(JUDGED, values, strict=True))
    given = ((rule, tuple(of[axis] for axis in rule.axes)) for rule in RULES)
    return tuple((rule, v) for rule, v in given if UNREAD not in v and not rule.allows(*v))
