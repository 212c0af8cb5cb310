"""Finding: a published claim as plain data, and how records decide it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

import pandas as pd
from pydantic import JsonValue

from vaebench.findings.evidence import Evidence, rows_of, select
from vaebench.findings.settings import BUDGETS, PART_NAMES, Budget, Setting
from vaebench.findings.verdict import (
    VERDICTS,
    Judgement,
    Margin,
    Statistic,
    Untested,
    Verdict,
    judge,
)
from vaebench.grid.cell import Cell

__all__ = ["Assessed", "Counts", "Finding", "Measured", "Method", "assess", "fact_payload"]

Measured = tuple[Statistic, Mapping[str, JsonValue]]

_ANY = Setting("any model and data", published=False)
_EPOCHS_OF_HOURS = 1000
"""A training of more epochs takes hours on a CPU."""


@dataclass(frozen=True)
class Method:
    """How a finding is measured: from records of cells, or by a computation.

    Attributes:
        statistic: computes the number from records.
        cells: the cells to train, by budget.
        fallbacks: cells of smaller tests, used in this order where the records of `cells` do not
            suffice; they are read and never trained.
        compute: for mathematics: the statistic and the numbers behind it.
        data: data sets whose own numbers (spectrum, entropies) the statistic needs.
        revision: of `compute`; raised when the computation changes, so that records are renewed.

    Raises:
        ValueError: there is neither a statistic nor a computation, or both.
    """

    statistic: Callable[[Evidence], Statistic] | None = None
    cells: Callable[[Budget], tuple[Cell, ...]] = lambda _: ()
    fallbacks: Callable[[Budget], tuple[tuple[Cell, ...], ...]] = lambda _: ()
    compute: Callable[[], Measured] | None = None
    data: Callable[[Budget], tuple[str, ...]] = lambda _: ()
    revision: int = 1

    def __post_init__(self) -> None:
        if (self.statistic is None) == (self.compute is None):
            raise ValueError("a finding has either a statistic or a computation")


@dataclass(frozen=True)
class Finding(Method):
    """One published claim with its test.

    Attributes:
        name: unique id.
        family: topic; `vaebench reproduce FAMILY` tests all findings of a family.
        claim: the claim in our words.
        source: paper, section or table.
        statements: numbers of the tutorial's statements (T...) and of the list of claims.
        measure: the statistic, in one line.
        margins: the range of the statistic in which the claim holds, by budget.
        untested: by budget, why there is no test.
        setting: what the claim was made for; records below it cannot reproduce or contradict it.
        identity: whether the claim is always true if the code is right: mathematics, or a check of
            the records. Identities are counted apart from claims that could have been false.
        least_seeds: fewer seeds leave the finding inconclusive.
        proxy: the measured quantity, if it is not the published one.
        version: counts the changes of the definition, from 1.
        since: the day from which the definition is as it is.
        recorded: the digest of the definition that has this version.
        after_results: whether results of this claim had been seen when the definition changed.
    """

    name: str = ""
    family: str = ""
    claim: str = ""
    source: str = ""
    statements: tuple[str, ...] = ()
    measure: str = ""
    margins: Mapping[Budget, Margin] = field(default_factory=dict)
    untested: Mapping[Budget, str] = field(default_factory=dict)
    setting: Setting = _ANY
    identity: bool = False
    least_seeds: int = 3
    proxy: str = ""
    version: int = 1
    since: date | None = None
    recorded: str = ""
    after_results: bool = False

    @property
    def definition(self) -> str:
        """A digest of what decides: measure, margins, setting, least seeds and computation.

        The wording of the claim and of its setting may change without a new version.
        """
        setting = self.setting
        parts = (setting.data, setting.network, setting.optimizer, setting.initialization)
        decisive = (
            self.measure,
            sorted((budget, margin.text()) for budget, margin in self.margins.items()),
            [sorted((axis, repr(values)) for axis, values in part.items()) for part in parts],
            setting.iterations,
            self.least_seeds,
            self.revision,
        )
        return hashlib.sha256(repr(decisive).encode()).hexdigest()[:12]

    @property
    def history(self) -> str:
        """Version and date of the definition in words; empty where it has no date."""
        if self.since is None:
            return ""
        seen = ", changed after results were seen" if self.after_results else ""
        return f"version {self.version} of {self.since.isoformat()}{seen}"

    @property
    def kind(self) -> Literal["cells", "mathematics"]:
        """Whether records of cells or a computation decide it."""
        return "cells" if self.compute is None else "mathematics"

    @property
    def fact_id(self) -> str:
        """Name of the record that a finding of mathematics leaves."""
        return f"finding-{self.name}"

    @property
    def cost(self) -> str:
        """The cost of the test, in words."""
        if self.kind == "mathematics":
            return "mathematics, seconds, no cells"
        return "; ".join(f"{budget}: {self._price(budget)}" for budget in BUDGETS)

    def _price(self, budget: Budget) -> str:
        if budget in self.untested:
            return "not tested"
        cells = self.cells(budget)
        images = sorted({cell.dataset for cell in cells})
        small = set(images) <= {"digits", "linear-gaussian"}
        each = "a second or two each" if small else "minutes each"
        if max(cell.epochs for cell in cells) > _EPOCHS_OF_HOURS:
            each = "hours each on a CPU"
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        return f"{count} of {' and '.join(images)}, {each}"


@dataclass(frozen=True)
class Assessed:
    """A finding with its measured number and its verdict.

    Attributes:
        shortfall: the parts of the setting that the records do not meet, each with what differs.
        cells: the cells whose records were judged.
    """

    finding: Finding
    budget: Budget
    statistic: Statistic | None
    judgement: Judgement
    shortfall: Mapping[str, str] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()

    @property
    def margin(self) -> Margin | None:
        """The margin of this budget; None where it has none."""
        return self.finding.margins.get(self.budget)

    @property
    def truncation(self) -> str:
        """How the test falls short of the claim's setting and measure; empty if it does not."""
        told = [f"{part}: {text}" for part, text in self.shortfall.items()]
        proxy = [self.finding.proxy] if self.finding.proxy and self.statistic is not None else []
        return "; ".join(told + proxy)


