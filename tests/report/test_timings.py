"""Timed training steps: what is marked, what is compared, and where a GPU is said to pay."""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic import cells, fill, record

from vaebench.analysis.timing import (
    benches,
    crossovers,
    lines,
    load_timings,
    precisions,
    timing_frame,
)
from vaebench.errors import NothingToReport
from vaebench.grid.timed_step import TimedStep
from vaebench.plots.style import drawing
from vaebench.plots.timing_figures import timing_figure
from vaebench.records.schema import Environment, FactRecord
from vaebench.records.store import Store
from vaebench.records.timing import Timing, timing_id
from vaebench.report.report import write_report
from vaebench.report.timings import timing_table

GPU = "NVIDIA A100"


def machine(device: str = "cpu", processor: str = "AMD EPYC 9B14", threads: int = 8) -> Environment:
    return Environment(
        versions={"torch": "2.13.0"},
        platform="Linux x86_64",
        processor=processor,
        cores=8,
        threads=threads,
        device_name=None if device == "cpu" else GPU,
    )


def step(device: str = "cpu", **sizes: int) -> TimedStep:
    return TimedStep(device, **({"latent_dim": 32, "batch_size": 128, "width": 400} | sizes))


def timed(design: TimedStep, ms: float, spread: float = 0.02) -> Timing:
    """A timing of exactly this median and this interquartile range over median."""
    ends = ms * (1 - spread / 2), ms * (1 + spread / 2)
    steps = [ends[0], ends[0], ms, ends[1], ends[1]]
    return Timing.measured(design, [each / 1e3 for each in steps], peak_memory_mib=31.5)


def fact(design: TimedStep, timing: Timing, environment: Environment | None = None) -> FactRecord:
    environment = environment or machine(design.device)
    return FactRecord(
        kind="timing",
        record_id=timing_id(design, environment),
        payload=timing.payload(),
        environment=environment,
    )


def sweep_of(
    cpu_ms: Iterable[float], gpu_ms: Iterable[float], spread: float = 0.02
) -> pd.DataFrame:
    """Batch sizes 16, 64, 256 ... on a CPU and a GPU."""
    made = []
    for power, times in enumerate(zip(cpu_ms, gpu_ms, strict=True)):
        for device, ms in zip(("cpu", "cuda"), times, strict=True):
            design = step(device, batch_size=16 * 4**power)
            made.append((fact(design, timed(design, ms, spread)), "time"))
    return timing_frame(made).frame


# --- what is marked, and what gets no number -----------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "verdict", "text"),
    [
        (0.02, "steady", "20.00"),
        (0.099, "steady", "20.00"),
        (0.101, "noisy", "20.0 †"),
        (0.249, "noisy", "20.0 †"),
        (0.251, "too noisy", "n/a"),
        (3.0, "too noisy", "n/a"),
    ],
)
def test_the_mark_and_the_limit(spread: float, verdict: str, text: str) -> None:
    design = step()
    frame = timing_frame([(fact(design, timed(design, 20.0, spread)), "time")]).frame
    row = frame.iloc[0]
    assert row["verdict"] == verdict
    assert row["spread"] == pytest.approx(spread)
    table = timing_table(benches(frame)[0], "timings")
    entry = table.rows[0][table.header.index("step, median")]
    assert entry.replace("20.00", "20.0") == text.replace("20.00", "20.0")
    throughput = table.rows[0][table.header.index("throughput")]
    assert throughput.endswith("†") == (verdict == "noisy")
    assert (throughput == "n/a") == (verdict == "too noisy")
    assert pd.isna(row["step_ms"]) == pd.isna(row["samples_per_second"]) == (spread > 0.25)
    assert (table.rows[0][-1] == "too noisy") == (spread > 0.25)
    assert f"{100 * spread:.1f}" in table.rows[0]


@pytest.mark.parametrize(
    ("waited", "verdict", "text", "remark"),
    [
        (0.05, "steady", "20.0", ""),
        (0.15, "noisy", "20.0 †", "waited 15% for a core"),
        (0.5, "too noisy", "n/a", "too noisy, waited 50% for a core"),
    ],
)
def test_a_step_that_waits_for_a_core_is_noisy_however_steadily(
    waited: float, verdict: str, text: str, remark: str
) -> None:
    """Where others always have the core, each step takes twice as long as the machine needs."""
    design = step()
    timing = timed(design, 20.0).model_copy(update={"waited": waited})
    frame = timing_frame([(fact(design, timing), "time")]).frame
    assert frame["verdict"].tolist() == [verdict]
    assert frame["spread"].tolist() == pytest.approx([0.02])
    table = timing_table(benches(frame)[0], "timings")
    entry = dict(zip(table.header, table.rows[0], strict=True))
    assert entry["step, median"].replace("20.00", "20.0") == text
    assert entry.get("remark", "") == remark


