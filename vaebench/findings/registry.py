"""Every finding by name, and how a user's words choose among them."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from vaebench.errors import UnknownFinding
from vaebench.findings.collapse import COLLAPSE
from vaebench.findings.estimators import ESTIMATORS
from vaebench.findings.finding import Finding
from vaebench.findings.latent import LATENT
from vaebench.findings.likelihoods import LIKELIHOOD_FINDINGS
from vaebench.findings.linear import LINEAR
from vaebench.findings.samples import SAMPLES
from vaebench.findings.sigma import SIGMA
from vaebench.findings.theory import THEORY
from vaebench.grid.values import closest

__all__ = ["FINDINGS", "families", "finding_lines", "select_findings"]

_ALL = (
    *LATENT,
    *SIGMA,
    *LIKELIHOOD_FINDINGS,
    *ESTIMATORS,
    *SAMPLES,
    *COLLAPSE,
    *LINEAR,
    *THEORY,
)

FINDINGS: Mapping[str, Finding] = MappingProxyType({each.name: each for each in _ALL})
"""Every finding by its name."""


def families() -> tuple[str, ...]:
    """The families in the order of the registry."""
    return tuple(dict.fromkeys(each.family for each in FINDINGS.values()))


def select_findings(words: Sequence[str] = ()) -> tuple[Finding, ...]:
    """The findings of these names and families, each once, in the registry's order; all of none.

    One name or family may be given as it is.

    Raises:
        UnknownFinding: a word is neither; all such words are named at once.
    """
    words = [words] if isinstance(words, str) else words
    known = {*FINDINGS, *families()}
    unknown = [word for word in words if word not in known]
    if unknown:
        told = ", ".join(f"{word!r}{closest(word, known)}" for word in unknown)
        raise UnknownFinding(
            f"there is no finding or family {told}; families are {', '.join(families())}, and "
            f"`vaebench list findings` shows all"
        )
    chosen = [each for each in _ALL if not words or {each.name, each.family} & set(words)]
    return tuple(chosen)


def finding_lines() -> Iterator[str]:
    """Lines for `vaebench list findings`: the name, the source, the claim, the cost."""
    for each in FINDINGS.values():
        yield f"{each.name:<32} {each.source}; {each.claim}; {each.cost}"
