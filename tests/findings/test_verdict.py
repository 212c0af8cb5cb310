"""The rule: interval against margin, seeds against the least number."""

import math
from typing import get_args

import pandas as pd
import pytest
from scipy import stats

from vaebench.findings.evidence import over_seeds_and_images
from vaebench.findings.verdict import VERDICTS, Code, Margin, Statistic, judge


def seeds(low: float, high: float, n: int = 5) -> Statistic:
    return Statistic((low + high) / 2, low, high, n, "nats")


@pytest.mark.parametrize(
    ("statistic", "margin", "verdict"),
    [
        pytest.param(seeds(1.1, 2.0), Margin(low=1.0), "reproduced", id="above a low end"),
        pytest.param(seeds(1.0, 2.0), Margin(low=1.0), "reproduced", id="the end belongs to it"),
        pytest.param(seeds(1.0, 2.0), Margin(1.0, strict=True), "inconclusive", id="not if strict"),
        pytest.param(seeds(1.1, 2.0), Margin(1.0, strict=True), "reproduced", id="strictly above"),
        pytest.param(seeds(1.0, 1.0), Margin(1.0, strict=True), "contradicted", id="the very end"),
        pytest.param(
            seeds(0.0, 0.0), Margin(high=0.0, strict=True), "contradicted", id="the upper end"
        ),
        pytest.param(seeds(0.9, 2.0), Margin(low=1.0), "inconclusive", id="straddles"),
        pytest.param(seeds(0.1, 1.0), Margin(low=1.0), "inconclusive", id="touches a low end"),
        pytest.param(seeds(2.0, 3.0), Margin(high=2.0), "inconclusive", id="touches a high end"),
        pytest.param(seeds(0.1, 0.9), Margin(low=1.0), "contradicted", id="below a low end"),
        pytest.param(seeds(2.1, 3.0), Margin(high=2.0), "contradicted", id="above a high end"),
        pytest.param(seeds(-0.5, 0.5), Margin(-1, 1), "reproduced", id="within two ends"),
        pytest.param(seeds(-2, 2), Margin(-1, 1), "inconclusive", id="wider than two ends"),
        pytest.param(seeds(1.1, 2.0, n=2), Margin(low=1.0), "inconclusive", id="too few seeds"),
        pytest.param(seeds(math.nan, 1), Margin(low=1.0), "inconclusive", id="not finite"),
    ],
)
def test_an_interval_is_judged_by_its_margin(statistic, margin, verdict):
    assert judge(statistic, margin, least_seeds=3).verdict == verdict


def test_one_seed_stands_for_itself_where_one_is_enough():
    one = Statistic(86.9, math.nan, math.nan, 1, "nats")
    assert judge(one, Margin(85.6, 89.0), 1).verdict == "reproduced"
    assert judge(one, Margin(85.6, 86.0), 1).verdict == "contradicted"
    assert judge(one, Margin(85.6, 89.0), 3).verdict == "inconclusive"
    few = judge(one, Margin(85.6, 89.0), 3)
    assert (few.code, "3" in few.reason) == ("few seeds", True)


def test_the_interval_decides_and_not_its_mean():
    """A mean inside the margin is not enough, nor a mean outside of it."""
    for mean in (1.1, 0.9):
        straddling = Statistic(mean, mean - 0.5, mean + 0.5, 5, "nats")
        judged = judge(straddling, Margin(low=1.0), 3)
        assert (judged.verdict, judged.code) == ("inconclusive", "straddles")


@pytest.mark.parametrize(
    ("statistic", "whole", "below"),
    [
        (seeds(1.1, 2.0), "reproduced", "shown at this budget"),
        (seeds(0.1, 0.2), "contradicted", "not shown at this budget"),
        (seeds(0.9, 2.0), "inconclusive", "inconclusive"),
    ],
)
def test_below_the_whole_setting_a_verdict_is_about_the_budget(statistic, whole, below):
    margin = Margin(low=1.0)
    assert judge(statistic, margin, 3).verdict == whole
    assert judge(statistic, margin, 3, whole_setting=False).verdict == below


def test_an_interval_over_images_adds_to_that_over_seeds_in_quadrature():
    values, errors = pd.Series([86.0, 87.0, 88.0]), pd.Series([0.5, 0.5, 0.5])
    found = over_seeds_and_images(values, errors)
    over = stats.t.ppf(0.975, 2) * 1 / math.sqrt(3)
    half = math.hypot(over, stats.norm.ppf(0.975) * 0.5)
    assert found.value == 87.0
    assert (found.low, found.high) == pytest.approx((87 - half, 87 + half), abs=1e-5)
    assert found.basis == "seeds and images"
    one = over_seeds_and_images(values[:1], errors)
    assert (one.high - one.low) / 2 == pytest.approx(stats.norm.ppf(0.975) * 0.5, abs=1e-5)
    assert one.basis == "images"


@pytest.mark.parametrize("ends", [(2.0, 1.0), (-math.inf, math.inf), (math.nan, 1.0)])
def test_a_margin_has_ends_in_order(ends):
    with pytest.raises(ValueError, match="low <= high and at least one finite end"):
        Margin(*ends)


def test_the_verdicts_are_those_of_the_contract():
    given = {"reproduced", "contradicted", "shown at this budget", "not shown at this budget"}
    assert set(VERDICTS) == given | {"inconclusive", "not tested"}
    assert {"straddles", "few seeds", "not finite"} < set(get_args(Code))


def test_an_exact_number_is_its_own_interval_and_needs_no_seeds():
    exact = Statistic(0.25, 0.25, 0.25, 1, "nats", "exact")
    assert (exact.value, exact.low, exact.high, exact.n) == (0.25, 0.25, 0.25, 1)
    assert (exact.unit, exact.basis, exact.has_interval) == ("nats", "exact", False)
    assert judge(exact, Margin(0.2, 0.3), 1).verdict == "reproduced"


@pytest.mark.parametrize(
    ("statistic", "rests"),
    [
        (seeds(1.0, 2.0), True),
        (Statistic(1.5, 1.0, 2.0, 1, "nats", "images"), True),
        (seeds(1.0, 1.0), False),
        (Statistic(86.9, math.nan, math.nan, 1, "nats"), False),
        (Statistic(1.5, 1.0, 2.0, 4, "nats", "extreme"), False),
    ],
)
def test_a_verdict_rests_on_an_interval_with_a_width(statistic, rests):
    assert statistic.has_interval == rests
