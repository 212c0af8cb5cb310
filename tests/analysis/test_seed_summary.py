"""Means and intervals over seeds, and what may be compared."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic import ENVIRONMENT, cells, diverged, record

from vaebench.analysis.comparability import groups, refusal, require_comparable
from vaebench.analysis.frame import tidy
from vaebench.analysis.labels import design_label, ordered, plain, slug, value_text
from vaebench.analysis.summary import interval, number, summarise, summary_text
from vaebench.errors import NotComparable
from vaebench.grid.cell import Cell

GAUSSIAN = {"likelihood": "gaussian", "sigma": 0.1}
BERNOULLI = {"likelihood": "bernoulli", "binarization": "dynamic"}


def frame_of(*designs: dict[str, object], sizes: tuple[int, ...] = (2, 8)) -> pd.DataFrame:
    return tidy([(record(cell), "store") for cell in cells(designs, sizes, 3)])


def test_the_interval_is_students_t_over_seeds() -> None:
    # Four values 1, 2, 3, 4: mean 2.5, sd sqrt(5/3), t(0.975, 3) = 3.182446.
    found = interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182446305 * math.sqrt(5 / 3) / 2
    assert found.mean == 2.5
    assert found.low == pytest.approx(2.5 - half, rel=1e-9)
    assert found.high == pytest.approx(2.5 + half, rel=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9, unique=True))
@settings(max_examples=60, deadline=None)
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found = interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.low == pytest.approx(low, rel=1e-6, abs=1e-6)
    assert found.high == pytest.approx(high, rel=1e-6, abs=1e-6)


def test_equal_values_have_no_spread() -> None:
    """Though their mean is rounded, and so is each one's distance from it."""
    for value in (0.1, 27 / 28, -103.7):
        found = interval([value] * 5)
        assert found.low == found.high == pytest.approx(value)


def test_one_seed_has_no_interval_and_no_seed_no_mean() -> None:
    one, none = interval([5.0]), interval([math.nan])
    assert (one.mean, one.n) == (5.0, 1)
    assert math.isnan(one.low)
    assert none.n == 0
    assert math.isnan(none.mean)


def test_the_estimators_error_never_enters_the_interval() -> None:
    frame = frame_of(GAUSSIAN)
    wide = frame.assign(elbo_se=1e6)
    assert summarise(frame, ["latent_dim"], "elbo").equals(summarise(wide, ["latent_dim"], "elbo"))


def test_seeds_that_share_a_timing_have_no_interval_of_it() -> None:
    frame = frame_of(GAUSSIAN, sizes=(2,)).assign(train_seconds=1.5, elbo=-100.0)
    assert summarise(frame, ["latent_dim"], "train_seconds").iloc[0]["n"] == 3, "each was alone"
    frame = frame.assign(pack_size=3.0)
    time, nats = (summarise(frame, ["latent_dim"], m).iloc[0] for m in ("train_seconds", "elbo"))
    assert (time["mean"], time["n"], time["cells"]) == (1.5, 1, 3)
    assert math.isnan(time["low"])
    assert (nats["n"], nats["low"]) == (3, -100.0)


def test_a_diverged_seed_is_counted_and_not_averaged() -> None:
    first, *others = cells([GAUSSIAN], sizes=[2], seeds=3)
    frame = tidy([(diverged(first), "s"), *((record(cell), "s") for cell in others)])
    row = summarise(frame, ["latent_dim"], "elbo").iloc[0]
    assert (row["n"], row["cells"], row["diverged"]) == (2, 3, 1)
    assert row["mean"] == pytest.approx(frame["elbo"].dropna().mean())
    text = summary_text(*(row[k] for k in ("mean", "low", "high", "n", "cells", "diverged")))
    assert text.endswith("div. 1/3")


def test_seeds_of_different_designs_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="also differ in latent_dim: add it"):
        summarise(frame_of(GAUSSIAN), ["sigma"], "elbo")


def test_a_repeated_seed_is_not_counted_twice() -> None:
    frame = frame_of(GAUSSIAN, sizes=(2,))
    with pytest.raises(ValueError, match="several records of seed 0"):
        summarise(pd.concat([frame, frame]), ["latent_dim"], "elbo")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (BERNOULLI, "the data supports differ"),
        ({"likelihood": "categorical"}, "a density and a probability mass"),
        ({"likelihood": "bernoulli"}, "grey pixels is neither"),
        ({**GAUSSIAN, "dequantize": True}, "the data supports differ"),
    ],
)
def test_nats_of_another_kind_are_refused_with_the_reason(
    other: dict[str, object], why: str
) -> None:
    frame = frame_of(GAUSSIAN, other)
    with pytest.raises(NotComparable, match=why):
        require_comparable(frame, "elbo")
    advice = "select one of them" if other == BERNOULLI else "compare bits_per_dim"
    with pytest.raises(NotComparable, match=advice):
        summarise(frame, ["likelihood", "binarization", "dequantize", "latent_dim"], "kl")
    assert refusal(frame_of(GAUSSIAN), "elbo") is None


def test_bits_per_dim_may_cross_families_but_not_grey_levels() -> None:
    across = frame_of(GAUSSIAN, {"likelihood": "categorical"}, {**GAUSSIAN, "dequantize": True})
    assert refusal(across, "bits_per_dim") is None
    assert "grey levels" in str(refusal(frame_of(GAUSSIAN, BERNOULLI), "bits_per_dim"))