@pytest.mark.parametrize(("spread", "noisy"), [(0.249, True), (0.099, False)])
def test_a_ratio_with_a_noisy_side_is_marked(spread: float, noisy: bool) -> None:
    cpu, gpu = step(), step("cuda")
    made = [(fact(cpu, timed(cpu, 20.0, spread)), "a"), (fact(gpu, timed(gpu, 5.0)), "a")]
    frame = timing_frame(made).frame
    table = timing_table(benches(frame)[0], "timings")
    assert table.rows[1][table.header.index("speed-up")].endswith("†") == noisy
    assert frame["ratio"].iloc[1] == pytest.approx(4.0)


def test_what_training_and_memory_said_is_remarked() -> None:
    told = {"note": "not replayed", "peak_memory_mib": None, "peak_memory_reason": "not Linux"}
    timing = timed(step(), 20.0).model_copy(update=told)
    (bench,) = benches(timing_frame([(fact(step(), timing), "a")]).frame)
    table = timing_table(bench, "timings")
    assert table.rows[0][-1] == "note: not replayed; memory: not Linux"
    assert table.rows[0][table.header.index("peak memory")] == "n/a"


def test_a_side_that_is_too_noisy_leaves_no_ratio() -> None:
    cpu, gpu = step(), step("cuda")
    made = [(fact(cpu, timed(cpu, 20.0, 0.251)), "a"), (fact(gpu, timed(gpu, 5.0)), "a")]
    frame = timing_frame(made).frame
    assert frame["ratio"].isna().all()
    assert frame["step_ms"].notna().tolist() == [False, True]


# --- what is compared ----------------------------------------------------------------------------


def test_the_ratio_is_cpu_time_over_device_time_of_the_same_design() -> None:
    frame = sweep_of([20.0, 40.0], [5.0, 80.0])
    gpu = frame[frame["device"] == "cuda"].sort_values("batch_size")
    assert gpu["ratio"].tolist() == pytest.approx([4.0, 0.5])
    assert (gpu["ratio_low"] < gpu["ratio"]).all()
    assert (gpu["ratio"] < gpu["ratio_high"]).all()
    assert frame.loc[frame["device"] == "cpu", "ratio"].isna().all()


@pytest.mark.parametrize(
    ("cpu", "store"),
    [
        (machine(processor="Intel Xeon"), "a"),
        (machine(threads=1), "a"),
        (machine().model_copy(update={"versions": {"torch": "2.12.0"}}), "a"),
        (machine(), "b"),
    ],
    ids=["processor", "threads", "torch", "store"],
)
def test_machines_and_stores_are_never_in_one_ratio(cpu: Environment, store: str) -> None:
    slow, fast = step(), step("cuda")
    made = [(fact(slow, timed(slow, 20.0), cpu), store), (fact(fast, timed(fast, 5.0)), "a")]
    frame = timing_frame(made).frame
    assert frame["ratio"].isna().all()
    found = benches(frame)
    assert len(found) == 2
    assert len({bench.label for bench in found}) == 2
    assert [len(bench.frame) for bench in found] == [1, 1]
    assert not any("times as fast" in sentence for sentence in crossovers(frame))


def test_another_design_is_no_partner() -> None:
    cpu, gpu = step(), step("cuda", width=1600)
    made = [(fact(cpu, timed(cpu, 20.0)), "a"), (fact(gpu, timed(gpu, 5.0)), "a")]
    assert timing_frame(made).frame["ratio"].isna().all()


def test_a_device_that_came_later_is_no_longer_unavailable() -> None:
    design = step("cuda")
    absent = Timing.absent(design, "unavailable", "no CUDA device")
    before = fact(design, absent, machine("cpu"))
    assert timing_frame([(before, "a")]).frame["state"].tolist() == ["unavailable"]
    after = fact(design, timed(design, 5.0))
    assert timing_frame([(before, "a"), (after, "a")]).frame["state"].tolist() == ["done"]


def test_a_payload_that_is_no_timing_is_listed_and_not_used() -> None:
    good = fact(step(), timed(step(), 20.0))
    bad = good.model_copy(update={"record_id": "timing-x", "payload": {"state": "done"}})
    found = timing_frame([(good, "a"), (bad, "a")])
    assert len(found.frame) == 1
    assert [each.name for each in found.damaged] == ["timing-x"]


