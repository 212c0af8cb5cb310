"""What no result may break: each guard is silent just inside its bound and speaks just outside."""

from dataclasses import replace

import pytest
import torch
from scipy import stats
from scored_models import cell, grey_split, made, random_grey, real_split, source

from vaebench.evaluation.bound import Scores, score
from vaebench.evaluation.guards import comparable_as, warnings_of
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.likelihoods import SCALE_FLOOR
from vaebench.records.schema import NOT_A_LIKELIHOOD
from vaebench.truth.bounds import bce_ceiling, bce_floor

SPLIT = grey_split(random_grey(30))
TRAIN = grey_split(random_grey(50, seed=90)).pixels


def warned(
    design: Cell,
    error: float,
    split: EvaluationSplit = SPLIT,
    sigma: float | None = None,
    squared: float = 0.01,
) -> str:
    """The codes of the warnings of a cell with these errors, per image and per pixel."""
    plain = score(made(design, (1, 4, 4), levels=split.levels), design, split, source())
    scores: Scores = replace(
        plain,
        reconstruction_error=torch.full((len(split),), error, dtype=torch.float64),
        squared_error=torch.full((len(split),), squared, dtype=torch.float64),
        scale_squared=None if sigma is None else sigma**2,
    )
    return " ".join(note.code for note in warnings_of(design, TRAIN, split, scores))


BERNOULLI = cell(likelihood="bernoulli", sigma=None)


def test_a_bernoulli_on_grey_pixels_is_said_to_be_no_likelihood() -> None:
    ceiling = bce_ceiling(TRAIN.numpy(), SPLIT.pixels.numpy())
    assert "not_a_likelihood" in warned(BERNOULLI, ceiling - 0.1)
    binary = grey_split(random_grey(30), "static")
    assert warned(BERNOULLI, 1.0, binary) == ""


def test_a_cross_entropy_below_the_entropy_of_the_pixels_is_a_bug() -> None:
    floor = bce_floor(SPLIT.pixels.numpy())
    assert "impossible_score" not in warned(BERNOULLI, floor)
    assert "impossible_score" in warned(BERNOULLI, floor * 0.999)


def test_a_cross_entropy_above_that_of_no_code_at_all_is_a_collapse() -> None:
    ceiling = bce_ceiling(TRAIN.numpy(), SPLIT.pixels.numpy())
    assert "collapsed" not in warned(BERNOULLI, ceiling * 0.999)
    assert "collapsed" in warned(BERNOULLI, ceiling * 1.001)


@pytest.mark.parametrize("family", ["gaussian", "laplace", "categorical", "continuous_bernoulli"])
def test_a_decoder_no_nearer_than_the_mean_image_is_a_collapse(family: str) -> None:
    blind = float((SPLIT.pixels - TRAIN.mean(0)).square().mean())
    design = cell(likelihood=family, sigma=0.2 if family in ("gaussian", "laplace") else None)
    assert "collapsed" not in warned(design, 100.0, squared=blind * 0.999)
    assert "collapsed" in warned(design, 100.0, squared=blind * 1.001)


@pytest.mark.parametrize(
    ("family", "law"), [("gaussian", stats.norm(0, 0.2)), ("student_t", stats.t(5, 0, 0.2))]
)
def test_a_density_above_its_own_mode_is_a_bug(family: str, law: stats.rv_continuous) -> None:
    design = cell(likelihood=family, sigma=0.2)
    mode = 16 * float(law.logpdf(0))
    assert "impossible_score" not in warned(design, -mode, sigma=0.2)
    assert "impossible_score" in warned(design, -mode - 0.1, sigma=0.2)
    # Where every pixel has its own scale the ceiling of one scale does not hold.
    assert "impossible_score" not in warned(
        cell(likelihood=family, sigma="predicted"), -mode - 9, sigma=0.2
    )


def test_a_scale_on_its_floor_is_said() -> None:
    learned = cell(sigma="learned")
    assert "scale_on_floor" in warned(learned, 100.0, sigma=1.01 * SCALE_FLOOR)
    assert "scale_on_floor" not in warned(learned, 100.0, sigma=1.1 * SCALE_FLOOR)
    assert "scale_on_floor" not in warned(cell(sigma=SCALE_FLOOR), 100.0, sigma=SCALE_FLOOR)


@pytest.mark.parametrize("sigma", [0.0, float("nan"), float("inf")])
def test_a_scale_that_gives_no_density_is_said(sigma: float) -> None:
    assert "scale_without_density" in warned(cell(), 100.0, sigma=sigma)


@pytest.mark.parametrize(
    ("design", "split", "expected"),
    [
        (cell(likelihood="continuous_bernoulli", sigma=None), SPLIT, True),
        (cell(sigma="learned"), SPLIT, True),
        (cell(sigma="predicted"), SPLIT, True),
        (cell(sigma=0.2), SPLIT, False),
        (cell(sigma=0.01), SPLIT, True),
        # Half the step between two of 17 levels is 0.03125.
        (cell(sigma=0.031), SPLIT, True),
        (cell(sigma=0.0313), SPLIT, False),
        (cell(sigma="learned"), grey_split(random_grey(30), dequantize=True), False),
        (cell(sigma="learned"), real_split(torch.rand(30, 16)), False),
        (cell(likelihood="categorical", sigma=None), SPLIT, False),
        (BERNOULLI, SPLIT, False),
    ],
)
def test_a_density_that_may_pile_up_on_grey_levels_is_said(
    design: Cell, split: EvaluationSplit, expected: bool
) -> None:
    assert ("unbounded_density" in warned(design, 10.0, split)) == expected


def test_what_an_elbo_may_be_compared_with() -> None:
    assert comparable_as(BERNOULLI, 17) == NOT_A_LIKELIHOOD
    assert comparable_as(BERNOULLI, 2) == "mass"
    assert comparable_as(cell(likelihood="categorical", sigma=None), 17) == "mass"
    assert comparable_as(cell(), 17) == "density"


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        ({"dataset": "linear-gaussian"}, True),
        ({"dataset": "own.npz", "kind": "real", "standardize": False}, True),
        # One floor is not that of columns with scales of their own.
        ({"dataset": "own.npz", "kind": "real", "standardize": True}, False),
    ],
)
def test_the_floor_of_sigma_is_one_number_only_without_scales_of_columns(
    design: dict[str, object], expected: bool
) -> None:
    split, own = real_split(torch.rand(30, 16)), cell(sigma="learned", **design)
    assert ("scale_on_floor" in warned(own, 10.0, split, sigma=SCALE_FLOOR)) == expected
