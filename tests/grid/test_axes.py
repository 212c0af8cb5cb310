"""The registries: what the rest of the program may rely on."""

import subprocess
import sys

import pytest

from vaebench.grid import axes
from vaebench.grid.cell import AXES
from vaebench.grid.rules import DEPENDENCES


@pytest.mark.parametrize(
    "registry",
    [name for name, each in vars(axes).items() if name.isupper() and isinstance(each, dict)],
)
def test_every_entry_has_its_name_and_one_line(registry: str) -> None:
    for name, entry in getattr(axes, registry).items():
        assert getattr(entry, "name", name) == name
        summary = getattr(entry, "summary", entry)
        assert 0 < len(summary) <= 90
        assert "\n" not in summary


def test_what_the_likelihoods_can_do() -> None:
    likelihoods = axes.LIKELIHOODS.values()
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