@dataclass(frozen=True)
class Counts:
    """How many findings have each verdict: claims, which could have been false, and identities.

    Attributes:
        claims, identities: verdict -> number of findings, without zeros.
        on_intervals: decided verdicts that rest on a 95 % interval.
    """

    claims: Mapping[Verdict, int]
    identities: Mapping[Verdict, int]
    on_intervals: int

    @classmethod
    def of(cls, rows: Sequence[Assessed]) -> "Counts":
        """Count the verdicts of these findings."""

        def count(*, identity: bool) -> dict[Verdict, int]:
            found = [r.judgement.verdict for r in rows if r.finding.identity is identity]
            return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}

        decided = [r.statistic for r in rows if r.statistic is not None and not r.judgement.code]
        on_intervals = sum(statistic.has_interval for statistic in decided)
        return cls(count(identity=False), count(identity=True), on_intervals)

    @property
    def expected_false(self) -> float:
        """Verdicts expected to be wrong by chance: an interval misses its margin's end by 0.025."""
        return 0.025 * self.on_intervals

    def text(self) -> str:
        """The counts in words."""
        parts = []
        kinds = ((self.claims, "claim"), (self.identities, "identity"))
        for counts, name in kinds:
            total = sum(counts.values())
            if total:
                plural = f"{name}s" if name == "claim" else "identities and checks of records"
                each = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
                parts.append(f"{total} {name if total == 1 else plural}: {each}")
        if self.on_intervals:
            parts.append(
                f"{self.on_intervals} of these verdicts rest on 95 % intervals; about "
                f"{self.expected_false:.1g} of them are expected to be wrong by chance (0.025 each)"
            )
        return ". ".join(parts) or "no findings"


