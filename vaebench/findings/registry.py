"""The registry of findings: the claims in `claims.toml`, each with its method."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any

from vaebench.errors import UnknownFinding
from vaebench.findings import (
    collapse,
    estimators,
    gaps,
    latent,
    likelihoods,
    linear,
    samples,
    sigma,
    theory,
)
from vaebench.findings.finding import Finding, Method
from vaebench.findings.settings import BUDGETS, PART_NAMES, Setting
from vaebench.findings.verdict import Margin
from vaebench.grid.values import closest

_MODULES = (latent, sigma, likelihoods, estimators, gaps, samples, collapse, linear, theory)


def _setting(entry: Mapping[str, Any]) -> Setting:
    """Make a setting from an entry of `claims.toml`; lists become tuples, as in a cell."""
    accepted = {
        part: {
            axis: tuple(tuple(each) if isinstance(each, list) else each for each in values)
            for axis, values in entry.get(part, {}).items()
        }
        for part in PART_NAMES[:-1]
    }
    return Setting(**{**entry, **accepted})


def _finding(method: Method, entry: dict[str, Any], setting: Setting) -> Finding:
    """Make a finding; each budget of its entry has a margin (dict) or a reason for none (str)."""
    both = entry.pop("margin", None)
    ends = {budget: entry.pop(budget, both) for budget in BUDGETS}
    return Finding(
        **vars(method),
        statements=tuple(entry.pop("statements")),
        margins={budget: Margin(**end) for budget, end in ends.items() if isinstance(end, dict)},
        untested={budget: end for budget, end in ends.items() if isinstance(end, str)},
        setting=setting,
        recorded=entry.pop("definition", ""),
        **entry,
    )


def findings_of(claims: Mapping[str, Any], methods: Mapping[str, Method]) -> Iterator[Finding]:
    """Join the entries of `claims.toml` with the methods of the same names.

    Raises:
        ValueError: an entry has no method, or a method has no entry.
    """
    unmatched = sorted(claims["finding"].keys() ^ methods.keys())
    if unmatched:
        raise ValueError(
            "every finding needs an entry in findings/claims.toml and a method of the same name in "
            f"METHODS of a module of findings/ that _MODULES lists; one of the two is missing for "
            f"{', '.join(unmatched)}"
        )
    settings = {name: _setting(entry) for name, entry in claims["setting"].items()}
    for name, entry in claims["finding"].items():
        setting = settings[entry.pop("setting", "any")]
        yield _finding(methods[name], {"name": name, **entry}, setting)


def _read() -> Iterator[Finding]:
    text = resources.files("vaebench.findings").joinpath("claims.toml").read_text("utf-8")
    methods = {name: of for module in _MODULES for name, of in module.METHODS.items()}
    return findings_of(tomllib.loads(text), methods)


FINDINGS: Mapping[str, Finding] = MappingProxyType({each.name: each for each in _read()})
"""Every finding by its name."""


def changed_definitions(findings: Iterable[Finding]) -> list[str]:
    """Return a message for each finding whose definition changed without a new version."""
    return [
        f"{finding.name}: the definition changed to {finding.definition}; raise version "
        f"{finding.version}, set the date, and say whether results had been seen"
        if finding.recorded
        else f'{finding.name}: add definition = "{finding.definition}" to findings/claims.toml'
        for finding in findings
        if finding.recorded != finding.definition
    ]


def families() -> tuple[str, ...]:
    """Return the families in the order of the registry."""
    return tuple(dict.fromkeys(each.family for each in FINDINGS.values()))


def select_findings(words: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Return the findings with these names or families, in the order of the registry.

    Args:
        words: names and families, or one of them as a string. If empty, all findings are returned.

    Raises:
        UnknownFinding: a word is neither a name nor a family; the message lists all such words.
    """
    words = [words] if isinstance(words, str) else words
    known = {*FINDINGS, *families()}
    unknown = [word for word in words if word not in known]
    if unknown:
        named = ", ".join(f"{word!r}{closest(word, known)}" for word in unknown)
        raise UnknownFinding(
            f"there is no finding or family {named}; families are {', '.join(families())}, and "
            f"`vaebench list findings` shows all"
        )
    return tuple(
        each for each in FINDINGS.values() if not words or {each.name, each.family} & set(words)
    )


def finding_lines() -> Iterator[str]:
    """Yield the lines of `vaebench list findings`: name, source, claim and cost."""
    for each in FINDINGS.values():
        yield f"{each.name:<32} {each.source}; {each.claim}; {each.cost}"
