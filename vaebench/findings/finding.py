"""`Finding`: a published claim as plain data, with the test that decides it from records."""

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
"""An exact number, its unit, and the intermediate numbers from which it was computed."""

_ANY = Setting("any model and data", published=False)
_EPOCHS_OF_HOURS = 1000
"""Number of epochs above which a training takes hours on a CPU."""


@dataclass(frozen=True)
class Method:
    """How a finding is measured: from records of cells, or by a computation.

    Attributes:
        statistic: computes the number from records.
        cells: returns the cells to train for a budget.
        fallbacks: returns cells of smaller tests. They are used in this order if the records of
            `cells` are not sufficient; they are never trained.
        compute: computes the number without records.
        of_data: whether the statistic needs properties of the data sets, such as the spectrum.
        revision: revision of `compute`; increased when the computation changes, so that it is
            computed again.

    Raises:
        ValueError: not exactly one of `statistic` and `compute` is given.
    """

    statistic: Callable[[Evidence], Statistic] | None = None
    cells: Callable[[Budget], tuple[Cell, ...]] = lambda _: ()
    fallbacks: Callable[[Budget], tuple[tuple[Cell, ...], ...]] = lambda _: ()
    compute: Callable[[], Measured] | None = None
    of_data: bool = False
    revision: int = 1

    def __post_init__(self) -> None:
        if (self.statistic is None) == (self.compute is None):
            raise ValueError(
                "a finding must have either a statistic or a computation; got "
                + ("neither" if self.compute is None else "both")
            )


@dataclass(frozen=True)
class Finding(Method):
    """One published claim with its test.

    Attributes:
        name: unique id.
        family: topic; `vaebench reproduce FAMILY` tests all findings of a family.
        claim: the claim in our words.
        source: paper, section or table.
        statements: ids of the statements in the tutorial (T...) and in the list of claims.
        measure: the statistic, in one line.
        margins: the range of the statistic in which the claim is true, by budget.
        untested: the reason why there is no test, by budget.
        setting: the conditions of the claim. Records that do not meet them can neither reproduce
            nor contradict it.
        identity: whether the claim is always true if the code is correct: mathematics, or a check
            of the records. Identities are counted separately from claims that could be false.
        least_seeds: minimum number of seeds; with fewer the finding is inconclusive.
        proxy: the measured quantity, if it is not the published one.
        version: number of the definition, from 1.
        since: date of the present definition.
        recorded: digest of the definition with this version.
        after_results: whether the definition was changed after results had been seen.
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
        """Digest of everything that decides the verdict: measure, margins, setting, seeds.

        A new wording of the claim or of its setting does not need a new version.
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
        """Version and date of the definition in words; empty if it has no date."""
        if self.since is None:
            return ""
        seen = ", changed after results were seen" if self.after_results else ""
        return f"version {self.version} of {self.since.isoformat()}{seen}"

    @property
    def kind(self) -> Literal["cells", "mathematics"]:
        """Whether the finding is decided by records of cells or by a computation."""
        return "cells" if self.compute is None else "mathematics"

    @property
    def fact_id(self) -> str:
        """Id of the record with the result of the computation."""
        return f"finding-{self.name}"

    def data(self, budget: Budget) -> set[str]:
        """Return the data sets whose properties the statistic needs."""
        return {cell.dataset for cell in self.cells(budget)} if self.of_data else set()

    @property
    def cost(self) -> str:
        """Cost of the test, in words."""
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
        shortfall: the parts of the setting that the records do not meet, each with the
            differing values.
        cells: the cells whose records were used.
    """

    finding: Finding
    budget: Budget
    statistic: Statistic | None
    judgement: Judgement
    shortfall: Mapping[str, str] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()

    @property
    def margin(self) -> Margin | None:
        """Margin of this budget, or None if the budget has no test."""
        return self.finding.margins.get(self.budget)

    @property
    def truncation(self) -> str:
        """What the records lack of the setting of the claim; empty if they lack nothing."""
        return "; ".join(f"{part}: {text}" for part, text in self.shortfall.items())

    @property
    def proxy(self) -> str:
        """What was measured in place of what was published; empty if it is the same."""
        return "" if self.statistic is None else self.finding.proxy


@dataclass(frozen=True)
class Counts:
    """Number of findings with each verdict, separately for claims and identities.

    Attributes:
        claims, identities: maps a verdict to the number of findings, without zeros.
        on_intervals: number of decided verdicts that are based on a 95 % interval. The probability
            of a wrong verdict by chance is 0.025 for each of them.
    """

    claims: Mapping[Verdict, int]
    identities: Mapping[Verdict, int]
    on_intervals: int

    @classmethod
    def of(cls, rows: Sequence[Assessed]) -> "Counts":
        """Count the verdicts of findings."""
        found = Counter((each.finding.identity, each.judgement.verdict) for each in rows)
        claims, identities = (
            {verdict: found[kind, verdict] for verdict in VERDICTS if found[kind, verdict]}
            for kind in (False, True)
        )
        decided = [each.statistic for each in rows if each.statistic and not each.judgement.code]
        return cls(claims, identities, sum(statistic.has_interval for statistic in decided))

    def text(self) -> str:
        """Return the counts in words."""
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
            verb = "rests" if self.on_intervals == 1 else "rest"
            parts.append(
                f"{self.on_intervals} of these verdicts {verb} on 95 % intervals; about "
                f"{0.025 * self.on_intervals:.1g} of them are expected to be wrong by chance "
                "(0.025 each)"
            )
        return ". ".join(parts) or "no findings"


def assess(finding: Finding, evidence: Evidence, budget: Budget) -> Assessed:
    """Judge a finding from records alone: equal records give equal verdicts.

    The records of the whole test decide. If cells are missing or there are too few seeds, the first
    smaller test (`Method.fallbacks`) with enough seeds decides instead.
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
    """Judge a finding from the records of these cells, or from its recorded computation."""
    try:
        if finding.statistic is None:
            statistic = _fact_statistic(finding, evidence)
            # A computation trains no model, so it never meets the setting of a trained model.
            parts = [name for name in PART_NAMES[:-1] if getattr(finding.setting, name)]
            shortfall = dict.fromkeys(parts, "a small computation")
        else:
            rows = rows_of(evidence.frame, cells)
            if rows.empty:
                raise Untested("none of its cells has a record")
            own = replace(evidence, frame=rows, asked=cells)
            statistic = finding.statistic(own)
            # Only the longest trainings must meet the setting; shorter ones are for comparison.
            done = own.where().frame
            shortfall = finding.setting.shortfall(done[done["epochs"] == done["epochs"].max()])
    except Untested as error:
        return Assessed(finding, budget, None, Judgement("not tested", "no records", str(error)))
    judged = judge(
        statistic, finding.margins[budget], finding.least_seeds, whole_setting=not shortfall
    )
    return Assessed(finding, budget, statistic, judged, shortfall, cells)


def fact_payload(finding: Finding) -> dict[str, JsonValue]:
    """Run the computation of a finding and return the payload of its record.

    Raises:
        ValueError: the finding has no computation.
    """
    if finding.compute is None:
        raise ValueError(f"{finding.name} has no computation: it is decided by records of cells")
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
    """Read the statistic of a finding with a computation from its record."""
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
