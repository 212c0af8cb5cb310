"""The registries: what the rest of the program may rely on."""

import subprocess
import sys

import pytest

from vaebench.grid import choices
from vaebench.grid.cell import AXES, DEPENDENCES

REGISTRIES = [name for name in choices.__all__ if isinstance(getattr(choices, name), dict)]


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_entry_stands_under_its_name_and_has_one_line(registry: str) -> None:
    for name, entry in getattr(choices, registry).items():
        assert entry.name == name
        assert 0 < len(entry.summary) <= 90
        assert "\n" not in entry.summary


def test_what_the_likelihoods_can_do() -> None:
    likelihoods = choices.LIKELIHOODS.values()
    scaled = {each.name for each in likelihoods if each.has_scale}
    assert scaled == {"gaussian", "laplace", "logistic", "student_t"}
    assert {each.name for each in likelihoods if each.kind == "mass"} == {
        "bernoulli",
        "categorical",
        "poisson",
        "negative_binomial",
    }
    assert {each.name for each in likelihoods if each.support == "real"} == scaled
    clipped = {each.name for each in likelihoods if each.has_mean_parameter}
    assert clipped == {"bernoulli", "continuous_bernoulli"}


def test_no_deciding_axis_depends_on_another() -> None:
    assert not {each.on for each in DEPENDENCES} & {each.axis for each in DEPENDENCES}
    for each in DEPENDENCES:
        assert AXES[each.axis].check(each.neutral) == each.neutral


def test_planning_needs_no_torch() -> None:
    code = "import sys, vaebench.grid.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
