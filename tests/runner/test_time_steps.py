"""Timed training steps: real ones in fresh processes, and what a stopwatch must leave out."""

import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dying_processes
import pytest
import torch

from vaebench.errors import StoreBusy
from vaebench.grid.cell import Cell
from vaebench.grid.timed_step import TimedStep
from vaebench.records.schema import Environment, FactRecord
from vaebench.records.store import Store
from vaebench.records.timing import Timing
from vaebench.runner import stopwatch, timing
from vaebench.runner.messages import DeviceInfo, TimingBudget
from vaebench.runner.timing import TimingSummary, time_steps
from vaebench.system.processes import Stop
from vaebench.training.loop import Divergence, Training, train

WIDE, NARROW = 1600, 8
# The same sizes for every test that only needs a record.
TINY: dict[str, Any] = {
    "latent_dims": [2],
    "batch_sizes": [16],
    "widths": [NARROW],
    "steps": 10,
    "threads": 1,
    "eager": True,
}


def facts(root: Path) -> dict[str, FactRecord]:
    found, damages = Store(root).read_facts()
    assert damages == []
    return {fact.record_id: fact for fact in found}


def timings(root: Path) -> list[Timing]:
    return [Timing.of(fact) for fact in facts(root).values()]


# --- a real round on the CPU ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TimingSummary, list[str]]:
    """A wide and a narrow step, the wide one first, and a device that may be absent."""
    root = tmp_path_factory.mktemp("results") / "time"
    lines: list[str] = []
    summary = time_steps(
        root,
        devices=["cpu"],
        latent_dims=[2],
        batch_sizes=[16],
        widths=[WIDE, NARROW],
        steps=12,
        threads=1,
        eager=True,
        echo=lines.append,
    )
    return root, summary, lines


def test_a_real_timing_has_its_numbers(
    measured: tuple[Path, TimingSummary, list[str]],
) -> None:
    root, summary, lines = measured
    assert summary.states() == {"done": 2}
    assert len(lines) == 2
    for found in timings(root):
        assert (found.steps, found.threads, found.latent_dim, found.batch_size) == (12, 1, 2, 16)
        assert len(found.block_ms) == 12
        assert found.warm_up_steps == 13
        assert found.step_ms_median is not None
        assert 0.05 < found.step_ms_median < 5000
        assert found.samples_per_second == pytest.approx(16e3 / found.step_ms_median)
        assert (found.step_kind, found.compile_seconds) == ("eager", None)
    assert all("eager" in line for line in lines)


def test_the_step_of_a_long_training_is_compiled_before_it_is_timed() -> None:
    found = stopwatch.time_step(TimedStep("cpu", 2, 16, NARROW), TimingBudget(1, 12))
    assert (found.step_kind, found.note, found.steps) == ("compiled", None, 12)
    assert found.compile_seconds is not None
    assert found.compile_seconds > 0.1
    assert max(found.block_ms) < 1e3 * found.compile_seconds
    assert "compiled" in timing._line(found)