# --- where a GPU pays ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu_ms", "gpu_ms", "told"),
    [
        ([1, 4, 16], [2, 2, 2], "begins to pay between batch size 16 and 64 "),
        ([1, 1, 16], [2, 2, 2], "begins to pay between batch size 64 and 256 "),
        ([4, 8, 16], [2, 2, 2], "is faster than the CPU at every batch size from 16 "),
        ([1, 1, 1], [2, 2, 2], "is slower than the CPU at every batch size to 256 "),
        ([4, 1, 4], [2, 2, 2], "is faster than the CPU at batch size 16, 256 alone "),
        ([4, 4, 1], [2, 2, 2], "is faster than the CPU at batch size 16, 64 alone "),
        ([2, 1, 1], [2, 2, 2], "is shown to be faster than the CPU at no batch size "),
    ],
)
def test_the_crossover(cpu_ms: list[float], gpu_ms: list[float], told: str) -> None:
    (sentence,) = crossovers(sweep_of(cpu_ms, gpu_ms))
    assert f"cuda ({GPU}) {told}(latent dimension 32, width 400)" in sentence
    ends = [cpu_ms[0] / gpu_ms[0], cpu_ms[-1] / gpu_ms[-1]]
    for ratio, size in zip(ends, (16, 256), strict=True):
        (said,) = [part for part in sentence.split(": ")[-1].split(", ") if f"at {size}" in part]
        assert float(said.split()[0]) == pytest.approx(ratio)


@pytest.mark.parametrize(("spread", "faster"), [(0.04, True), (0.08, False)])
def test_quartiles_that_overlap_show_no_difference(spread: float, faster: bool) -> None:
    (sentence,) = crossovers(sweep_of([2.1, 2.1], [2.0, 2.0], spread))
    assert ("is faster than the CPU at every" in sentence) == faster
    assert ("is shown to be faster than the CPU at no batch size" in sentence) != faster


def test_sizes_without_a_ratio_are_named() -> None:
    found = sweep_of([4, 4, 4], [2, 2, 2])
    (sentence,) = crossovers(found)
    assert "no ratio" not in sentence
    odd = (found["device"] == "cuda") & (found["batch_size"] == 64)
    (sentence,) = crossovers(found.assign(ratio=found["ratio"].where(~odd)))
    assert sentence.endswith("; no ratio at 64.")


def test_without_a_gpu_the_reason_is_told() -> None:
    cpu, gpu = step(), step("cuda")
    alone = [(fact(cpu, timed(cpu, 20.0)), "a")]
    (sentence,) = crossovers(timing_frame(alone).frame)
    assert sentence.endswith("no GPU was measured: only the CPU was timed.")
    absent = Timing.absent(gpu, "unavailable", "this machine has no CUDA device")
    (sentence,) = crossovers(timing_frame([*alone, (fact(gpu, absent, machine()), "a")]).frame)
    assert sentence.endswith("no GPU was measured (cuda: this machine has no CUDA device).")


# --- figures and the page ------------------------------------------------------------------------


def two_machines(root: Path) -> Path:
    """Sweeps of batch and width on two machines, one of them with a GPU; noisy and failed ones."""
    store = Store(root)
    designs = [{"batch_size": size} for size in (16, 64, 256)] + [{"width": 100}]
    with store.writing():
        for processor, devices in (("AMD EPYC 9B14", ("cpu", "cuda")), ("Intel Xeon", ("cpu",))):
            for device in devices:
                for number, sizes in enumerate(designs):
                    design = step(device, **sizes)
                    spread = (0.02, 0.15, 0.4, 0.02)[number]
                    made = timed(design, 4.0 * (number + 1), spread)
                    if (device, number) == ("cuda", 0):
                        made = Timing.absent(design, "failed", "<b>out</b> of memory")
                    store.write(fact(design, made, machine(device, processor)))
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return two_machines(tmp_path / "results" / "time")


def test_a_figure_holds_one_machine_and_leaves_out_what_is_too_noisy(store: Path) -> None:
    found = benches(load_timings(store))
    assert len(found) == 2
    for bench in found:
        assert bench.frame["machine"].nunique() == 1
        with drawing():
            figure = timing_figure(bench, bench.label)
        assert figure is not None
        (axes,) = [a for a in figure.axes if a.get_ylabel() == "training images [1/s]"]
        drawn = [x for line in axes.lines for x, y in line.get_xydata() if y > 0]
        assert 64 in drawn
        assert 256 not in drawn
        hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert {x for line in hollow for x in line.get_xdata()} == {64}, "noisy"
        assert "batch size" in " ".join(a.get_xlabel() for a in figure.axes)


def test_a_line_takes_the_other_sizes_where_most_is_measured(store: Path) -> None:
    (bench,) = [each for each in benches(load_timings(store)) if "Intel" in each.label]
    (line,) = lines(bench.frame, "batch_size")
    assert list(line.rows["batch_size"]) == [16, 64, 256]
    assert line.fixed == "latent dimension 32, width 400"
    assert lines(bench.frame, "latent_dim") == []


