"""Which training steps a sweep times: each once, through one centre, and nothing impossible."""

import pytest

from vaebench.grid.timed_step import TimedStep, sweep


def sizes(steps: tuple[TimedStep, ...]) -> set[tuple[int, int, int]]:
    return {(each.latent_dim, each.batch_size, each.width) for each in steps}


def test_without_sizes_all_three_are_swept_one_at_a_time() -> None:
    steps = sweep(["cpu"])
    assert len(steps) == len(set(steps)) == 7 + 4 + 2
    for step in steps:
        apart = (step.latent_dim != 32) + (step.batch_size != 128) + (step.width != 400)
        assert apart <= 1
    assert {2, 10_000} <= {step.latent_dim for step in steps}
    assert {20, 8192} <= {step.batch_size for step in steps}


def test_only_the_sizes_given_are_swept() -> None:
    assert sizes(sweep(["cpu"], batch_sizes=[16, 64])) == {(32, 16, 400), (32, 64, 400)}


def test_the_centre_is_the_given_size_nearest_by_ratio() -> None:
    found = sizes(sweep(["cpu"], latent_dims=[2, 20, 10_000], widths=[8, 16]))
    assert found == {(2, 128, 16), (20, 128, 16), (10_000, 128, 16), (20, 128, 8)}


def test_devices_precisions_and_packs_multiply_and_devices_follow_each_other() -> None:
    steps = sweep(["cpu", "cuda"], [2], precisions=["float32", "bfloat16"], pack_sizes=[1, 4])
    assert [step.device for step in steps] == ["cpu", "cuda"] * 4
    assert {(step.precision, step.pack_size) for step in steps} == {
        ("float32", 1),
        ("float32", 4),
        ("bfloat16", 1),
        ("bfloat16", 4),
    }


def test_a_pack_is_one_design_with_several_seeds() -> None:
    cells = TimedStep("cpu", 2, 16, 8, pack_size=3).cells(epochs=5)
    assert [cell.seed for cell in cells] == [0, 1, 2]
    assert {(cell.latent_dim, cell.batch_size, cell.hidden, cell.epochs) for cell in cells} == {
        (2, 16, (8,), 5)
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"device": "gpu"}, "^device: must be one of cpu, cuda[^\n]*$"),
        ({"latent_dim": 0}, "^latent_dim: must be a whole number from 1[^\n]*$"),
        ({"width": 0}, "^width: must be a list"),
        ({"precision": "float16"}, "did you mean 'bfloat16'"),
        ({"pack_size": 0}, "pack_size must be between 1 and 1000 cells; got 0"),
        ({"pack_size": 1001}, "got 1001"),
    ],
)
def test_what_no_cell_can_be_is_refused(changed: dict[str, object], message: str) -> None:
    design = {"device": "cpu", "latent_dim": 2, "batch_size": 16, "width": 8}
    with pytest.raises(ValueError, match=message):
        TimedStep(**(design | changed))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", "compiled"), ("cuda:1", "captured"), ("mps", "eager")]
)
def test_a_step_is_of_the_kind_that_a_long_training_uses(device: str, kind: str) -> None:
    assert [step.kind for step in sweep([device], [2])] == [kind]
    assert [step.kind for step in sweep([device], [2], eager=True)] == ["eager"]
