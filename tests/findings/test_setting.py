"""Settings of claims against records: what a whole setting is, and what falls short of it."""

from dataclasses import replace

import numpy as np
import pytest
from planted import evidence, noise

from vaebench.findings.finding import Counts, assess
from vaebench.findings.registry import FINDINGS
from vaebench.findings.settings import PART_NAMES
from vaebench.findings.verdict import Statistic
from vaebench.grid.spec import Grid

IDENTITIES = {
    "gaussian-ceiling",
    "grey-entropy-floor",
    "record-bits-add-up",
    "information-below-log-n",
    "bound-curve-rises",
}
FALSE_AS_PRINTED = {"lambda-absorbed-as-printed", "sigma-is-root-half-beta"}
LATENT = [each for each in FINDINGS.values() if each.family == "latent-dim"]


def numbers(cell):
    """A sweep in which one and two latents are too few, and 10,000 too many."""
    lost = {1: 30.0, 2: 20.0, 3: 10.0, 10_000: 30.0}.get(cell.latent_dim, 1.0)
    elbo = -100 - lost + noise(cell, 0.01)
    return {"elbo": elbo, "elbo_train": elbo + 1.0, "iw_bound": elbo + 2}


def of(finding, **changes):
    """The evidence of the whole test, with other values of some axes."""
    cells = [cell for cell in finding.cells("full") if cell.epochs == 100]
    changed = tuple(cell.model_copy(update=changes) for cell in cells)
    planted = replace(finding, cells=lambda _: changed, fallbacks=lambda _: ())
    return planted, evidence(planted, numbers, budget="full")


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("data", {"dataset": "fashion-mnist"}),
        ("data", {"binarization": "static"}),
        ("network", {"hidden": (64,)}),
        ("optimizer", {"learning_rate": 3e-4}),
        ("optimizer", {"adam_beta1": 0.0}),
        ("optimizer", {"batch_size": 200, "epochs": 300}),
        ("initialization", {"initialization": "sparse"}),
        ("iterations", {"epochs": 99}),
    ],
)
def test_each_part_of_a_setting_counts(part, changes):
    assert part in PART_NAMES
    planted, world = of(FINDINGS["latent-three"], **changes)
    judged = assess(planted, world, "full")
    assert judged.judgement.verdict == "shown at this budget"
    assert list(judged.shortfall) == [part]


@pytest.mark.parametrize("changes", [{}, {"hidden": (500,)}, {"epochs": 200}])
def test_a_setting_is_met_by_its_own_values_and_by_stronger_ones(changes):
    planted, world = of(FINDINGS["latent-three"], **changes)
    judged = assess(planted, world, "full")
    assert (judged.judgement.verdict, judged.shortfall) == ("reproduced", {})


def test_the_tutorials_network_needs_the_tutorials_solver():
    """Caffe's unset momentum is beta1 = 0; torch's default is another solver."""
    finding = FINDINGS["latent-tutorial-network"]
    for beta1, falls_short in ((0.0, False), (0.9, True)):
        planted, world = of(finding, adam_beta1=beta1)
        judged = assess(planted, world, "full")
        assert ("optimizer" in judged.shortfall) is falls_short


def test_a_violated_claim_is_contradicted_by_the_whole_setting_alone():
    finding = FINDINGS["latent-thousand"]

    def worse(cell):
        lost = 20.0 if cell.latent_dim == 1000 else 0.0
        return {"elbo": -100 - lost + noise(cell, 0.01)}

    world = evidence(finding, worse, budget="full")
    assert assess(finding, world, "full").judgement.verdict == "contradicted"
    short = replace(world, frame=world.frame[world.frame["epochs"] <= 6])
    judged = assess(finding, short, "full")
    assert judged.judgement.verdict == "not shown at this budget"
    assert "3,600 steps of 60,000" in judged.truncation
    assert {cell.epochs for cell in judged.cells} == {1, 6}


@pytest.mark.parametrize("finding", LATENT, ids=lambda finding: finding.name)
def test_without_the_long_records_no_verdict_is_about_the_claim_itself(finding):
    """Records of the older grid, of six epochs, never reproduce nor contradict."""
    if "full" in finding.untested:
        return
    old = Grid.load("latent-dim").cells
    six = [cell for cell in FINDINGS["latent-two"].cells("full") if cell.epochs <= 6]
    arrays = {
        "kl_per_dimension": np.full(8, 1.0),
        "posterior_mean_variance": np.full(8, 0.001),
    }
    for cells in (old, six, (*old, *six)):
        planted = replace(finding, cells=lambda _, cells=cells: tuple(cells))
        world = evidence(planted, numbers, budget="full", arrays=lambda _: arrays)
        verdict = assess(finding, world, "full").judgement.verdict
        allowed = {"shown at this budget", "not shown at this budget", "inconclusive", "not tested"}
        if finding.name == "latent-ten-thousand-early":  # its own setting is one epoch
            allowed |= {"reproduced"}
        assert verdict in allowed


def test_the_longest_training_with_enough_seeds_decides():
    """One seed of 100 epochs does not replace three seeds of 30."""
    finding = FINDINGS["latent-three"]
    world = evidence(finding, numbers, budget="full")
    frame = world.frame
    part = frame[(frame["epochs"] < 100) | (frame["seed"] == 0)]
    judged = assess(finding, replace(world, frame=part), "full")
    assert judged.statistic.n == 3
    assert judged.shortfall == {"iterations": "18,000 steps of 60,000"}
    one = replace(world, frame=frame[frame["seed"] == 0])
    alone = assess(finding, one, "full")
    assert (alone.judgement.code, alone.shortfall) == ("few seeds", {})


def test_identities_are_those_that_cannot_be_false():
    found = {name for name, finding in FINDINGS.items() if finding.identity}
    mathematics = {name for name, finding in FINDINGS.items() if finding.kind == "mathematics"}
    assert found == (mathematics - FALSE_AS_PRINTED - {"amortisation-dominates"}) | IDENTITIES


def test_claims_and_identities_are_counted_apart():
    claim, identity = FINDINGS["latent-three"], FINDINGS["mdl-bits"]
    world = evidence(claim, numbers, budget="full")
    facts = {
        identity.fact_id: {
            "revision": 1,
            "value": 0.0,
            "low": 0.0,
            "high": 0.0,
            "n": 1,
            "unit": "bits",
        }
    }
    rows = [assess(each, replace(world, facts=facts), "full") for each in (claim, identity)]
    counts = Counts.of(rows)
    assert counts.claims == {"reproduced": 1}
    assert counts.identities == {"reproduced": 1}
    assert counts.on_intervals == 1
    assert "1 claim: 1 reproduced" in counts.text()
    assert "0.03 of them" in counts.text()


def test_only_numbers_with_an_interval_can_be_wrong_by_chance():
    assert Statistic(1.0, 0.5, 1.5, 3, "nats").has_interval
    assert not Statistic(1.0, 1.0, 1.0, 1, "nats", "exact").has_interval
    assert not Statistic(1.0, float("nan"), float("nan"), 9, "nats", "extreme").has_interval


def test_a_claim_without_a_published_setting_says_which_one_was_chosen():
    for finding in FINDINGS.values():
        assert finding.setting.text
    assert not FINDINGS["latent-three"].setting.published
    assert FINDINGS["latent-tutorial-network"].setting.published
