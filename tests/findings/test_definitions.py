"""Every definition is the one that its version was given for; a margin changed alone is caught."""

from dataclasses import replace
from datetime import date

import pytest

from vaebench.findings.finding import Method
from vaebench.findings.registry import FINDINGS, changed_definitions, findings_of
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


def test_a_new_finding_is_asked_for_its_digest():
    planted = replace(FINDINGS["latent-three"], recorded="")
    assert changed_definitions([planted]) == [
        f'latent-three: add definition = "{planted.definition}" to findings/claims.toml'
    ]


@pytest.mark.parametrize(
    ("entries", "methods"), [({"only-here": {}}, {}), ({}, {"only-here": Method(compute=dict)})]
)
def test_an_entry_without_a_method_and_a_method_without_an_entry_are_named(entries, methods):
    with pytest.raises(ValueError, match=r"claims\.toml and a method .* for only-here"):
        list(findings_of({"finding": entries, "setting": {}}, methods))