def assess(finding: Finding, evidence: Evidence, budget: Budget) -> Assessed:
    """Judge a finding by records alone; the same records give the same verdict.

    The records of the whole test decide. Where they lack a cell or have too few seeds, the first
    of the smaller tests with enough seeds decides, below the setting of the claim.
    """
    if budget in finding.untested:
        reason = Judgement("not tested", "no test", finding.untested[budget])
        return Assessed(finding, budget, None, reason)
    if finding.compute is not None:
        return _assess_fact(finding, evidence, budget)
    attempts = (finding.cells(budget), *finding.fallbacks(budget))
    found = [_assess_cells(finding, evidence, budget, cells) for cells in attempts]
    tested = [each for each in found if each.statistic is not None]
    enough = [
        each
        for each in tested
        if each.statistic is not None and each.statistic.n >= finding.least_seeds
    ]
    return (enough or tested or found)[0]


def _assess_cells(
    finding: Finding, evidence: Evidence, budget: Budget, cells: tuple[Cell, ...]
) -> Assessed:
    rows = rows_of(evidence.frame, cells)
    try:
        if finding.statistic is None or rows.empty:
            raise Untested("none of its cells has a record")
        statistic = finding.statistic(replace(evidence, frame=rows, asked=cells))
    except Untested as error:
        return Assessed(finding, budget, None, Judgement("not tested", "no records", str(error)))
    shortfall = finding.setting.shortfall(_longest(rows))
    judged = judge(
        statistic, finding.margins[budget], finding.least_seeds, whole_setting=not shortfall
    )
    return Assessed(finding, budget, statistic, judged, shortfall, cells)


def _longest(rows: pd.DataFrame) -> pd.DataFrame:
    """The finished rows of the longest training: the others are what it is compared with."""
    done = select(rows)
    return select(done, epochs=done["epochs"].max())


def _assess_fact(finding: Finding, evidence: Evidence, budget: Budget) -> Assessed:
    try:
        statistic = _fact_statistic(finding, evidence)
    except Untested as error:
        return Assessed(finding, budget, None, Judgement("not tested", "no records", str(error)))
    # A computation is not a training: it never meets the setting of a trained model.
    parts = [name for name in PART_NAMES[:-1] if getattr(finding.setting, name)]
    shortfall = dict.fromkeys(parts, "a small computation")
    judged = judge(
        statistic, finding.margins[budget], finding.least_seeds, whole_setting=not shortfall
    )
    return Assessed(finding, budget, statistic, judged, shortfall)


def fact_payload(finding: Finding) -> dict[str, JsonValue]:
    """Compute a finding that is mathematics: the payload of its record.

    Raises:
        ValueError: cells decide this finding.
    """
    if finding.compute is None:
        raise ValueError(f"{finding.name} is decided by cells and computes nothing itself")
    statistic, details = finding.compute()
    return {
        "finding": finding.name,
        "revision": finding.revision,
        "value": statistic.value,
        "low": statistic.low,
        "high": statistic.high,
        "n": statistic.n,
        "unit": statistic.unit,
        "details": dict(details),
    }


def _fact_statistic(finding: Finding, evidence: Evidence) -> Statistic:
    """Read the statistic of a finding of mathematics from its record."""
    payload = evidence.facts.get(finding.fact_id)
    if payload is None:
        raise Untested("it has not been computed in this store")
    if payload.get("revision") != finding.revision:
        raise Untested("its record is of another revision of the computation")
    value, low, high, n = (_number(payload[key]) for key in ("value", "low", "high", "n"))
    return Statistic(value, low, high, int(n), str(payload["unit"]), "exact")


def _number(value: JsonValue) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Untested(f"its record holds {value!r} instead of a number")
    return float(value)