def test_pixels_cut_at_one_half_are_other_images_than_drawn_ones() -> None:
    cut = frame_of(BERNOULLI, {**BERNOULLI, "binarization": "threshold"})
    drawn = frame_of(BERNOULLI, {**BERNOULLI, "binarization": "static"})
    for metric in ("elbo", "bits_per_dim"):
        assert str(refusal(cut, metric)).endswith("different images; select one of them")
        assert refusal(drawn, metric) is None
    labels = [group.label for group in groups(cut, "elbo")]
    assert labels == [
        "digits, binarised, probability mass",
        "digits, binarised, by a threshold, probability mass",
    ]


def test_timings_of_two_machines_are_refused() -> None:
    first, second = cells([GAUSSIAN], sizes=[2], seeds=2)
    other = ENVIRONMENT.model_copy(update={"processor": "M4"})
    frame = tidy([(record(first), "s"), (record(second, environment=other), "s")])
    assert "machines differ" in str(refusal(frame, "step_ms_median"))
    assert refusal(frame, "elbo") is None


def test_groups_part_the_frame_into_what_may_be_compared() -> None:
    frame = frame_of(GAUSSIAN, BERNOULLI, {"likelihood": "bernoulli"})
    found = groups(frame, "elbo")
    assert sum(len(group.frame) for group in found) == len(frame)
    assert [group.label for group in found] == [
        "digits, binarised, probability mass",
        "digits, grey levels, density",
        "digits, grey levels, not a likelihood of these data",
    ]
    assert all(refusal(group.frame, "elbo") is None for group in found)
    assert len({group.slug for group in found}) == 3


def test_two_data_sets_of_one_name_are_told_apart() -> None:
    first, second = (record(cell) for cell in cells([GAUSSIAN], sizes=[2], seeds=2))
    assert second.data is not None
    other = second.model_copy(
        update={"data": second.data.model_copy(update={"checksum": "ab" * 32})}
    )
    found = groups(tidy([(first, "s"), (other, "s")]), "elbo")
    assert [group.label for group in found] == [
        "digits, data 0f0f0f0f, grey levels, density",
        "digits, data abababab, grey levels, density",
    ]
    frame = tidy([(first, "s"), (other, "s")])
    frame["channels"] = [3 if checksum == "ab" * 32 else 1 for checksum in frame["data_checksum"]]
    assert [group.label for group in groups(frame, "elbo")] == [
        "digits, in grey, grey levels, density",
        "digits, in colour, grey levels, density",
    ]


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (-103.24, 1.44, "-103.2"),
        (-103.24, 14.4, "-103"),
        (0.01234, 0.00011, "0.01234"),
        (12345.6, math.nan, "12,346"),
        (-0.77, 12.0, "-1"),
        (8.3e-8, 3.2e-8, "8.3e-08"),
        (8.3e-8, 3.2e-7, "8e-08"),
        (1.0, 3.4e-8, "1.000000000"),
        (math.nan, 1.0, "n/a"),
    ],
)
def test_a_number_has_no_more_figures_than_its_spread(
    value: float, spread: float, text: str
) -> None:
    assert number(value, spread) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((1.0, 0.9, 1.1, 3, 3, 0), "1.00 ± 0.10"),
        ((1.0, math.nan, math.nan, 1, 1, 0), "1"),
        ((math.nan, math.nan, math.nan, 0, 5, 5), "div. 5/5"),
        ((math.nan, math.nan, math.nan, 0, 3, 1), "n/a, div. 1/3"),
        ((1.0, 0.9, 1.1, 2, 3, 0), "1.00 ± 0.10, n 2/3"),
        ((0.1, 0.1, 0.1, 3, 3, 0), "0.1"),
    ],
)
def test_an_entry_says_what_is_missing(row: tuple[float, ...], text: str) -> None:
    mean, low, high, n, of, lost = row
    assert summary_text(mean, low, high, int(n), int(of), int(lost)) == text


def test_values_of_an_axis_have_one_order() -> None:
    mixed = ["optimal", None, 1.0, "learned", 0.1, "odd", math.nan]
    assert ordered(mixed) == [0.1, 1.0, "learned", "optimal", "odd", None]


def test_names_of_designs_and_files() -> None:
    label = design_label(("latent_dim", "likelihood", "sigma"), (8, "gaussian", "per_pixel"))
    assert label == "gaussian, σ per pixel, z 8"
    assert design_label(("likelihood", "posterior"), ("gaussian", "diagonal")) == "gaussian"
    assert design_label(("posterior",), ("diagonal",)) == "posterior diagonal"
    assert design_label(("epochs",), (20,)) == "epochs 20"
    assert slug("../../Etc <x>") == "etc-x"
    assert plain("a\nb\x00c\u202ed") == "a b�c�d"
    assert value_text(0.1234567891) == "0.1234567891"


def test_groups_of_names_that_no_file_can_have_have_files_of_their_own() -> None:
    names = ("./数据.npz", "./图像.npz", f"./{'x' * 70}1.npz", f"./{'x' * 70}2.npz")
    made = [
        record(Cell(dataset=name, seed=seed), cell_id=f"cell-{seed}")
        for seed, name in enumerate(names)
    ]
    frame = tidy((each, "one") for each in made)
    found = groups(frame.assign(data_checksum=list(names)), "elbo")
    assert len({group.slug for group in found}) == len(found) == 4


def test_the_reason_of_a_finished_cell_comes_before_that_of_another() -> None:
    frame = frame_of(GAUSSIAN, sizes=(2,))
    frame["elbo"] = math.nan
    frame["elbo_reason"] = ["a: the cell failed", "c", "b"]
    frame.loc[0, "status"] = "failed"
    assert summarise(frame, ["latent_dim"], "elbo")["reason"].tolist() == ["b"]
    frame["status"] = "failed"
    assert summarise(frame, ["latent_dim"], "elbo")["reason"].tolist() == ["a: the cell failed"]
