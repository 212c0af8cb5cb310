"""The one rule by which a measured number becomes a verdict on a claim."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["VERDICTS", "Judgement", "Margin", "Statistic", "Untested", "Verdict", "judge"]

Verdict = Literal["reproduced", "contradicted", "inconclusive", "not tested"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Untested(LookupError):
    """What a statistic needs has not been measured; the message says what."""


@dataclass(frozen=True)
class Statistic:
    """What was measured of a claim.

    Attributes:
        value: the number, in `unit`.
        low, high: ends of its 95 % interval; NaN where one seed has none. Exact mathematics and
            Monte Carlo with its own error bring ends of their own.
        n: seeds behind it; of an extreme over cells, the cells; 1 for exact mathematics.
        unit: of all three.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str

    @classmethod
    def exact(cls, value: float, unit: str) -> "Statistic":
        """A number that has no spread."""
        return cls(value, value, value, 1, unit)


@dataclass(frozen=True)
class Margin:
    """Where a statistic must lie for its claim to hold; fixed before any run.

    The ends are included, unless ``strict``, which a margin with one end may be: a claim that
    something has an effect does not hold where the effect is exactly none. Raises ValueError unless
    low <= high and one end, of a strict one only one, is finite.
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
        """Whether the whole of an interval lies inside."""
        if self.strict:
            return self.low < low and high < self.high
        return self.low <= low and high <= self.high

    def misses(self, low: float, high: float) -> bool:
        """Whether the whole of an interval lies outside, on one side."""
        if self.strict:
            return high <= self.low or low >= self.high
        return high < self.low or low > self.high


@dataclass(frozen=True)
class Judgement:
    """A verdict and, where it is neither reproduced nor contradicted, why."""

    verdict: Verdict
    reason: str = ""


def judge(statistic: Statistic, margin: Margin, least_seeds: int) -> Judgement:
    """Return `reproduced` where the whole interval lies inside the margin, `contradicted` where
    the whole of it lies outside on one side, and else `inconclusive`.

    Fewer seeds than `least_seeds` decide nothing. A single number without an interval stands for
    itself where one seed is enough, as where a published value has a tolerance of its own.
    """
    if not math.isfinite(statistic.value):
        return Judgement("inconclusive", "the statistic is not finite")
    if statistic.n < least_seeds:
        seeds = "1 seed" if statistic.n == 1 else f"{statistic.n} seeds"
        return Judgement("inconclusive", f"{seeds}, and it needs {least_seeds}")
    low, high = statistic.low, statistic.high
    if math.isnan(low) or math.isnan(high):
        low = high = statistic.value
    if margin.holds(low, high):
        return Judgement("reproduced")
    if margin.misses(low, high):
        return Judgement("contradicted")
    return Judgement("inconclusive", "the interval straddles the margin")
