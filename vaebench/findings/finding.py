"""Finding: a published claim as plain data, and how it is judged by records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pydantic import JsonValue

from vaebench.findings.evidence import Evidence, rows_of
from vaebench.findings.verdict import Judgement, Margin, Statistic, Untested, judge
from vaebench.grid.cell import Cell

__all__ = ["BUDGETS", "Assessed", "Budget", "Finding", "assess", "fact_payload", "fact_statistic"]

Budget = Literal["quick", "full"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)

Measured = tuple[Statistic, Mapping[str, JsonValue]]

_EPOCHS_OF_HOURS = 1000
"""A training of more epochs is one of hours on a CPU."""


def _no_cells(_: Budget) -> tuple[Cell, ...]:
    return ()


@dataclass(frozen=True)
class Finding:
    """One published claim with its test.

    Attributes:
        name: the id, unique.
        family: what it is about; `vaebench reproduce FAMILY` takes all of a family.
        claim: in our words.
        source: paper, section or table.
        statements: numbers of the tutorial's statements (T...) and of the list of claims.
        measure: what the statistic is, in one line.
        margins: where the statistic must lie for the claim to hold, by budget.
        statistic: the measured number from records alone, of a finding that needs cells.
        cells: what has to be run, by budget; empty where the budget can't test it.
        compute: of a finding that is mathematics: its statistic and what it was made from.
        least_seeds: fewer decide nothing.
        truncation: by budget, how the test falls short of the published setting.
        untested: by budget, why it is not tested there.
        data: data sets whose own numbers (spectrum, entropies) the statistic needs.
        revision: of `compute`; raised when it changes, so that an old record is made anew.
    """

    name: str
    family: str
    claim: str
    source: str
    statements: tuple[str, ...]
    measure: str
    margins: Mapping[Budget, Margin]
    statistic: Callable[[Evidence], Statistic] | None = None
    cells: Callable[[Budget], tuple[Cell, ...]] = _no_cells
    compute: Callable[[], Measured] | None = None
    least_seeds: int = 3
    truncation: Mapping[Budget, str] = field(default_factory=dict)
    untested: Mapping[Budget, str] = field(default_factory=dict)
    data: Callable[[Budget], tuple[str, ...]] = lambda _: ()
    revision: int = 1

    def __post_init__(self) -> None:
        if (self.statistic is None) == (self.compute is None):
            raise ValueError(f"{self.name}: a finding has either cells or mathematics behind it")

    @property
    def kind(self) -> Literal["cells", "mathematics"]:
        """Whether records of cells or a computation of its own decide it."""
        return "cells" if self.compute is None else "mathematics"

    @property
    def fact_id(self) -> str:
        """Name of the record that a finding of mathematics leaves."""
        return f"finding-{self.name}"

    @property
    def cost(self) -> str:
        """What testing it takes, in words."""
        if self.kind == "mathematics":
            return "mathematics, seconds, no cells"
        return "; ".join(f"{budget}: {self._price(budget)}" for budget in BUDGETS)

    def _price(self, budget: Budget) -> str:
        if budget in self.untested:
            return "not tested"
        cells = self.cells(budget)
        images = sorted({cell.dataset for cell in cells})
        each = "a second or two each" if images == ["digits"] else "minutes each"
        if max(cell.epochs for cell in cells) > _EPOCHS_OF_HOURS:
            each = "hours each on a CPU"
        count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        return f"{count} of {' and '.join(images)}, {each}"


@dataclass(frozen=True)
class Assessed:
    """A finding with what was measured and the verdict."""

    finding: Finding
    budget: Budget
    statistic: Statistic | None
    judgement: Judgement

    @property
    def margin(self) -> Margin | None:
        """The margin of this budget; None where it has none."""
        return self.finding.margins.get(self.budget)

    @property
    def truncation(self) -> str:
        """How the test falls short of the published setting; empty if it does not."""
        return self.finding.truncation.get(self.budget, "")


def assess(finding: Finding, evidence: Evidence, budget: Budget) -> Assessed:
    """Judge a finding by records alone; the same records give the same verdict."""
    if budget in finding.untested:
        return Assessed(finding, budget, None, Judgement("not tested", finding.untested[budget]))
    try:
        statistic = _statistic(finding, evidence, budget)
    except Untested as error:
        return Assessed(finding, budget, None, Judgement("not tested", str(error)))
    judged = judge(statistic, finding.margins[budget], finding.least_seeds)
    return Assessed(finding, budget, statistic, judged)


def _statistic(finding: Finding, evidence: Evidence, budget: Budget) -> Statistic:
    if finding.statistic is None:
        return fact_statistic(finding, evidence)
    cells = finding.cells(budget)
    own = rows_of(evidence.frame, cells)
    if own.empty:
        raise Untested("none of its cells has a record")
    return finding.statistic(replace(evidence, frame=own, asked=cells))


def fact_payload(finding: Finding) -> dict[str, JsonValue]:
    """Compute a finding that is mathematics: the payload of its record."""
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


def fact_statistic(finding: Finding, evidence: Evidence) -> Statistic:
    """Read the statistic of a finding of mathematics from its record.

    Raises:
        Untested: there is no record, or one of another revision.
    """
    payload = evidence.facts.get(finding.fact_id)
    if payload is None:
        raise Untested("it has not been computed in this store")
    if payload.get("revision") != finding.revision:
        raise Untested("its record is of another revision of the computation")
    value, low, high = (_number(payload[key]) for key in ("value", "low", "high"))
    return Statistic(value, low, high, int(_number(payload["n"])), str(payload["unit"]))


def _number(value: JsonValue) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Untested(f"its record holds {value!r} where a number belongs")
    return float(value)
