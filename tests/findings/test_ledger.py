"""The ledger of margins agrees with the definitions; a margin that changed alone is caught."""

from dataclasses import replace
from datetime import date

import pytest

from vaebench.findings.ledger import definition, ledger, outdated_entries
from vaebench.findings.registry import FINDINGS
from vaebench.findings.verdict import Margin


def test_the_ledger_is_of_the_definitions_as_they_are():
    assert outdated_entries(FINDINGS.values()) == []
    assert set(ledger()) == set(FINDINGS)
    for entry in ledger().values():
        assert entry.version >= 1
        assert date(2026, 11, 22) <= entry.since


def test_margins_that_changed_after_results_are_marked():
    changed = ("latent-training-mends", "latent-kl-too-high", "latent-tutorial-network-kl")
    assert all(ledger()[name].after_results for name in changed)
    assert "after results were seen" in ledger()["latent-three"].text()
    assert not ledger()["collapse-above"].after_results


@pytest.mark.parametrize(
    "change",
    [
        {"margins": {"quick": Margin(low=0.0), "full": Margin(low=5.0)}},
        {"measure": "another number"},
        {"least_seeds": 2},
        {"setting": replace(FINDINGS["latent-three"].setting, iterations=600)},
        {"name": "a-new-finding"},
    ],
)
def test_a_definition_that_changed_alone_is_named(change):
    planted = replace(FINDINGS["latent-three"], **change)
    (line,) = outdated_entries([planted])
    assert line.startswith(f"{planted.name}: ")
    assert definition(planted) in line


def test_another_wording_of_the_claim_is_no_other_definition():
    reworded = replace(FINDINGS["latent-three"], claim="Three latents are too few")
    assert outdated_entries([reworded]) == []
