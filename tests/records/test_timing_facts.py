"""A timing's numbers follow from its steps, and its identity from design and machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from vaebench.grid.timed_step import TimedStep
from vaebench.records.schema import Environment, FactRecord, from_text, to_text
from vaebench.records.store import Store
from vaebench.records.timing import MOST_BLOCKS, Timing, blocks, quartiles, timing_id

STEP = TimedStep("cuda:1", 2, 16, 8)
MACHINE = Environment(
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
    platform="Linux x86_64",
    processor="AMD EPYC 9B14",
    cores=16,
    threads=8,
    device_name="NVIDIA A100",
    driver="570",
    commit="0123abc",
)


def test_median_spread_and_throughput_of_known_steps() -> None:
    timing = Timing.measured(STEP, [0.010, 0.008, 0.009, 0.011, 0.012])
    assert timing.block_ms == pytest.approx([10, 8, 9, 11, 12])
    assert timing.step_ms_median == pytest.approx(10)
    assert timing.spread == pytest.approx((11 - 9) / 10)
    assert timing.samples_per_second == pytest.approx(16 / 0.010)
    assert (timing.steps, timing.steps_a_block) == (5, 1)


def test_in_a_pack_a_step_is_divided_by_the_pack_and_all_images_count() -> None:
    timing = Timing.measured(TimedStep("cpu", 2, 16, 8, pack_size=4), [0.010] * 3)
    assert timing.step_ms_median == pytest.approx(2.5)
    assert timing.samples_per_second == pytest.approx(4 * 16 / 0.010)


@pytest.mark.parametrize(("count", "size", "kept"), [(100, 1, 100), (101, 2, 50), (2000, 20, 100)])
def test_blocks_are_equal_and_at_most_a_hundred(count: int, size: int, kept: int) -> None:
    found, means = blocks([float(i) for i in range(count)])
    assert (found, len(means)) == (size, kept)
    assert len(means) <= MOST_BLOCKS
    assert means[0] == sum(range(size)) / size
    assert means[-1] == sum(range((kept - 1) * size, kept * size)) / size


def test_quartiles_do_not_feel_one_outlier() -> None:
    assert quartiles([1, 2, 3, 4, 5]) == quartiles([1, 2, 3, 4, 500]) == (2, 3, 4)


def test_a_timing_comes_back_from_its_file() -> None:
    timing = Timing.measured(STEP, [0.010, 0.011], warm_up_steps=8, threads=8, peak_memory_mib=31.5)
    record = FactRecord(
        kind="timing", record_id="timing-1", payload=timing.payload(), environment=MACHINE
    )
    returned = from_text(to_text(record))
    assert isinstance(returned, FactRecord)
    assert Timing.of(returned) == timing


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state": "failed"}, "must have a reason"),
        ({"step_ms_median": None}, "block times and their median"),
        ({"latent_dim": "2"}, "latent_dim"),
    ],
)
def test_a_payload_that_is_no_timing_is_told(changed: dict[str, object], message: str) -> None:
    payload = Timing.measured(STEP, [0.010]).payload() | changed
    record = FactRecord(kind="timing", record_id="timing-1", payload=payload)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=f"not a timing of revision 1.*{message}"):
        Timing.of(record)


def test_the_identity_is_design_and_machine() -> None:
    name = timing_id(STEP, MACHINE)
    assert name.startswith("timing-cuda1-z2-b16-w8-")
    others = [
        timing_id(TimedStep(*words), MACHINE)
        for words in (("cuda:1", 3, 16, 8), ("cuda", 2, 16, 8), ("cuda:1", 2, 16, 8, "bfloat16"))
    ]
    others.append(timing_id(replace(STEP, eager=True), MACHINE))
    machines = (
        {"processor": "Intel Xeon"},
        {"cores": 8},
        {"threads": 1},
        {"device_name": "NVIDIA H200"},
        {"versions": {"torch": "2.12.0"}},
    )
    others += [timing_id(STEP, MACHINE.model_copy(update=changed)) for changed in machines]
    assert len({name, *others}) == 1 + len(others)


def test_what_is_no_machine_leaves_the_identity() -> None:
    newer = {"versions": {"torch": "2.13.0", "numpy": "2.5"}, "commit": "456", "driver": "571"}
    assert timing_id(STEP, MACHINE) == timing_id(STEP, MACHINE.model_copy(update=newer))


def test_timings_of_before_the_kind_was_noted_are_eager_and_keep_their_identity() -> None:
    root = Path(__file__).parents[2] / "results" / "reference" / "time"
    found, _ = Store(root).read_facts()
    old = [fact for fact in found if "step_kind" not in fact.payload]
    golden = from_text((Path(__file__).parents[1] / "golden/numerics/timing-1.json").read_bytes())
    assert isinstance(golden, FactRecord)
    for fact in [golden, *old]:
        timing = Timing.of(fact)
        assert (timing.step_kind, timing.compile_seconds) == ("eager", None)
        sizes = (timing.latent_dim, timing.batch_size, timing.hidden[0])
        step = TimedStep(timing.device, *sizes, timing.precision, timing.pack_size, eager=True)
        assert timing_id(step, fact.environment) == fact.record_id
