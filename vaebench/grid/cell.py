"""`Cell`: one value of every axis, which describes one VAE to train, and the id of a cell.

A cell is frozen and is checked at construction.

`AXES` is generated from the model; `vaebench.grid.rules` states which axis has no meaning for which
value of another axis, and which values cannot be combined. Grid files are checked against the same
rules, so that each is written once.
"""

import hashlib
import json
import re
from collections.abc import Hashable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from vaebench.grid import axes
from vaebench.grid.axes import DATASETS, LIKELIHOODS, Axis, Takes, Value
from vaebench.grid.rules import DEPENDENCES, JUDGED, broken_rules, is_own_data
from vaebench.grid.user_code import source_digest
from vaebench.grid.values import Flag, Interval, Name, Real, Sizes, Whole, shown

NUMERICS_VERSION = {"diagonal": 2, "full": 3, "delta": 2}
"""The version of the numerics for each posterior; CHANGELOG.md lists the changes.

A version is raised when a change of the code changes results by more than rounding; records of an
older version are then not reused. Machines differ by rounding only and are not part of a cell id.
"""

EVALUATION_SETTINGS = (
    "eval_samples",
    "iw_samples",
    "iw_images",
    "ais_images",
    "local_images",
    "tsne_points",
    "test_size",
)
"""Axes that change the evaluation only; training does not depend on them."""

_MANY = 10**9

_DATASET = Name(
    DATASETS,
    # A name that is not known is a path if it has a file's ending or a separator, and no control
    # character.
    r"torchvision:\w+|(?=[^\x00-\x1f\x7f]+$)(?:.*\.[A-Za-z]\w{1,6}|.*[/\\].*|[.~].*)",
    "torchvision:NAME, the path of an .npz, .csv or .parquet file, or of an image folder, "
    "with a slash (./photos)",
)
_ARCHITECTURE = Name(
    axes.ARCHITECTURES, r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*", "package.module:factory"
)
_BETA_SCHEDULE = Name(
    axes.BETA_SCHEDULES,
    r"(?:linear|cyclical):[1-9]\d{0,5}",
    "linear:EPOCHS (from 0 to beta), cyclical:CYCLES (the same, restarted)",
)
_SIGMA = Real(
    open_low=True, words=tuple(axes.SIGMA_KINDS), absent="learned, where there is a scale"
)
_CLIP = Real(0.0, 0.5, open_low=True, open_high=True, absent="no clipping")


