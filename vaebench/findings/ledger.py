"""The ledger of margins: the version and date of each finding, as data beside the code.

`ledger.toml` is written by hand whenever a definition changes. A test compares it with the
definitions, so a margin cannot change without a new version, a date, and a word on whether results
had been seen by then.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

from vaebench.findings.finding import Finding

__all__ = ["Entry", "definition", "ledger", "outdated_entries"]


@dataclass(frozen=True)
class Entry:
    """What the ledger says of one finding.

    Attributes:
        version: counts the changes of the definition, from 1.
        since: the day from which the definition is as it is.
        definition: the digest of that definition.
        after_results: whether results of this claim had been seen when the definition changed.
    """

    version: int
    since: date
    definition: str
    after_results: bool = False

    def text(self) -> str:
        """The entry in words.

        >>> Entry(2, date(2026, 11, 28), "", True).text()
        'version 2 of 2026-11-28, changed after results were seen'
        """
        seen = ", changed after results were seen" if self.after_results else ""
        return f"version {self.version} of {self.since.isoformat()}{seen}"


@cache
def ledger() -> Mapping[str, Entry]:
    """Every entry by the name of its finding."""
    text = resources.files("vaebench.findings").joinpath("ledger.toml").read_text("utf-8")
    return {name: Entry(**values) for name, values in tomllib.loads(text).items()}


def definition(finding: Finding) -> str:
    """A digest of what decides a finding: its measure, margins, setting and least seeds.

    The wording of the claim and of its setting may change without a new version.
    """
    setting = finding.setting
    parts = (setting.data, setting.network, setting.optimizer, setting.initialization)
    decisive = (
        finding.measure,
        sorted((budget, margin.text()) for budget, margin in finding.margins.items()),
        [sorted((axis, repr(values)) for axis, values in part.items()) for part in parts],
        setting.iterations,
        finding.least_seeds,
        finding.revision,
    )
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:12]


def outdated_entries(findings: Iterable[Finding]) -> list[str]:
    """A line for each finding whose ledger entry is missing or of another definition."""
    entries = ledger()
    lines = []
    for finding in findings:
        entry, digest = entries.get(finding.name), definition(finding)
        if entry is None:
            lines.append(f"{finding.name}: no entry; its definition is {digest}")
        elif entry.definition != digest:
            lines.append(
                f"{finding.name}: the definition changed to {digest}; raise version "
                f"{entry.version}, set the date, and say whether results had been seen"
            )
    return lines
