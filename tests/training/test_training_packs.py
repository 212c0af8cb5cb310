"""A pack of P members is P packs of one, whatever happens to one of them."""

import pytest
import torch
from tiny_runs import Run, assert_close_series, assert_close_weights, cell, run

from vaebench.grid.cell import Cell

KINDS = ("learned", "optimal", "per_pixel", "predicted", 0.2)


def designs(**axes: object) -> list[Cell]:
    return [cell(seed=seed, **axes) for seed in (5, 6, 7)]


def assert_members_alone(pack: Run, cells: list[Cell]) -> None:
    for member, each in enumerate(cells):
        alone = run(each)
        assert_close_weights(pack.weights(member), alone.weights())
        assert_close_series(pack.training.series[member], alone.training.series[0])


@pytest.mark.parametrize("sigma", KINDS)
@pytest.mark.parametrize("architecture", ["mlp", "linear", "conv"])
def test_a_pack_trains_as_its_members_alone(architecture: str, sigma: float | str) -> None:
    cells = designs(architecture=architecture, sigma=sigma)
    pack = run(*cells)
    assert len(pack.training.step_seconds) == 20
    assert_members_alone(pack, cells)


@pytest.mark.parametrize(
    "axes",
    [
        {"likelihood": "bernoulli", "sigma": None, "binarization": "dynamic"},
        {"likelihood": "continuous_bernoulli", "sigma": None, "dequantize": True},
        {"likelihood": "categorical", "sigma": None},
        {"likelihood": "student_t", "sigma": "optimal"},
        {"likelihood": "logistic", "sigma": "optimal"},
        {"likelihood": "laplace", "sigma": "learned"},
        {"posterior": "full"},
        {"posterior": "delta", "sparsity": 0.3},
        {"objective": "iwae", "importance_samples": 3},
        {"importance_samples": 3, "learning_rate_schedule": "cosine", "weight_decay": 0.01},
    ],
    ids=lambda axes: "-".join(str(value) for value in axes.values()),
)
def test_a_pack_of_any_design_trains_as_its_members_alone(axes: dict[str, object]) -> None:
    cells = designs(**axes)
    assert_members_alone(run(*cells), cells)


def test_members_may_differ_in_their_numbers() -> None:
    cells = [
        cell(seed=5, sigma=0.1, beta=0.5),
        cell(seed=5, sigma=0.4, beta=2.0, prior_scale=2.0),
        cell(seed=9, sigma=1.0),
    ]
    assert_members_alone(run(*cells), cells)


@pytest.mark.parametrize("axes", [{"learning_rate": 1e-4}, {"weight_decay": 0.1}], ids=str)
def test_members_share_what_the_optimizer_has_once(axes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="learning_rate and weight_decay"):
        run(cell(), cell(seed=1, **axes))


@pytest.mark.parametrize("architecture", ["mlp", "linear", "conv"])
def test_a_diverging_member_does_not_touch_the_others(architecture: str) -> None:
    calm = designs(architecture=architecture, sigma="learned")
    wild = [calm[0], calm[1].model_copy(update={"prior_scale": 1e-25}), calm[2]]
    before, after = run(*calm), run(*wild)
    divergence = after.training.divergence
    assert divergence[1] is not None
    assert divergence[1].step == 1
    assert divergence[0] is divergence[2] is None
    for member in (0, 2):
        assert_close_weights(after.weights(member), before.weights(member))
        assert_close_series(after.training.series[member], before.training.series[member])
    assert_close_series(after.training.series[1], run(wild[1]).training.series[0])


@pytest.mark.parametrize("architecture", ["mlp", "linear", "conv"])
def test_the_same_program_on_the_same_shapes_gives_the_same_bits(architecture: str) -> None:
    cells = designs(architecture=architecture, binarization="dynamic", sigma="learned")
    first, again = run(*cells), run(*cells)
    assert first.training.series == again.training.series
    for name, value in first.vae.state_dict().items():
        assert torch.equal(value, again.vae.state_dict()[name]), name
    other = run(cells[1], cells[0], cells[2])
    assert other.training.series[1] != first.training.series[1]
