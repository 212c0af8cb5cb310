"""Cell: defaults, impossible combinations, and an identity that depends on content alone."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vaebench.grid import cell as cell_module
from vaebench.grid.cell import AXES, Cell, cell_id

CHECKSUM = "0123456789abcdef"

IMPOSSIBLE = [
    ({"objective": "iwae", "beta": 2.0}, "iwae has no KL term to weigh"),
    ({"objective": "iwae", "posterior": "delta"}, "iwae needs a posterior density"),
    ({"objective": "iwae", "beta_schedule": "linear:3"}, "iwae has no KL term to weigh"),
    ({"objective": "iwae", "free_bits": 0.1}, "iwae has no KL term to weigh"),
    ({"beta_schedule": "linear:0"}, "linear:EPOCHS"),
    ({"beta_schedule": "cyclical:6", "epochs": 5}, "at least one epoch"),
    ({"beta_schedule": "linear:3", "posterior": "delta"}, "no KL to weigh"),
    ({"free_bits": 0.1, "posterior": "delta"}, "no KL to weigh"),
    ({"free_bits": 0.1, "posterior": "full"}, "a sum over latent dimensions"),
    ({"free_bits": 0.1, "prior": "mixture"}, "a sum over latent dimensions"),
    ({"prior": "mixture", "posterior": "delta"}, "trained without a prior"),
    ({"prior": "vamp", "posterior": "full"}, "diagonal posteriors"),
    ({"prior": "vamp", "prior_scale": 2.0}, "prior_scale = 2.0 has no meaning"),
    ({"prior_components": 3}, "prior_components = 3 has no meaning"),
    ({"prior": "gaussian"}, "one of normal, mixture, vamp"),
    ({"sparsity": 0.1}, "sparsity = 0.1 has no meaning for posterior 'diagonal'"),
    ({"posterior": "delta", "beta": 4.0}, "no KL to weigh"),
    ({"posterior": "delta", "importance_samples": 5}, "one point only"),
    ({"early_stopping": 3}, "needs validation images"),
    ({"optimizer": "sgd", "adam_beta1": 0.5}, "adam_beta1 .* has no meaning"),
    ({"adam_beta1": 1.0}, "below 1"),
    ({"posterior": "delta", "local_images": 5}, "no posterior gap"),
    ({"posterior": "delta", "ais_images": 5}, "log p.x. is not defined"),
    ({"likelihood": "bernoulli", "sigma": 0.1}, "a likelihood without a scale has no sigma"),
    ({"likelihood": "categorical", "sigma": "learned"}, "has no sigma"),
    ({"likelihood": "gaussian", "pixel_clip": 0.1}, "have a mean to clip"),
    ({"dataset": "linear-gaussian", "likelihood": "bernoulli"}, "density on the real line"),
    ({"dataset": "linear-gaussian", "likelihood": "continuous_bernoulli"}, "on the real line"),
    ({"dataset": "linear-gaussian", "likelihood": "categorical"}, "on the real line"),
    (
        {"dataset": "linear-gaussian", "likelihood": "gaussian", "binarization": "static"},
        "cannot be binarised",
    ),
    (
        {"dataset": "linear-gaussian", "likelihood": "gaussian", "dequantize": True},
        "cannot be dequantised",
    ),
    (
        {"likelihood": "gaussian", "binarization": "dynamic", "dequantize": True},
        "binarised pixels cannot be dequantised",
    ),
    ({"dequantize": True}, "not a probability mass"),
    ({"likelihood": "categorical", "dequantize": True}, "not a probability mass"),
    ({"hidden": []}, "needs a hidden layer"),
    ({"architecture": "tutorial", "hidden": []}, "needs a hidden layer"),
    ({"architecture": "tutorial", "posterior": "full"}, "set the posterior to diagonal"),
    ({"architecture": "conv", "initialization": "sparse"}, "initialization .* has no meaning"),
    ({"train_size": 1_438}, "fewer training images"),
    ({"train_size": 1_000, "valid_size": 438}, "fewer training images"),
    ({"valid_size": 1_437}, "fewer training images"),
    ({"test_size": 361}, "fewer test images"),
    ({"latent_dmi": 3}, "latent_dmi"),
]

POSSIBLE = [
    {"objective": "iwae", "importance_samples": 50},
    {"objective": "iwae", "prior": "vamp"},
    {"prior": "mixture", "prior_components": 1, "posterior": "full"},
    {"beta_schedule": "cyclical:5", "epochs": 5, "free_bits": 0.1},
    {"beta_schedule": "linear:30", "epochs": 5},
    {"posterior": "delta", "sparsity": 0.1},
    {"likelihood": "bernoulli", "binarization": "none"},
    {"likelihood": "categorical", "binarization": "threshold"},
    {"likelihood": "continuous_bernoulli", "dequantize": True, "pixel_clip": 0.01},
    {"dataset": "linear-gaussian", "likelihood": "student_t", "sigma": "optimal"},
    {"dataset": "photos.npz", "train_size": 10**6},
    {"train_size": 1_000, "valid_size": 437, "test_size": 360},
    {"early_stopping": 3, "valid_size": 10},
    {"early_stopping": 3, "dataset": "photos.npz"},
    {"architecture": "my.nets:build", "hidden": []},
]


@pytest.mark.parametrize(("fields", "message"), IMPOSSIBLE)
def test_an_impossible_cell_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Cell(**fields)


@pytest.mark.parametrize("fields", POSSIBLE)
def test_a_possible_cell_is_made(fields: dict[str, object]) -> None:
    assert (
        Cell(**fields).model_dump().items()
        >= {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }.items()
    )


def test_all_that_is_wrong_with_a_cell_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Cell(latent_dim=0, likelihood="gausian", sigma="1e-3")
    assert {each["loc"] for each in caught.value.errors()} == {
        ("latent_dim",),
        ("likelihood",),
        ("sigma",),
    }


@pytest.mark.parametrize(
    ("likelihood", "sigma"),
    [("bernoulli", None), ("categorical", None), ("gaussian", "learned"), ("laplace", "learned")],
)
def test_sigma_is_learned_where_a_scale_is_given_none(likelihood: str, sigma: object) -> None:
    assert Cell(likelihood=likelihood).sigma == sigma


def test_a_linear_cell_has_no_hidden_layer_and_no_activation() -> None:
    plain = Cell(architecture="linear")
    assert plain.hidden == ()
    assert Cell(architecture="linear", hidden=(8, 4), activation="tanh") == plain


def test_a_cell_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Cell().seed = 1


def test_a_cell_survives_json() -> None:
    cell = Cell(likelihood="gaussian", sigma=0.1, hidden=(32, 16), train_size=100)
    assert Cell.model_validate_json(cell.model_dump_json()) == cell
    assert Cell.model_validate(cell.model_dump(mode="json")) == cell


def test_the_id_of_a_known_cell_never_changes() -> None:
    """A changed id orphans finished results: it takes a new NUMERICS_VERSION, or a cure."""
    cell = Cell(likelihood="gaussian", sigma=0.1)
    assert cell_id(cell, CHECKSUM) == "digits-gaussian-s0.1-z8-seed0-b992c4c63160"


def test_the_id_does_not_depend_on_the_order_of_the_fields() -> None:
    fields = Cell(likelihood="gaussian", sigma=0.1).model_dump()
    backwards = Cell(**dict(reversed(fields.items())))
    assert cell_id(backwards, CHECKSUM) == cell_id(Cell(**fields), CHECKSUM)


def test_the_id_knows_no_difference_between_1_and_1_point_0() -> None:
    one, whole = Cell(likelihood="gaussian", sigma=1.0), Cell(likelihood="gaussian", sigma=1)
    assert cell_id(one, CHECKSUM) == cell_id(whole, CHECKSUM)


OTHER = {
    "channels": 3,
    "dataset": "mnist",
    "binarization": "dynamic",
    "dequantize": True,
    "architecture": "conv",
    "hidden": (401,),
    "activation": "tanh",
    "initialization": "sparse",
    "early_stopping": 4,
    "optimizer": "sgd",
    "adam_beta1": 0.5,
    "likelihood": "laplace",
    "sigma": "optimal",
    "objective": "iwae",
    "posterior": "full",
    "beta_schedule": "linear:3",
    "prior": "vamp",
    "device": "cuda",
    "precision": "bfloat16",
    "learning_rate_schedule": "cosine",
    "pixel_clip": 0.1,
    "sparsity": 0.5,
    "tsne_points": 5,
    "kind": "real",
    "layout": "channels_first",
    "range": (0.0, 1.0),
    "shape": (2, 3),
    "standardize": False,
    "resize": (4, 4),
    "crop": True,
}


@pytest.mark.parametrize("axis", AXES)
def test_every_field_is_part_of_the_id(axis: str) -> None:
    own = {"dataset": "./own.npz"}
    context = {
        "pixel_clip": {"likelihood": "bernoulli"},
        "sparsity": {"posterior": "delta"},
        "prior_components": {"prior": "vamp"},
        "early_stopping": {"valid_size": 10},
    }
    context |= dict.fromkeys(("kind", "layout", "range", "shape", "standardize", "resize"), own)
    context["crop"] = {**own, "resize": (4, 4)}
    fields: dict[str, object] = {"likelihood": "gaussian"} | context.get(axis, {})
    other = fields | {axis: OTHER[axis] if axis in OTHER else (AXES[axis].default or 0) + 3}
    ids = {cell_id(Cell(**each), CHECKSUM)[-12:] for each in (fields, other)}
    assert len(ids) == 2


def test_the_data_and_the_numerics_are_part_of_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cell_id(Cell(), CHECKSUM)
    assert cell_id(Cell(), "other data") != before
    full = cell_id(Cell(posterior="full"), CHECKSUM)
    monkeypatch.setitem(cell_module.NUMERICS_VERSION, "diagonal", 99)
    assert cell_id(Cell(), CHECKSUM) != before
    assert cell_id(Cell(posterior="full"), CHECKSUM) == full


def test_own_data_are_known_by_content_not_by_path() -> None:
    here, there = Cell(dataset="here/photos.npz"), Cell(dataset="/elsewhere/x.npz")
    assert cell_id(here, CHECKSUM) == cell_id(there, CHECKSUM)
    assert cell_id(here, CHECKSUM) != cell_id(here, "other data")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (Path("images.npz"), "images.npz"),
        (Path("photos"), "./photos"),
        (Path("mnist"), "./mnist"),
        (Path("/data/photos"), "/data/photos"),
    ],
)
def test_a_path_as_an_object_is_the_path_of_data(path: Path, name: str) -> None:
    assert Cell(dataset=path).dataset == name
    with pytest.raises(ValidationError, match=r"package\.module:factory, not .*Path\("):
        Cell(architecture=path)


@given(
    folder=st.text(string.printable, min_size=1).map(lambda text: f"../{text}"),
    factory=st.sampled_from(["a:b", "ünïcode.mödul:fäctory", "x" * 300 + ":" + "y" * 300]),
    sigma=st.floats(1e-30, 1e30),
)
def test_an_id_is_a_safe_short_name(folder: str, factory: str, sigma: float) -> None:
    try:
        cell = Cell(dataset=folder, architecture=factory, likelihood="gaussian", sigma=sigma)
    except ValidationError:  # a control character in the path
        assert re.search(r"[\x00-\x1f\x7f]", folder)
        return
    name = cell_id(cell, CHECKSUM)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}", name)
