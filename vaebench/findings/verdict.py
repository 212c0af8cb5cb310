"""How a measured number becomes a verdict on a claim."""

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
"""Why a finding is inconclusive or not tested; empty for the other verdicts."""

Basis = Literal["exact", "extreme", "seeds", "images", "seeds and images"]


class Untested(LookupError):
    """The records lack something that a statistic needs; the message says what."""


@dataclass(frozen=True)
class Statistic:
    """The measured number of a claim.

    Attributes:
        value: the number, in `unit`.
        low, high: ends of its 95 % interval; NaN where one seed has none.
        n: number of seeds; for an extreme over cells, the number of cells; 1 if exact.
        unit: unit of `value`, `low` and `high`.
        basis: what the interval holds: the spread over seeds, the sampling error of the test
            images, or both. An `extreme` over cells and an `exact` number have no interval.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str
    basis: Basis = "seeds"

    @classmethod
    def exact(cls, value: float, unit: str) -> "Statistic":
        """A number without a spread."""
        return cls(value, value, value, 1, unit, "exact")

    @property
    def has_interval(self) -> bool:
        """Whether a verdict on this number rests on an interval."""
        return self.basis not in ("exact", "extreme") and self.low < self.high


@dataclass(frozen=True)
class Margin:
    """The range of a statistic in which its claim holds.

    The ends are included, unless ``strict``: an identity such as "the bound rises" does not hold
    where the step is exactly 0.

    Raises:
        ValueError: low > high, no finite end, or two finite ends with ``strict``.
    """

    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise ValueError(
                f"a margin needs low <= high and a finite end, got {self.low} and {self.high}"
            )
        if self.strict and math.isfinite(self.low) and math.isfinite(self.high):
            raise ValueError(f"a strict margin has one end, got {self.low} and {self.high}")

    def text(self) -> str:
        """The margin in words.

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
        """Whether the whole interval is inside the margin."""
        if self.strict:
            return self.low < low and high < self.high
        return self.low <= low and high <= self.high

    def misses(self, low: float, high: float) -> bool:
        """Whether the whole interval is outside the margin, on one side."""
        if self.strict:
            return high <= self.low or low >= self.high
        return high < self.low or low > self.high


@dataclass(frozen=True)
class Judgement:
    """A verdict; its code and reason say why a finding is inconclusive or not tested."""

    verdict: Verdict
    code: Code = ""
    reason: str = ""


def judge(
    statistic: Statistic, margin: Margin, least_seeds: int, *, whole_setting: bool = True
) -> Judgement:
    """Compare the interval of a statistic with a margin.

    The claim holds if the whole interval is inside the margin, and fails if the whole interval is
    outside on one side. Otherwise, or with fewer than `least_seeds` seeds, the finding is
    inconclusive. A number without an interval is compared itself.

    Args:
        whole_setting: whether the records meet the whole setting of the claim. If not, the verdict
            is only about the present budget.
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
