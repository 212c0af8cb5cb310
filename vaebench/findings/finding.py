"""Finding: a published claim as plain data, and how records decide it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

from pydantic import JsonValue

from vaebench.findings.evidence import Evidence, rows_of
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
from vaebench.grid.values import plural

Measured = tuple[float, str, Mapping[str, JsonValue]]
"""An exact number, its unit, and the numbers that it was made from."""

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
        compute: for mathematics: the number and what it was made from.
        of_data: whether the statistic needs numbers of the data sets themselves (spectrum,
            entropies).
        revision: of `compute`; raised when the computation changes, so that records are renewed.

    Raises:
        ValueError: there is neither a statistic nor a computation, or both.
    """

    statistic: Callable[[Evidence], Statistic] | None = None
    cells: Callable[[Budget], tuple[Cell, ...]] = lambda _: ()
    fallbacks: Callable[[Budget], tuple[tuple[Cell, ...], ...]] = lambda _: ()
    compute: Callable[[], Measured] | None = None
    of_data: bool = False
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
        parts = [getattr(self.setting, name) for name in PART_NAMES[:-1]]
        decisive = (
            self.measure,
            sorted((budget, margin.text()) for budget, margin in self.margins.items()),
            [sorted((axis, repr(values)) for axis, values in part.items()) for part in parts],
            self.setting.iterations,
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

    def data(self, budget: Budget) -> set[str]:
        """The data sets whose own numbers the statistic needs."""
        return {cell.dataset for cell in self.cells(budget)} if self.of_data else set()

    @property
    def cost(self) -> str:
        """The cost of the test, in words."""
        if self.kind == "mathematics":
            return "mathematics, seconds, no cells"
        prices = []
        for budget in BUDGETS:
            if budget in self.untested:
                prices.append(f"{budget}: not tested")
                continue
            cells = self.cells(budget)
            images = sorted({cell.dataset for cell in cells})
            small = set(images) <= {"digits", "linear-gaussian"}
            each = "a second or two each" if small else "minutes each"
            if max(cell.epochs for cell in cells) > _EPOCHS_OF_HOURS:
                each = "hours each on a CPU"
            count = plural(len(cells), "cell")
            prices.append(f"{budget}: {count} of {' and '.join(images)}, {each}")
        return "; ".join(prices)


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
        proxy = "" if self.statistic is None else self.finding.proxy
        return "; ".join(filter(None, [*told, proxy]))


@dataclass(frozen=True)
class Counts:
    """How many findings have each verdict: claims, which could have been false, and identities.

    Attributes:
        claims, identities: verdict -> number of findings, without zeros.
        on_intervals: decided verdicts that rest on a 95 % interval. Each is expected to be wrong
            by chance with a probability of 0.025, that its interval misses its margin's end.
    """

    claims: Mapping[Verdict, int]
    identities: Mapping[Verdict, int]
    on_intervals: int

    @classmethod
    def of(cls, rows: Sequence[Assessed]) -> "Counts":
        """Count the verdicts of these findings."""
        found = Counter((each.finding.identity, each.judgement.verdict) for each in rows)
        claims, identities = (
            {verdict: found[kind, verdict] for verdict in VERDICTS if found[kind, verdict]}
            for kind in (False, True)
        )
        decided = [each.statistic for each in rows if each.statistic and not each.judgement.code]
        return cls(claims, identities, sum(statistic.has_interval for statistic in decided))

    def text(self) -> str:
        """The counts in words."""
        parts = []
        for counts, one, several in (
            (self.claims, "claim", "claims"),
            (self.identities, "identity", "identities and checks of records"),
        ):
            if counts:
                total = sum(counts.values())
                each = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
                parts.append(f"{total} {one if total == 1 else several}: {each}")
        if self.on_intervals:
            parts.append(
                f"{self.on_intervals} of these verdicts rest on 95 % intervals; about "
                f"{0.025 * self.on_intervals:.1g} of them are expected to be wrong by chance "
                "(0.025 each)"
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
    tests = (finding.cells(budget), *finding.fallbacks(budget))
    found = [_assess(finding, evidence, budget, cells) for cells in tests]
    tested = [each for each in found if each.statistic]
    least = finding.least_seeds
    enough = [each for each in tested if each.statistic and each.statistic.n >= least]
    return (enough or tested or found)[0]


def _assess(
    finding: Finding, evidence: Evidence, budget: Budget, cells: tuple[Cell, ...]
) -> Assessed:
    """Judge a finding by the records of these cells, or by the fact that it computed."""
    try:
        if finding.statistic is None:
            statistic = _fact_statistic(finding, evidence)
            # A computation is not a training: it never meets the setting of a trained model.
            parts = [name for name in PART_NAMES[:-1] if getattr(finding.setting, name)]
            shortfall = dict.fromkeys(parts, "a small computation")
        else:
            rows = rows_of(evidence.frame, cells)
            if rows.empty:
                raise Untested("none of its cells has a record")
            own = replace(evidence, frame=rows, asked=cells)
            statistic = finding.statistic(own)
            # The longest training decides: the others are what it is compared with.
            done = own.where().frame
            shortfall = finding.setting.shortfall(done[done["epochs"] == done["epochs"].max()])
    except Untested as error:
        return Assessed(finding, budget, None, Judgement("not tested", "no records", str(error)))
    judged = judge(
        statistic, finding.margins[budget], finding.least_seeds, whole_setting=not shortfall
    )
    return Assessed(finding, budget, statistic, judged, shortfall, cells)


def fact_payload(finding: Finding) -> dict[str, JsonValue]:
    """Compute a finding that is mathematics: the payload of its record.

    Raises:
        ValueError: cells decide this finding.
    """
    if finding.compute is None:
        raise ValueError(f"{finding.name} is decided by cells and computes nothing itself")
    value, unit, details = finding.compute()
    return {
        "finding": finding.name,
        "revision": finding.revision,
        **dict.fromkeys(("value", "low", "high"), value),
        "n": 1,
        "unit": unit,
        "details": dict(details),
    }


def _fact_statistic(finding: Finding, evidence: Evidence) -> Statistic:
    """Read the statistic of a finding of mathematics from its record."""
    payload = evidence.facts.get(finding.fact_id)
    if payload is None:
        raise Untested("it has not been computed in this store")
    if payload.get("revision") != finding.revision:
        raise Untested("its record is of another revision of the computation")
    found = [payload[name] for name in ("value", "low", "high", "n")]
    numbers = [float(each) for each in found if isinstance(each, int | float)]
    if len(numbers) < len(found):
        raise Untested(f"its record holds {found} instead of a number each")
    value, low, high, n = numbers
    return Statistic(value, low, high, int(n), str(payload["unit"]), "exact")
