"""``vaebench.time_steps``: time training steps, each in a fresh process, and record them."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from vaebench.errors import StorageError, UsageError
from vaebench.grid.timed_step import TimedStep, sweep
from vaebench.records.schema import FactRecord
from vaebench.records.store import Store
from vaebench.records.timing import NOISY, TOO_NOISY, Timing, timing_id
from vaebench.runner.engines.local import default_jobs
from vaebench.runner.messages import DeviceInfo, TimingBudget
from vaebench.system.processes import Stop, how_ended, starting_processes

_PATIENCE = 0.1
"""Seconds between two checks for a signal."""

_PRELOADED = ("vaebench.runner.stopwatch", "vaebench.runner.engines.preload")


@dataclass
class TimingSummary:
    """The outcome of a round of timings.

    Attributes:
        measured: maps the name of each timing of this round to its state.
        kept: maps the name of each timing that already had a record to its state.
        seconds: wall time.
        signal: number of the signal that stopped the round, or None.
        storage_error: why a record could not be written, or None; the round then ended.
        damaged: number of damaged records that were moved to ``.quarantine``.
    """

    measured: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    signal: int | None = None
    storage_error: str | None = None
    damaged: int = 0

    def states(self) -> dict[str, int]:
        """Return the number of requested timings in each state."""
        found = [*self.measured.values(), *self.kept.values()]
        return {state: found.count(state) for state in sorted(set(found))}


def time_steps(
    output: Path | str | None = None,
    *,
    devices: Sequence[str] = ("available",),
    latent_dims: Sequence[int] | None = None,
    batch_sizes: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    precisions: Sequence[str] = ("float32",),
    pack_sizes: Sequence[int] = (1,),
    seconds: float = 4.0,
    steps: int | None = None,
    threads: int | None = None,
    eager: bool = False,
    again: bool = False,
    wait: bool = False,
    echo: Callable[[str], None] = print,
) -> TimingSummary:
    """Time training steps on each device, one at a time, unless they have a record.

    The sizes are swept one at a time through a common centre (`vaebench.grid.timed_step.sweep`).
    SIGINT or SIGTERM ends the current timing at once; earlier ones are kept.

    Args:
        output: the results folder, by default ``results/time``.
        devices: values of the axis ``device``; ``available`` stands for each kind of device.
        latent_dims: latent dimensions to sweep; if no sizes are given, all three are swept.
        batch_sizes: batch sizes to sweep.
        widths: widths of the hidden layer to sweep.
        precisions: values of the axis ``precision``.
        pack_sizes: numbers of cells that are trained as one program.
        seconds: approximate duration of the steps of one timing; 10 to 2,000 steps are timed.
        steps: number of steps, instead of ``seconds``.
        threads: number of torch's CPU threads; by default one for each core.
        eager: time the eager step of a short training instead of the compiled or captured step.
        again: repeat timings that have a record.
        wait: wait if another process uses the folder.
        echo: called with each line of progress.

    Raises:
        UsageError: a value is not valid for a cell.
        StoreBusy, StorageError: another process uses the folder, or it cannot be written.
    """
    begin = time.monotonic()
    if isinstance(devices, str) or not devices:
        raise UsageError(
            f"devices must be a list of at least one device, like ['cpu']; got {devices!r}"
        )
    if not 0 < seconds < math.inf:
        raise UsageError(f"seconds must be above 0 and finite; got {seconds}")
    for name, number, least in (("steps", steps, 10), ("threads", threads, 1)):
        whole = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (whole and number >= least):
            rule = f"must be a whole number of at least {least}"
            raise UsageError(f"{name} {rule}; got {number!r}")
    if threads is not None and threads > default_jobs():
        raise UsageError(
            f"threads must not exceed the {default_jobs()} cores that this process may use; "
            f"got {threads}"
        )
    sizes = (latent_dims, batch_sizes, widths, precisions, pack_sizes)
    sweep(devices, *sizes, eager=eager)  # checks all values before the first process starts
    store = Store.at(output, Path("results") / "time")
    summary = TimingSummary()
    with store.writing(wait=wait), Stop() as stop:
        facts, damages = store.read_facts()
        aside = store.set_aside(damages)
        for damage in aside:
            echo(f"set aside in .quarantine: {damage}")
        summary.damaged = len(aside)
        clock = _Clock(threads or default_jobs(), TimingBudget(seconds, steps), stop)
        places = {place.device: place for place in clock.places(devices)}
        wanted = sweep(list(places), *sizes, eager=eager)
        todo = _missing([(step, places[step.device]) for step in wanted], facts, summary, again)
        try:
            _time_all(todo, store, clock, summary, echo)
        except StorageError as error:
            summary.storage_error = str(error)
        summary.signal = stop.signal
    summary.seconds = time.monotonic() - begin
    return summary


_Wanted = tuple[TimedStep, DeviceInfo]


def _missing(
    wanted: Iterable[_Wanted], facts: Iterable[FactRecord], summary: TimingSummary, again: bool
) -> list[_Wanted]:
    """Return the steps without a usable record, and note the others in the summary."""
    states = {fact.record_id: fact.payload.get("state") for fact in facts if fact.kind == "timing"}
    todo = []
    for step, place in wanted:
        name = timing_id(step, place.environment)
        state = states.get(name)
        if again or state not in ("done", "failed"):
            todo.append((step, place))
        else:
            summary.kept[name] = str(state)
    return todo


def _time_all(
    todo: Sequence[_Wanted],
    store: Store,
    clock: _Clock,
    summary: TimingSummary,
    echo: Callable[[str], None],
) -> None:
    for number, (step, place) in enumerate(todo, 1):
        if place.absent is None:
            timing = clock.time(step)
        else:
            timing = Timing.absent(step, "unavailable", place.absent)
        if timing is None:
            return
        record = FactRecord(
            kind="timing",
            record_id=timing_id(step, place.environment),
            payload=timing.payload(),
            environment=place.environment,
        )
        store.write(record)
        summary.measured[record.record_id] = timing.state
        echo(f"[{number}/{len(todo)}] {_line(timing)}")


def _line(timing: Timing) -> str:
    """Return a line about a timing."""
    design = (
        f"{timing.device}, latent {timing.latent_dim:,}, batch {timing.batch_size:,}, "
        f"width {timing.hidden[0]:,}, {timing.precision}"
    )
    if timing.pack_size > 1:
        design += f", pack of {timing.pack_size}"
    design += f", {timing.step_kind}"
    if timing.step_ms_median is None or timing.noise is None:
        return f"{design}: {timing.state} ({timing.reason})"
    spread = f"spread {timing.spread:.1%} over {timing.steps:,} steps"
    if timing.waited is not None and timing.waited > NOISY:
        spread += f", {timing.waited:.0%} of the time waiting for a core that others had"
    if timing.noise > TOO_NOISY:
        return f"{design}: too noisy for a number, {spread}"
    noisy = ", noisy" if timing.noise > NOISY else ""
    return f"{design}: {timing.step_ms_median:.3g} ms a step, {spread}{noisy}"


class _Clock:
    """Starts a new process to list the devices, and one for each timing."""

    def __init__(self, threads: int, bound: TimingBudget, stop: Stop) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(_PRELOADED))
        self._threads, self._bound, self._stop = threads, bound, stop

    def places(self, devices: Sequence[str]) -> list[DeviceInfo]:
        """Return a description of each device; none if stopped."""
        found = self._answer(_send_places, tuple(devices))
        if isinstance(found, _Ended):
            raise RuntimeError(f"cannot list the devices of this machine: {found}")
        return [] if found is None else found  # type: ignore[return-value]  # of _send_places

    def time(self, step: TimedStep) -> Timing | None:
        """Time a step; return a failed timing if the process dies, and None if stopped."""
        found = self._answer(_send_timing, step, self._bound)
        if isinstance(found, _Ended):
            return Timing.absent(step, "failed", str(found))
        return found  # type: ignore[return-value]  # what _send_timing sends

    def _answer(self, target: Callable[..., None], *words: object) -> object:
        """Return the result of a new process, or `_Ended` without one; None if stopped."""
        if self._stop.signal is not None:
            return None
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=target, args=(theirs, self._threads, *words), daemon=True
        )
        with starting_processes():
            process.start()
        theirs.close()
        try:
            while not ours.poll(_PATIENCE):
                if self._stop.signal is not None:
                    return None
            return ours.recv()
        except (EOFError, OSError):
            process.join()
            # Ctrl-C is also sent to the new process, which may end before this one.
            time.sleep(_PATIENCE)
            return None if self._stop.signal is not None else _Ended(process.exitcode)
        finally:
            process.kill()
            process.join()
            ours.close()


@dataclass(frozen=True)
class _Ended:
    """A process that ended without an answer."""

    exit_code: int | None

    def __str__(self) -> str:
        return f"the process {how_ended(self.exit_code)}"


def _send_places(connection: Connection, threads: int, devices: Sequence[str]) -> None:
    # The parent does not import torch; the fork server has imported it.
    from vaebench.runner.stopwatch import send_places

    send_places(connection, threads, devices)


def _send_timing(
    connection: Connection, threads: int, step: TimedStep, bound: TimingBudget
) -> None:
    from vaebench.runner.stopwatch import send_timing

    send_timing(connection, threads, step, bound)