def test_a_store_of_timings_alone_makes_a_page(store: Path, tmp_path: Path) -> None:
    page = write_report(store, tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    assert "<h1>Training steps, timed</h1>" in text
    assert "12 timings (11 done, 1 failed)" in text
    assert "&lt;b&gt;out&lt;/b&gt; of memory" in text
    assert "results.csv" not in text
    for number in (1, 2):
        assert (page.parent / f"figures/timings-{number}.png").is_file()
        table = pd.read_csv(page.parent / f"tables/timings-{number}.csv")
        assert table["machine"].nunique() == 1
    again = write_report(store, tmp_path / "again")
    assert again.read_bytes() == page.read_bytes()


def test_timings_have_a_section_in_a_report_on_cells(tmp_path: Path) -> None:
    root = two_machines(tmp_path / "store")
    fill(root, [record(cell) for cell in cells([{"likelihood": "gaussian"}])], pictures=False)
    with_timings = write_report(root, tmp_path / "report").read_text(encoding="utf-8")
    assert 'id="timings"' in with_timings
    assert 'id="results"' in with_timings
    assert "results.csv" in with_timings


def test_cells_alone_have_no_such_section(tmp_path: Path) -> None:
    made = [record(cell) for cell in cells([{"likelihood": "gaussian"}])]
    root = fill(tmp_path / "store", made, pictures=False)
    assert 'id="timings"' not in write_report(root, tmp_path / "report").read_text(encoding="utf-8")


def test_a_store_with_findings_alone_is_nothing_to_report_on(tmp_path: Path) -> None:
    root = Store(tmp_path / "store")
    with root.writing():
        root.write(FactRecord(kind="finding", record_id="finding-x", payload={}))
    with pytest.raises(NothingToReport):
        write_report(root.root, tmp_path / "report")


WITHOUT_TORCH = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from vaebench.cli.main import main

main(json.loads(sys.argv[1]))
"""


@pytest.mark.parametrize("words", [("report", "{store}", "-o", "{out}"), ("show", "{store}")])
def test_timings_are_read_without_torch(
    store: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    told = [word.format(store=store, out=tmp_path / "out") for word in words]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(told)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("speed-up" in done.stdout) == (words[0] == "show")
    assert (tmp_path / "out" / "index.html").is_file() == (words[0] == "report")


def test_the_terminal_shows_every_machine_and_why_a_number_is_missing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vaebench.cli.main import main

    with pytest.raises(SystemExit) as left:
        main(["show", str(store)])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert out.count("Training steps on ") == 2
    assert "failed: <b>out</b> of memory" in out
    assert "above 25% no number is given" in out
    assert max(map(len, out.partition("On AMD")[0].splitlines())) <= 110


def test_what_bfloat16_wins_is_said_of_the_sizes_timed_in_both() -> None:
    made = []
    for width, plain, half in ((100, 1.0, 1.0), (400, 3.0, 2.0), (1600, 20.0, None)):
        for precision, ms in (("float32", plain), ("bfloat16", half)):
            if ms is not None:
                design = TimedStep("cpu", 32, 128, width, precision=precision)
                made.append((fact(design, timed(design, ms)), "a"))
    (told,) = precisions(timing_frame(made).frame)
    assert "a step in bfloat16 is 1.00 to 1.50 times as fast as in float32: least at" in told
    assert "width 100, most at" in told
    assert "(2 sizes were timed in both)" in told
    assert precisions(timing_frame(made[:1]).frame) == []


# --- the kind of step ----------------------------------------------------------------------------


def test_the_kinds_of_step_are_told_apart() -> None:
    """A GPU is compared with the CPU's step of a long training, not with its eager one."""
    made = []
    for design, ms in (
        (replace(step(), eager=True), 30.0),
        (step(), 20.0),
        (step("cuda"), 2.0),
    ):
        timing = timed(design, ms)
        if design.kind == "compiled":
            timing = timing.model_copy(update={"compile_seconds": 6.4})
        made.append((fact(design, timing), "time"))
    frame = timing_frame(made).frame
    assert set(frame["step_kind"]) == {"eager", "compiled", "captured"}
    ratio = frame.loc[frame["device"] == "cuda", "ratio"].item()
    assert ratio == pytest.approx(10.0)
    table = timing_table(benches(frame)[0], "timings")
    kinds = [row[table.header.index("step")] for row in table.rows]
    assert sorted(kinds) == ["captured", "compiled", "eager"]
    assert any("6 s" in note for note in table.notes)


def test_a_device_that_was_absent_is_there_now_whatever_the_kind_of_step() -> None:
    absent = Timing.absent(replace(step("cuda"), eager=True), "unavailable", "no GPU")
    made = [(fact(replace(step("cuda"), eager=True), absent), "time")]
    made.append((fact(step("cuda"), timed(step("cuda"), 2.0)), "time"))
    assert list(timing_frame(made).frame["state"]) == ["done"]
