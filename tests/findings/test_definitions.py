"""Every definition is the one that its version was given for; a margin changed alone is caught."""

from dataclasses import replace
from datetime import date

import pytest

from vaebench.findings.registry import FINDINGS, changed_definitions
from vaebench.findings.verdict import Margin


def test_every_version_is_of_the_definition_as_it_is():
    assert changed_definitions(FINDINGS.values()) == []
    for finding in FINDINGS.values():
        assert finding.version >= 1
        assert finding.since is not None
        assert date(2026, 11, 22) <= finding.since


def test_margins_that_changed_after_results_are_marked():
    changed = ("latent-training-mends", "latent-kl-too-high", "latent-tutorial-network-kl")
    assert all(FINDINGS[name].after_results for name in changed)
    assert "after results were seen" in FINDINGS["latent-three"].history
    assert not FINDINGS["collapse-above"].after_results


@pytest.mark.parametrize(
    "change",
    [
        {"margins": {"quick": Margin(low=0.0), "full": Margin(low=5.0)}},
        {"measure": "another number"},
        {"least_seeds": 2},
        {"setting": replace(FINDINGS["latent-three"].setting, iterations=600)},
    ],
)
def test_a_definition_that_changed_alone_is_named(change):
    planted = replace(FINDINGS["latent-three"], **change)
    (line,) = changed_definitions([planted])
    assert line.startswith(f"{planted.name}: ")
    assert planted.definition in line


def test_another_wording_of_the_claim_is_no_other_definition():
    reworded = replace(FINDINGS["latent-three"], claim="Three latents are too few")
    assert changed_definitions([reworded]) == []