class Cell(BaseModel):
    """One value of every axis and of every evaluation setting.

    A family with a scale gets sigma "learned" if none is given; `hidden` and `activation` are
    dropped for the linear architecture, which has neither.

    Raises:
        pydantic.ValidationError: a ValueError, for a number in quotes, a bool for a number, a
            non-finite or denormal number, an unknown field or an impossible combination.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dataset: Annotated[str, Takes(_DATASET, "the images; a path for data of your own")] = "digits"
    binarization: Annotated[
        str, Takes(Name(axes.BINARIZATIONS), "how pixels become 0 or 1, if they do")
    ] = "none"
    dequantize: Annotated[bool, Takes(Flag(), "add uniform noise within one grey level")] = False
    architecture: Annotated[str, Takes(_ARCHITECTURE, "the networks of encoder and decoder")] = (
        "mlp"
    )
    hidden: Annotated[
        tuple[int, ...],
        Takes(Sizes(), "sizes of the encoder's hidden layers, mirrored in the decoder"),
    ] = (400,)
    activation: Annotated[
        str, Takes(Name(axes.ACTIVATIONS), "the non-linearity between layers")
    ] = "relu"
    initialization: Annotated[
        str, Takes(Name(axes.INITIALIZATIONS), "the distribution of the initial weights")
    ] = "default"
    latent_dim: Annotated[int, Takes(Whole(1, 10**6), "number of latent dimensions")] = 8
    likelihood: Annotated[str, Takes(Name(LIKELIHOODS), "the family p(x|z) of the pixels")] = (
        "bernoulli"
    )
    sigma: Annotated[
        float | Literal["learned", "optimal", "per_pixel", "predicted"] | None,
        Takes(_SIGMA, "the likelihood's scale, in units of the [0, 1] pixel"),
    ] = None
    beta: Annotated[float, Takes(Real(), "weight of the KL term in training")] = 1.0
    beta_schedule: Annotated[
        str, Takes(_BETA_SCHEDULE, "how beta rises from 0 in training: KL annealing")
    ] = "constant"
    free_bits: Annotated[
        float,
        Takes(Real(), "nats per latent dimension below which training does not penalise the KL"),
    ] = 0.0
    objective: Annotated[str, Takes(Name(axes.OBJECTIVES), "the bound that is trained on")] = "elbo"
    importance_samples: Annotated[
        int, Takes(Whole(1, 10_000), "draws of z per image in training, k")
    ] = 1
    posterior: Annotated[str, Takes(Name(axes.POSTERIORS), "the family q(z|x) of the encoder")] = (
        "diagonal"
    )
    sparsity: Annotated[
        float, Takes(Real(), "weight of the L1 penalty on the code of a delta posterior, in nats")
    ] = 0.0
    prior_scale: Annotated[
        float, Takes(Real(open_low=True), "standard deviation of the prior N(0, s^2 I)")
    ] = 1.0
    prior: Annotated[str, Takes(Name(axes.PRIORS), "the distribution p(z) of the codes")] = "normal"
    prior_components: Annotated[
        int,
        Takes(Whole(1, 10_000), "components of a mixture, or pseudo-inputs of a vamp prior"),
    ] = 50
    device: Annotated[
        str, Takes(Name(axes.DEVICES, r"cuda:(?:0|[1-9]\d{0,2})", "cuda:N"), "where to train")
    ] = "cpu"
    precision: Annotated[str, Takes(Name(axes.PRECISIONS), "arithmetic of the training steps")] = (
        "float32"
    )
    seed: Annotated[
        int,
        Takes(Whole(0, 2**63 - 1), "seed of the weights, the order of the images and all noise"),
    ] = 0
    epochs: Annotated[int, Takes(Whole(1, 10**6), "passes over the training images")] = 20
    batch_size: Annotated[
        int, Takes(Whole(1, 10**6), "images a training step; at most the training split")
    ] = 128
    learning_rate: Annotated[float, Takes(Real(open_low=True), "step size of the optimizer")] = 1e-3
    optimizer: Annotated[str, Takes(Name(axes.OPTIMIZERS), "how gradients update the weights")] = (
        "adam"
    )
    adam_beta1: Annotated[
        float,
        Takes(
            Real(0.0, 1.0, open_high=True),
            "decay rate of Adam's running mean of gradients; 0 leaves momentum out",
        ),
    ] = 0.9
    learning_rate_schedule: Annotated[
        str, Takes(Name(axes.SCHEDULES), "how the learning rate goes over the epochs")
    ] = "constant"
    weight_decay: Annotated[
        float, Takes(Real(), "L2 penalty on the weights; with adamw, their decay at each step")
    ] = 0.0
    early_stopping: Annotated[
        int | None,
        Takes(
            Whole(1, 10**6, "no early stopping"),
            "epochs without a better validation bound that end the training",
        ),
    ] = None
    train_size: Annotated[
        int | None, Takes(Whole(2, _MANY, "all of them"), "number of training images used")
    ] = None
    valid_size: Annotated[
        int,
        Takes(
            Whole(0, _MANY),
            "training images kept for validation: the tail; own data are shuffled before",
        ),
    ] = 0
    pixel_clip: Annotated[
        float | None, Takes(_CLIP, "keep the decoder's mean within [clip, 1 - clip]")
    ] = None
    eval_samples: Annotated[
        int, Takes(Whole(1, 10_000), "draws of z per test image for the ELBO")
    ] = 1
    iw_samples: Annotated[
        int,
        Takes(Whole(0, 10**6), "draws per image of the importance-weighted bound; 0 leaves it out"),
    ] = 0
    iw_images: Annotated[
        int, Takes(Whole(1, _MANY), "test images of the importance-weighted bound")
    ] = 500
    ais_images: Annotated[
        int,
        Takes(
            Whole(0, _MANY),
            "test images whose log p(x) annealed importance sampling bounds; 0: none",
        ),
    ] = 0
    local_images: Annotated[
        int,
        Takes(
            Whole(0, _MANY),
            "test images whose q(z|x) is optimised to split the posterior gap; 0: none",
        ),
    ] = 0
    tsne_points: Annotated[
        int, Takes(Whole(0, 2_000), "test images on the t-SNE map; 0 leaves it out")
    ] = 300
    channels: Annotated[
        int, Takes(Whole(1, 3), "colour channels read from an image folder, 1 or 3")
    ] = 1
    test_size: Annotated[
        int | None,
        Takes(Whole(2, _MANY, "all of them"), "number of test images used, a fixed subset"),
    ] = None
    kind: Annotated[str, Takes(Name(axes.KINDS), "what the numbers of own data are")] = "auto"
    layout: Annotated[
        str, Takes(Name(axes.LAYOUTS), "order of the dimensions of own images in colour")
    ] = "channels_last"
    range: Annotated[
        tuple[float, ...],
        Takes(Interval(), "lowest and highest value of own images that are floats"),
    ] = ()
    shape: Annotated[
        tuple[int, ...],
        Takes(Sizes(longest=3), "height and width of own images that are stored as rows"),
    ] = ()
    standardize: Annotated[
        bool, Takes(Flag(), "model own real-valued data by their standardised columns")
    ] = True
    resize: Annotated[
        tuple[int, ...],
        Takes(Sizes(longest=2), "height and width to which the images of a folder are resized"),
    ] = ()
    crop: Annotated[
        bool, Takes(Flag(), "crop the centre of an image to the aspect ratio of resize")
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: object) -> object:
        """Set the defaults that depend on other axes, and drop axes that have no effect."""
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        values.setdefault("hidden", default_hidden(values.get("architecture")))
        if values.get("sigma") is None:
            values["sigma"] = default_sigma(values.get("likelihood", "bernoulli"))
        for each in DEPENDENCES:
            if not each.refused and not each.applies(values.get(each.on, AXES[each.on].default)):
                values[each.axis] = each.neutral
        return values

    @model_validator(mode="after")
    def _combine(self) -> "Cell":
        values = vars(self)
        problems = [
            rule.explain(broken)
            for rule, broken in broken_rules(tuple(values[axis] for axis in JUDGED))
        ]
        for each in DEPENDENCES:
            value, choice = values[each.axis], values[each.on]
            if value != each.neutral and not each.applies(choice):
                problems.append(
                    f"{each.axis} = {shown(value)} has no meaning for {each.on} {shown(choice)}: "
                    f"{each.reason}"
                )
        if problems:
            raise ValueError("; ".join(problems))
        return self


def default_sigma(likelihood: object) -> Value:
    """Return the default sigma of a likelihood: "learned", or None without a scale."""
    family = LIKELIHOODS.get(likelihood) if isinstance(likelihood, str) else None
    return "learned" if family is not None and family.has_scale else None


def default_hidden(architecture: object) -> Value:
    """Return the default layer sizes of a network; for a conv, its channels."""
    match architecture:
        case "conv":
            return 32, 64
        case "tutorial":
            return 1000, 500, 250
        case _:
            return AXES["hidden"].default


def _axis(name: str) -> Axis:
    field = Cell.model_fields[name]
    (takes,) = (each for each in field.metadata if isinstance(each, Takes))
    return Axis(name, takes.summary, field.default, takes.check)


AXES: Mapping[str, Axis] = MappingProxyType({name: _axis(name) for name in Cell.model_fields})
"""Every axis by name, in the order of the fields of `Cell`."""


def cell_id(cell: Cell, data_checksum: str, network: str | None = None) -> str:
    """Return the id of a cell: readable words and 12 hexadecimal digits of its content.

    The hash is over every field of the cell that is not at its default (so that new axes change
    no id), the checksum of the data (which replaces the path of user data), the content of the
    file of a user's network, and `NUMERICS_VERSION`. The id has at most 120 characters of
    `[A-Za-z0-9._-]`.

    Args:
        cell: the cell.
        data_checksum: SHA-256 of the data.
        network: SHA-256 of the file of a user's network; read from the file by default.
    """
    fields = cell.model_dump(mode="json", exclude_defaults=True)
    if is_own_data(cell.dataset):
        fields["dataset"] = "own-data"
    content = {"cell": fields, "data": data_checksum, "numerics": NUMERICS_VERSION[cell.posterior]}
    if ":" in cell.architecture:
        content["network"] = network or source_digest(cell.architecture)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{_slug(cell)}-{digest}"


_program_fields = attrgetter(
    *("dataset", "channels", "kind", "shape", "resize", "standardize", "binarization"),
    *("dequantize", "architecture", "hidden", "activation", "latent_dim", "likelihood"),
    *("pixel_clip", "free_bits", "objective", "importance_samples", "posterior", "prior"),
    *("prior_components", "batch_size", "device", "precision"),
)


def program_key(cell: Cell) -> Hashable:
    """Return a key that is equal for cells whose training steps are the same program.

    The key determines the operations of a training step and the shapes of its tensors.

    Cells with equal keys differ only in numbers: seed, beta, sparsity, prior scale, the value of a
    fixed sigma, and everything outside the loss, such as the learning rate and the epochs.
    """
    sigma = "fixed" if isinstance(cell.sigma, float | int) else cell.sigma
    return (sigma, *_program_fields(cell))


def _slug(cell: Cell) -> str:
    sigma = cell.sigma
    words = [
        "own-data" if is_own_data(cell.dataset) else cell.dataset,
        cell.binarization if cell.binarization != "none" else "",
        cell.architecture.partition(":")[2] or cell.architecture.removeprefix("mlp"),
        cell.likelihood,
        f"s{sigma:g}" if isinstance(sigma, float) else sigma or "",
        cell.posterior if cell.posterior != "diagonal" else "",
        cell.prior if cell.prior != "normal" else "",
        f"z{cell.latent_dim}",
        cell.device if cell.device != "cpu" else "",
        f"seed{cell.seed}",
    ]
    slug = "-".join(word for word in words if word)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", slug)[:100].strip(".")
