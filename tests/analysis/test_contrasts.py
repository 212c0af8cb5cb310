"""Paired contrasts against scipy's tests, Holm's textbook example, and simulated power."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic import cells, record

from vaebench.analysis.contrasts import contrasts, holm, more_seeds, score_table
from vaebench.analysis.frame import tidy

A = [-101.5, -99.0, -104.25, -100.0]
B = [-103.0, -100.0, -106.25, -101.0]


def table(**designs: list[float]) -> pd.DataFrame:
    return pd.DataFrame(designs)


def test_holm_is_the_textbooks() -> None:
    # Holm 1979's procedure on the example of Wright 1992 (rounded there).
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([]) == []
    found = holm([0.04, math.nan, 0.01])
    assert found[2] == pytest.approx(0.02)
    assert math.isnan(found[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_holm_lies_between_the_p_value_and_bonferronis(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, p * len(p_values)) + 1e-12


def test_a_contrast_is_the_paired_t_test_of_scipy() -> None:
    (found,) = contrasts(table(a=A, b=B), "a", "elbo")
    test = stats.ttest_rel(A, B)
    assert found.p == pytest.approx(test.pvalue)
    assert found.loss.mean == pytest.approx(np.mean(np.subtract(A, B)))
    assert (found.loss.low, found.loss.high) == pytest.approx(tuple(test.confidence_interval()))
    assert found.worse


def test_pairing_shows_what_overlapping_intervals_hide() -> None:
    """Each design alone varies by several nats over seeds; their difference does not."""
    a, b = pd.Series(A), pd.Series(B)
    half = [stats.t.ppf(0.975, 3) * each.std() / 2 for each in (a, b)]
    assert a.mean() - half[0] < b.mean() + half[1], "the intervals overlap"
    assert contrasts(table(a=A, b=B), "a", "elbo")[0].worse


def test_intervals_apart_are_not_enough_after_adjustment() -> None:
    """The same two designs among twenty others: the adjusted p-value counts them."""
    others = {f"c{i}": [value + 0.01 * i for value in A] for i in range(20)}
    (alone,) = contrasts(table(a=A, b=B), "a", "elbo")
    among = next(c for c in contrasts(table(a=A, b=B, **others), "a", "elbo") if c.design == "b")
    assert among.p > alone.p


def test_lower_is_better_where_the_metric_says_so() -> None:
    (found,) = contrasts(table(a=[2.0, 2.1, 2.2], b=[2.5, 2.61, 2.69]), "a", "bits_per_dim")
    assert found.loss.mean == pytest.approx(0.5)
    assert found.worse


def test_one_common_seed_shows_nothing() -> None:
    (found,) = contrasts(table(a=[1.0, math.nan], b=[0.0, 3.0]), "a", "elbo")
    assert (found.loss.n, found.worse) == (1, False)
    assert math.isnan(found.p)


def test_equal_differences_leave_no_doubt_and_no_difference_is_none() -> None:
    worse, same = contrasts(table(a=[1.0, 2.0], b=[0.5, 1.5], c=[1.0, 2.0]), "a", "elbo")
    assert worse.worse
    assert (same.p, same.worse) == (1.0, False)


def test_more_seeds_give_the_power_that_is_promised() -> None:
    rng = np.random.default_rng(0)
    sample = np.array([0.2, 1.0, 1.2])
    (found,) = contrasts(table(a=list(sample), b=[0.0, 0.0, 0.0]), "a", "elbo")
    extra = more_seeds(found)
    assert extra is not None
    n = 3 + extra
    draws = rng.normal(sample.mean(), sample.std(ddof=1), (20_000, n))
    power = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
    fewer = np.mean(stats.ttest_1samp(draws[:, :-1], 0.0, axis=1).pvalue < 0.05)
    assert fewer < 0.8 + 0.01 < power + 0.02


def test_nothing_is_promised_without_a_loss_or_a_spread() -> None:
    gain, equal = contrasts(table(a=[0.0, 1.0], b=[1.0, 2.5], c=[0.0, 1.0]), "a", "elbo")
    assert more_seeds(gain) is None
    assert more_seeds(equal) is None


def test_a_table_of_scores_has_a_row_a_seed_and_a_column_a_design() -> None:
    made = [record(cell) for cell in cells([{"likelihood": "gaussian"}], [2, 8], 3)]
    frame = tidy([(each, "s") for each in made])
    twice = pd.concat([frame, frame])
    found = score_table(twice, "elbo")
    assert found.shape == (3, 2)
    assert found.loc[1].tolist() == frame.loc[frame["seed"] == 1, "elbo"].tolist()


def test_seeds_of_one_pack_are_one_timing() -> None:
    made = [record(cell) for cell in cells([{"likelihood": "gaussian"}], [2], 3)]
    frame = tidy([(each, "s") for each in made]).assign(samples_per_second=9.0, pack_size=3.0)
    assert score_table(frame, "samples_per_second").notna().sum().item() == 1
    assert score_table(frame.assign(pack_size=1.0), "samples_per_second").notna().sum().item() == 3