def test_time_that_a_step_waits_for_a_core_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the thread stands still meanwhile, here for two thirds of the time."""
    design = TimedStep("cpu", latent_dim=2, batch_size=16, width=NARROW, eager=True)
    assert (stopwatch.time_step(design, TimingBudget(1, 40)).waited or 0.0) < 1
    monkeypatch.setattr(time, "thread_time", lambda: time.perf_counter() / 3)
    found = stopwatch.time_step(design, TimingBudget(1, 40))
    assert found.waited == pytest.approx(2 / 3, abs=0.01)
    assert found.noise == max(found.spread or 0.0, found.waited)
    assert "too noisy for a number" in timing._line(found)
    assert "67% of the time waiting for a core" in timing._line(found)


def test_the_environment_is_that_of_the_timing_process(
    measured: tuple[Path, TimingSummary, list[str]],
) -> None:
    for fact in facts(measured[0]).values():
        assert fact.environment.threads == 1
        assert fact.environment.versions["torch"] == torch.__version__
        assert fact.environment.device_name is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads memory in /proc")
def test_memory_is_of_the_step_and_no_earlier_one_leaves_a_trace(
    measured: tuple[Path, TimingSummary, list[str]],
) -> None:
    memory = {each.hidden[0]: each.peak_memory_mib or 0.0 for each in timings(measured[0])}
    weights = 2 * 784 * WIDE + 3 * 2 * WIDE
    held = 4 * 4 * weights / 2**20  # weights, gradients and Adam's two means, four bytes each
    assert 0.9 * held < memory[WIDE] < 3 * held + 20
    assert memory[NARROW] < 0.3 * held


def test_a_second_round_times_only_what_is_missing(
    measured: tuple[Path, TimingSummary, list[str]],
) -> None:
    root, first, _ = measured
    before = facts(root)
    sizes = {**TINY, "widths": [WIDE, NARROW], "steps": 12}
    assert time_steps(root, devices=["cpu"], **sizes).measured == {}
    assert facts(root) == before
    second = time_steps(root, devices=["cpu"], **{**sizes, "widths": [WIDE, NARROW, 9]})
    assert set(second.kept) == set(first.measured)
    assert len(second.measured) == 1


def test_again_times_anew(measured: tuple[Path, TimingSummary, list[str]]) -> None:
    root = measured[0]
    before = facts(root)
    summary = time_steps(root, devices=["cpu"], again=True, **TINY)
    (name,) = summary.measured
    assert before[name].payload["block_ms"] != facts(root)[name].payload["block_ms"]


def test_an_absent_device_is_recorded_with_its_reason_and_tried_again(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    for _ in range(2):
        summary = time_steps(tmp_path / "time", devices=["cuda"], echo=lambda _: None, **TINY)
        assert list(summary.measured.values()) == ["unavailable"]
    (found,) = timings(tmp_path / "time")
    assert found.reason is not None
    assert "CUDA" in found.reason
    assert found.step_ms_median is None


def test_a_process_that_hears_an_interrupt_first_leaves_no_failed_timing() -> None:
    stop = Stop()
    clock = timing._Clock(1, TimingBudget(1.0), stop)
    clock._context = _Deaf(stop)
    assert clock._answer(timing._send_places) is None


class _Deaf:
    """A context whose process ends without an answer, while the interrupt is on its way."""

    exitcode = 1

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def Pipe(self) -> tuple["_Deaf", "_Deaf"]:
        return self, self

    def Process(self, **_: object) -> "_Deaf":
        return self

    def poll(self, _: float) -> bool:
        return True

    def recv(self) -> object:
        self._stop.signal = signal.SIGINT
        raise EOFError

    def start(self) -> None: ...

    def close(self) -> None: ...

    def kill(self) -> None: ...

    def join(self) -> None: ...


def test_available_stands_for_the_devices_that_are_there() -> None:
    places = timing._Clock(3, TimingBudget(1.0), Stop()).places(["available", "cpu"])
    assert [place.device for place in places][:1] == ["cpu"]
    assert all(place.absent is None for place in places)
    assert {place.environment.threads for place in places} == {3}
    assert len(places) == 1 + torch.cuda.is_available() + torch.backends.mps.is_available()


# --- what is refused, and what goes on -----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"devices": ["gpu"]}, "must be one of cpu, cuda"),
        ({"devices": "cpu"}, "devices must be a list of at least one.* got 'cpu'"),
        ({"devices": []}, "devices must be a list"),
        ({"devices": ["cpu"], "seconds": 0.0}, "seconds must be above 0 and finite; got 0"),
        ({"devices": ["cpu"], "steps": 5}, "steps must be a whole number of at least 10; got 5"),
        ({"devices": ["cpu"], "steps": 10.5}, "steps must be a whole number of at least 10"),
        ({"devices": ["cpu"], "steps": True}, "steps must be a whole number of at least 10"),
        ({"devices": ["cpu"], "threads": 100_000}, "threads must not exceed"),
        (
            {"devices": ["cpu"], "threads": -1},
            "threads must be a whole number of at least 1; got -1",
        ),
    ],
)
def test_misuse_starts_nothing(tmp_path: Path, words: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        time_steps(tmp_path / "time", **words)  # type: ignore[arg-type]  # wrong on purpose
    assert not (tmp_path / "time").exists()


def test_a_busy_store_is_told(tmp_path: Path) -> None:
    with Store(tmp_path).writing(), pytest.raises(StoreBusy):
        time_steps(tmp_path, devices=["cpu"], **TINY)


def test_a_process_that_dies_is_an_answer_too() -> None:
    clock = timing._Clock(3, TimingBudget(1.0), Stop())
    assert str(clock._answer(dying_processes.leaves)) == "the process left with exit code 3"
    assert "SIGKILL (killed, likely out of memory)" in str(clock._answer(dying_processes.is_killed))


def test_each_answer_is_of_a_process_of_its_own() -> None:
    clock = timing._Clock(3, TimingBudget(1.0), Stop())
    found = [clock._answer(dying_processes.answers, "word") for _ in range(2)]
    words, threads, processes = zip(*found, strict=True)
    assert (set(words), set(threads)) == ({"word"}, {3})
    assert len({*processes, os.getpid()}) == 3


def test_a_timing_that_fails_leaves_the_others_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(clock: object, target: object, *words: object) -> object:
        if target is timing._send_places:
            return [DeviceInfo("cpu", Environment(processor="x", threads=1), None)]
        step = words[0]
        assert isinstance(step, TimedStep)
        if step.latent_dim == 4:
            return timing._Ended(-signal.SIGKILL)
        return Timing.measured(step, [0.01] * 10)

    monkeypatch.setattr(timing._Clock, "_answer", answer)
    sizes = {**TINY, "latent_dims": [2, 4, 8]}
    summary = time_steps(tmp_path, devices=["cpu"], **sizes)
    assert summary.states() == {"done": 2, "failed": 1}
    assert {each.latent_dim: each.state for each in timings(tmp_path)} == {
        2: "done",
        4: "failed",
        8: "done",
    }
    assert time_steps(tmp_path, devices=["cpu"], **sizes).measured == {}, "failed stays"


class Ear:
    """The end of a pipe that keeps what is sent."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def send(self, message: object) -> None:
        self.heard.append(message)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("tried to allocate 20 GiB"), "out of memory: tried to allocate"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte"), "out of memory: Def"),
        (RuntimeError("misaligned address"), "RuntimeError: misaligned address"),
    ],
)
def test_what_a_step_raises_is_its_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fails(step: TimedStep, bound: TimingBudget) -> Timing:
        raise error

    monkeypatch.setattr(stopwatch, "serve_the_parent", lambda: None)
    monkeypatch.setattr(stopwatch, "settle", lambda _: None)
    monkeypatch.setattr(stopwatch, "time_step", fails)
    ear = Ear()
    stopwatch.send_timing(ear, 1, TimedStep("cpu", 2, 16, 8), TimingBudget(1.0))  # type: ignore[arg-type]  # no pipe
    (found,) = ear.heard
    assert isinstance(found, Timing)
    assert found.state == "failed"
    assert (found.reason or "").startswith(reason)


