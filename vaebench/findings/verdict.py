"""Turn a measured number into a verdict on a claim."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from vaebench.grid.values import plural

Verdict = Literal[
    "reproduced",
    "contradicted",
    "shown at this budget",
    "not shown at this budget",
    "inconclusive",
    "not tested",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Code = Literal["", "straddles", "few seeds", "not finite", "no records", "no data", "no test"]
"""The reason why a finding is inconclusive or not tested; empty for other verdicts."""

Basis = Literal["exact", "extreme", "seeds", "images", "seeds and images"]


class Untested(LookupError):
    """The records do not contain something that a statistic needs; the message names it."""


@dataclass(frozen=True)
class Statistic:
    """The measured number of a claim.

    Attributes:
        value: the number, in `unit`.
        low, high: ends of its 95 % interval; NaN if there is only one seed.
        n: number of seeds; for an extreme over cells the number of cells; 1 for an exact number.
        unit: unit of `value`, `low` and `high`.
        basis: the uncertainty that the interval includes: the spread over seeds, the sampling
            error of the test images, or both. An `extreme` over cells and an `exact` number have
            no interval.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str
    basis: Basis = "seeds"

    @property
    def has_interval(self) -> bool:
        """Whether a verdict on this number is based on an interval."""
        return self.basis not in ("exact", "extreme") and self.low < self.high


@dataclass(frozen=True)
class Margin:
    """The range of values of a statistic for which its claim is true.

    Attributes:
        low, high: ends of the range; one of them may be infinite.
        strict: whether the finite end is excluded. For example, the claim "the bound rises" is
            false if the gain is exactly 0.

    Raises:
        ValueError: low > high, no end is finite, or ``strict`` with two finite ends.
    """

    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ValueError(
                "a margin must have low <= high and at least one finite end; got "
                f"low = {self.low}, high = {self.high}"
            )
        if self.strict and math.isfinite(self.low) and math.isfinite(self.high):
            raise ValueError(
                f"a strict margin must have one finite end; got {self.low} and {self.high}"
            )

    def text(self) -> str:
        """Return the margin in words.

        >>> Margin(low=1.0).text(), Margin(high=2.0).text(), Margin(-1.0, 1.0).text()
        ('at least 1', 'at most 2', '-1 to 1')
        >>> Margin(low=0.0, strict=True).text()
        'more than 0'
        """
        if math.isinf(self.high):
            return f"{'more than' if self.strict else 'at least'} {self.low:g}"
        if math.isinf(self.low):
            return f"{'less than' if self.strict else 'at most'} {self.high:g}"
        return f"{self.low:g} to {self.high:g}"

    def holds(self, low: float, high: float) -> bool:
        """Return whether the whole interval is inside the margin."""
        if self.strict:
            return self.low < low and high < self.high
        return self.low <= low and high <= self.high

    def misses(self, low: float, high: float) -> bool:
        """Return whether the whole interval is outside the margin, on one side."""
        if self.strict:
            return high <= self.low or low >= self.high
        return high < self.low or low > self.high


@dataclass(frozen=True)
class Judgement:
    """A verdict, with code and reason if the finding is inconclusive or not tested."""

    verdict: Verdict
    code: Code = ""
    reason: str = ""


def judge(
    statistic: Statistic, margin: Margin, least_seeds: int, *, whole_setting: bool = True
) -> Judgement:
    """Compare the interval of a statistic with a margin.

    The claim is reproduced if the whole interval is inside the margin, and contradicted if the
    whole interval is outside on one side. Otherwise, or with too few seeds, the finding is
    inconclusive. For a number without an interval, the number itself is compared.

    Args:
        statistic: the measured number.
        margin: the range in which the claim is true.
        least_seeds: minimum number of seeds.
        whole_setting: whether the records meet the whole setting of the claim. Otherwise the
            verdict is "shown at this budget" or "not shown at this budget".
    """
    if not math.isfinite(statistic.value):
        return Judgement("inconclusive", "not finite", "the statistic is not finite")
    if statistic.n < least_seeds:
        text = f"{plural(statistic.n, 'seed')}; the test needs {least_seeds}"
        return Judgement("inconclusive", "few seeds", text)
    low, high = statistic.low, statistic.high
    if math.isnan(low) or math.isnan(high):
        low = high = statistic.value
    if margin.holds(low, high):
        return Judgement("reproduced" if whole_setting else "shown at this budget")
    if margin.misses(low, high):
        return Judgement("contradicted" if whole_setting else "not shown at this budget")
    return Judgement("inconclusive", "straddles", "the interval straddles the margin")