# --- the stopwatch itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "step_seconds", "steps"),
    [
        (TimingBudget(4.0), 0.004, 1000),
        (TimingBudget(4.0), 1.0, 10),
        (TimingBudget(4.0), 1e-5, 2000),
        (TimingBudget(4.0, steps=37), 1.0, 37),
    ],
)
def test_as_many_steps_as_fit(bound: TimingBudget, step_seconds: float, steps: int) -> None:
    assert bound.steps_of(step_seconds) == steps


class FakeTraining:
    """In place of `train`: steps of 2 ms, the first four of each call far slower."""

    def __init__(self, divergence: Divergence | None = None) -> None:
        self.calls: list[tuple[Cell, int, int]] = []
        self.compiled: list[bool] = []
        self.divergence = divergence

    def __call__(
        self,
        vae: object,
        cells: Sequence[Cell],
        pixels: Sequence[object],
        generators: object,
        *,
        compiled: bool,
    ) -> Training:
        design = cells[0]
        steps = design.epochs * -(-len(pixels) // design.batch_size)
        self.calls.append((design, len(pixels), steps))
        self.compiled.append(compiled)
        seconds = array("d", [1.0] * min(4, steps) + [0.002] * max(0, steps - 4))
        return Training([{}], [self.divergence], seconds, note="not captured")


@pytest.mark.parametrize("batch_size", [7, 128, 10_000, 20_000])
def test_warm_up_is_outside_and_every_batch_is_full(
    monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    fake = FakeTraining()
    monkeypatch.setattr(stopwatch, "train", fake)
    found = stopwatch.time_step(TimedStep("cpu", 2, batch_size, 8), TimingBudget(0.2))
    first_use, warm_up, _, timed = fake.calls
    assert fake.compiled == [False, False, True, True]
    assert first_use[0].batch_size == 2
    assert warm_up[2] >= 8
    assert (found.steps, found.note) == (100, "not captured")
    assert found.spread == pytest.approx(0.0, abs=1e-9)
    assert max(found.block_ms) == pytest.approx(2.0)
    assert found.warm_up_steps == warm_up[2] + timed[2] - 100
    for design, images, _ in (warm_up, timed):
        assert images % design.batch_size == 0
        assert images <= max(batch_size, 16_384)


def test_a_loss_that_is_not_finite_is_no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Divergence(step=1, loss=None, gradient_norm=None, sigma=None)
    monkeypatch.setattr(stopwatch, "train", FakeTraining(lost))
    with pytest.raises(ArithmeticError, match="not finite"):
        stopwatch.time_step(TimedStep("cpu", 2, 16, 8), TimingBudget(1.0))


def timed_share(device: str) -> float:
    """The timed steps' share of the wall time of one call, the device's work waited for."""
    step = TimedStep(device, 16, 128, 256)
    vae = stopwatch._model(step)
    work = stopwatch._Work(step, stopwatch._made_up_images(2048), 16)
    work.done_by(vae)
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    training = work.done_by(vae)
    if device == "cuda":
        torch.cuda.synchronize()
    return sum(training.step_seconds) / (time.perf_counter() - begin)


def test_the_timed_steps_are_most_of_training_on_the_cpu() -> None:
    assert 0.7 < timed_share("cpu") <= 1.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_is_synchronised_within_the_timed_step() -> None:
    assert stopwatch.train is train
    assert 0.5 < timed_share("cuda") <= 1.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_memory_on_cuda_is_the_peak_of_the_allocator(tmp_path: Path) -> None:
    sizes = {**TINY, "widths": [4096]}
    time_steps(tmp_path, devices=["cuda"], **sizes)
    (found,) = timings(tmp_path)
    held = 4 * 4 * (2 * 784 * 4096 + 3 * 2 * 4096) / 2**20
    assert held <= (found.peak_memory_mib or 0.0) < 3 * held
    (fact,) = facts(tmp_path).values()
    assert fact.environment.device_name == torch.cuda.get_device_name()


# --- stopped -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_measured(tmp_path: Path, number: signal.Signals) -> None:
    root = tmp_path / "time"
    sizes = "--width 8 --batch-size 16 --latent-dim 2,3,4,5,6,7,8,9"
    words = f"--device cpu {sizes} --threads 1 --seconds 1"
    process = subprocess.Popen(
        [sys.executable, "-m", "vaebench", "time", *words.split(), "-o", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not list(root.glob("facts/*/record.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert f"kept in {root}" in told
    assert "Traceback" not in told
    assert 1 <= len(timings(root)) < 8
    time_steps(root, devices=["cpu"], **{**TINY, "latent_dims": [2]})
