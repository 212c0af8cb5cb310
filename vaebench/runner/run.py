"""Run a grid: plan its cells, train and evaluate them, and write their records."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from numbers import Integral
from pathlib import Path
from typing import TypedDict

from tqdm.auto import tqdm

from vaebench.data.acquire import require
from vaebench.data.own_data import keep_arrays
from vaebench.data.places import storage_folder
from vaebench.errors import NewerSchema, StorageError, UsageError
from vaebench.grid.cell import program_key
from vaebench.grid.spec import Grid
from vaebench.records.schema import NOT_A_LIKELIHOOD, CellRecord
from vaebench.records.store import Damage, Store
from vaebench.runner.again import tasks_again
from vaebench.runner.engines import engine_of
from vaebench.runner.engines.base import Engine, EngineName
from vaebench.runner.messages import Outcome, Task
from vaebench.runner.plan import (
    Plan,
    estimate,
    estimates,
    lack_of_memory,
    make_plan,
    packs,
    programs_worth_compiling,
    shared_trainings,
)
from vaebench.runner.pool import Pool, Running
from vaebench.runner.worker_time import WorkerTime
from vaebench.system.processes import GRACE_SECONDS, Stop
from vaebench.system.terminal import capped, printable, waiting


class RunOptions(TypedDict, total=False):
    """The options of a run; `run` documents each."""

    jobs: int | None
    retry_failed: bool
    wait: bool
    largest_pack: int | None
    time_limit: float
    keep_weights: bool
    evaluate_again: bool
    engine: EngineName


@dataclass
class RunSummary:
    """How a run ended.

    Attributes:
        trained: maps the id of each cell of this run to its state.
        finished: maps the id of each cell that already had a record to its state.
        seconds: wall time.
        signal: number of the signal that stopped the run, or None.
        storage_error: why a record could not be written, or None.
        left: number of cells that were not started.
        damaged: number of damaged records that were moved to ``.quarantine``.
        worker_time: how the workers spent their time; None if no worker was started.
        unused: a line for each other file that is not used: damaged arrays, a record that cannot be
            read, or a record of a newer vaebench.
    """

    trained: dict[str, str] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    signal: int | None = None
    storage_error: str | None = None
    left: int = 0
    damaged: int = 0
    unused: list[str] = field(default_factory=list)
    worker_time: WorkerTime | None = None

    def states(self) -> dict[str, int]:
        """Return the number of cells in each state."""
        return dict(sorted(Counter([*self.trained.values(), *self.finished.values()]).items()))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{n}</td><td>{state}</td></tr>" for state, n in self.states().items()
        )
        lines = [f"{len(self.trained)} cells run in {self.seconds:,.0f} s, {self.left} left"]
        lines += [text for text in (self.storage_error, *self.unused) if text is not None]
        return f"<table>{rows}</table>" + "".join(f"<p>{escape(line)}</p>" for line in lines)


def run(
    grid: Grid | str | Path | Mapping[str, object],
    output: Store | Path | str | None = None,
    *,
    overrides: Mapping[str, Iterable[object]] | None = None,
    data: Mapping[str, object] | None = None,
    data_dir: Path | str | None = None,
    jobs: int | None = None,
    retry_failed: bool = False,
    wait: bool = False,
    largest_pack: int | None = None,
    time_limit: float = math.inf,
    keep_weights: bool = False,
    evaluate_again: bool = False,
    engine: EngineName = "local",
    echo: Callable[[str], None] = print,
) -> RunSummary:
    """Train, evaluate and record every cell of a grid that has no record yet.

    Args:
        grid: a Grid, the name of a packaged grid, a TOML file, or a mapping of its content.
        output: the results folder, by default ``results/<grid>``.
        overrides: maps an axis to its values, like ``--set``; not allowed with a Grid.
        data: a data set that replaces that of the grid: maps ``train``, ``test``, ``valid``,
            ``train_labels`` and so on to arrays. An array is a NumPy array, a tensor, or a torch
            ``Dataset`` of images or of pairs of image and label. Only ``train`` is required. The
            arrays are saved in a file in the data folder.
        data_dir: the folder that is searched first for data files.
        jobs: number of worker processes with one thread each; by default one for each core.
        retry_failed: train cells again that failed, diverged or exceeded the time limit.
        wait: wait if another run uses the folder.
        largest_pack: the largest number of cells of equal shapes that are trained as one program,
            if that is faster; by default 6 on a CPU and 64 on a GPU.
        time_limit: seconds that a cell may take, including evaluation; the limit of a pack is this
            times the number of its cells. A cell that takes longer is stopped and recorded as
            ``timeout``.
        keep_weights: keep the trained weights of each cell, for `load_model`; a finished cell
            without weights in the folder is trained again.
        evaluate_again: do not train; evaluate again every cell of the grid with kept weights, or
            with the same training as a stored cell with kept weights.
        engine: ``local`` starts workers on this machine, ``ray`` on a Ray cluster.
        echo: called with each line of progress.

    Raises:
        UsageError: overrides or data with a Grid, an override that is not a list of values, an
            option that is not positive, an unknown engine, or no weights for ``evaluate_again``.
        EngineError: no worker can be started; records written before are kept.
        GridError: the grid is not valid; the error lists all problems.
        DataMissing, DataInvalid: a data set is missing or cannot be used.
        StoreBusy, StorageError: another run uses the folder, or it cannot be written.
    """
    folder = None if data_dir is None else Path(data_dir)
    grid = _grid(grid, override_lists(overrides), data, folder)
    store = Store.at(output, Path("results") / grid.name)
    _check_options(time_limit, jobs=jobs, largest_pack=largest_pack)
    if evaluate_again and not store.root.exists():
        raise UsageError(f"cannot evaluate again: there is no store {store.root}")
    begin = time.monotonic()
    with engine_of(engine) as machines:
        devices = devices_of(grid, machines)

        def planned(states: Mapping[str, str]) -> Plan:
            with waiting("reading the data", echo):
                plan = make_plan(grid, states, devices, retry_failed=retry_failed, data_dir=folder)
                for name in plan.data_sets():
                    require(name, folder)
            return plan

        # A new store is planned before its folder is created, so that missing data are reported.
        plan = None if store.root.exists() else planned({})
        with store.writing(wait=wait):
            found = surveyed(store, keep_weights, weights=keep_weights or evaluate_again)
            aside = store.set_aside(found.damages)
            for damage in aside:
                echo(f"set aside in .quarantine: {damage}")
            known = found.states
            if evaluate_again:
                kept = ("newer", "unreadable")
                known = {name: state for name, state in known.items() if state in kept}
            if plan is None or known:
                plan = planned(known)
            todo = {each.cell_id for each in plan.todo}
            store.require_places(todo)
            for damage in found.damages:
                again = damage.kind == "arrays" or (damage.kind == "weights" and keep_weights)
                if again and damage.name in todo:
                    echo(f"made again: {damage}")
            summary = RunSummary(finished=dict(plan.finished), damaged=len(aside))
            if plan.todo:
                place = None if folder is None else folder.absolute()
                base = Task((), (), grid.name, place, keep_weights, store.checkpoints.absolute())
                tasks = (
                    tasks_again(plan.todo, store, base, echo)
                    if evaluate_again
                    else _tasks(plan, base, found.with_weights, largest_pack)
                )
                workers = min(_workers(machines, jobs, plan, echo), len(tasks))
                pool = Pool(workers, machines, time_limit=time_limit)
                _train_all(tasks, store, pool, summary, echo, found.standing)
    # The arrays of a finished cell stay damaged if the cell could not be trained again.
    mended = {
        name
        for name, state in summary.trained.items()
        if state == "done" or name not in found.standing
    }
    left = [each for each in found.damages if each not in aside and each.name not in mended]
    summary.unused = [str(damage) for damage in left]
    summary.seconds = time.monotonic() - begin
    return summary


def _grid(
    grid: Grid | str | Path | Mapping[str, object],
    overrides: dict[str, list[object]],
    data: Mapping[str, object] | None,
    data_dir: Path | None,
) -> Grid:
    if data is not None:
        overrides["dataset"] = [str(keep_arrays(data, storage_folder(data_dir)))]
    if isinstance(grid, Mapping):
        return Grid.from_dict(grid, overrides)
    if not isinstance(grid, Grid):
        return Grid.load(str(grid), overrides)
    if overrides:
        raise UsageError(
            "overrides and data cannot be given with a Grid object: pass the name, file or mapping "
            "of the grid, or change the grid itself"
        )
    return grid


def override_lists(overrides: Mapping[str, Iterable[object]] | None) -> dict[str, list[object]]:
    """Return the values of each axis as a list; NumPy arrays and ranges are accepted."""
    if overrides is not None and not isinstance(overrides, Mapping):
        raise UsageError(f"overrides must map each axis to a list of values; got {overrides!r}")
    lists = {}
    for axis, values in (overrides or {}).items():
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
            raise UsageError(f"overrides: {axis} must be a list of values, such as [{values!r}]")
        lists[axis] = list(values)
    return lists


def _check_options(time_limit: float, **counts: int | None) -> None:
    if not isinstance(time_limit, int | float) or not time_limit > 0:
        raise UsageError(f"time_limit must be above 0 seconds; got {time_limit!r}")
    for name, number in counts.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if number is not None and not (whole and number >= 1):
            raise UsageError(f"{name} must be a whole number, 1 or more; got {number!r}")


def _workers(machines: Engine, jobs: int | None, plan: Plan, echo: Callable[[str], None]) -> int:
    """Return the number of workers to start; print their place and warnings."""
    cells = [planned.cell for planned in plan.todo]
    workers = machines.jobs(jobs, {cell.device for cell in cells})
    elsewhere = machines.elsewhere()
    if elsewhere is not None:
        echo(f"workers: on {elsewhere}")
    if workers < (jobs or 0):
        echo(f"note: the cluster has room for {workers} of {jobs} jobs")
    lack = lack_of_memory(cells, workers) if elsewhere is None else None
    if lack is not None:
        echo(f"warning: {lack}")
    for note in plan.notes:
        echo(f"note: {note}")
    return workers


@dataclass
class Survey:
    """The content of a store before a run.

    Attributes:
        states: maps the id of each cell to the state of its record, or the kind of its damage.
        damages: all damaged or unreadable files.
        with_weights: cells whose weights were kept; if trained again, their weights are kept too.
        standing: cells with a finished record, which a failed new training does not replace.
    """

    states: dict[str, str] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    with_weights: set[str] = field(default_factory=set)
    standing: set[str] = field(default_factory=set)


def surveyed(store: Store, keep_weights: bool = False, *, weights: bool = False) -> Survey:
    """Return the content of a store, reading its files once.

    With ``keep_weights`` a finished cell without weights has no state, so that it is trained again.
    With ``weights`` their damage counts too.
    """
    survey = Survey()
    for each in store.inspect(weights=weights):
        if isinstance(each, Damage):
            survey.damages.append(each)
            if each.path.is_relative_to(store.root / "cells"):
                survey.states[each.name] = each.kind
                if store.has_weights_beside(each):
                    survey.with_weights.add(each.name)
        elif isinstance(each, CellRecord):
            name, done = each.cell_id, each.status.state == "done"
            if done:
                survey.standing.add(name)
            if each.weights_sha256 is not None:
                survey.with_weights.add(name)
            if not (keep_weights and done and each.weights_sha256 is None):
                survey.states[name] = each.status.state
    return survey


def devices_of(grid: Grid, engine: Engine) -> list[str]:
    """Return the devices that ``available`` stands for, or none if no cell uses it."""
    asked = any(cell.device == "available" for cell in grid.cells)
    return engine.devices() if asked else ["cpu"]


def _tasks(plan: Plan, base: Task, kept: Collection[str], largest_pack: int | None) -> list[Task]:
    """Make the tasks, longest first, so that the last task to finish is a short one.

    The weights of the cells in ``kept`` are kept again.
    """
    trained = shared_trainings(plan.todo)
    compiled = programs_worth_compiling(shared_trainings(plan.cells), largest_pack)
    tasks = []
    for pack in packs(trained, largest_pack):
        task = replace(
            base,
            cells=tuple(each.cell for each in pack),
            cell_ids=tuple(each.cell_id for each in pack),
            compiled=program_key(pack[0].cell) in compiled,
            shared=tuple((s.cell, s.cell_id) for each in pack for s in trained[each]),
        )
        keep = base.keep_weights or any(name in kept for _, name in task.all_cells())
        tasks.append(replace(task, keep_weights=keep))
    return tasks


def _train_all(
    tasks: Sequence[Task],
    store: Store,
    workers: Pool,
    summary: RunSummary,
    echo: Callable[[str], None],
    standing: Collection[str],
) -> None:
    display = _Display(tasks, echo)
    begin = time.monotonic()
    spent = summary.worker_time = WorkerTime(workers.jobs)
    with workers as pool, Stop() as stop, display:
        for event in pool.run(tasks):
            if not _keep(event.outcomes, store, summary, standing):
                pool.stopping = True
            spent.add(event.outcomes)
            display.show(event.outcomes, event.running)
            if stop.signal is not None:
                if not pool.stopping:
                    display.say(
                        "stopping: trainings are saved at the end of their epoch, within "
                        f"{GRACE_SECONDS:.0f} s; a second signal ends it now"
                    )
                    pool.stop(_stopped_by(stop.signal))
                if stop.is_over():
                    break
            if summary.storage_error is not None:
                break
        spent.wall, spent.busy = time.monotonic() - begin, pool.busy_seconds
        summary.signal = stop.signal
        if summary.storage_error is None:
            reason = _stopped_by(stop.signal) if stop.signal else "stopped"
            _keep(pool.interrupt(reason), store, summary, standing)
    summary.left = sum(len(task.all_cells()) for task in tasks) - len(summary.trained)


def _stopped_by(number: int) -> str:
    return f"stopped by {signal.Signals(number).name}"


def _keep(
    outcomes: Sequence[Outcome], store: Store, summary: RunSummary, standing: Collection[str]
) -> bool:
    """Write records, without replacing finished ones by failures; return false after an error."""
    ended = []
    try:
        for outcome in outcomes:
            name, state = outcome.record.cell_id, outcome.record.status.state
            if state == "done" or name not in standing:
                store.write(outcome.record, outcome.arrays, outcome.weights)
            summary.trained[name] = state
            if state not in ("interrupted", "timeout"):  # these can continue from a checkpoint
                ended.append(name)
        store.forget_checkpoints(ended)
    except (StorageError, NewerSchema) as error:
        summary.storage_error = str(error)
        return False
    return True


class _Display:
    """A progress bar over the whole grid on a terminal; elsewhere one line per cell."""

    def __init__(self, tasks: Sequence[Task], echo: Callable[[str], None]) -> None:
        self._echo = echo
        self._total = sum(len(task.all_cells()) for task in tasks)
        self._done, self._work = 0, 0.0
        self._price = sum(map(_seconds, tasks))
        self._begin = time.monotonic()
        self._bar = tqdm(
            total=round(self._price, 3),
            disable=not (_is_terminal() or "ipykernel" in sys.modules),
            # A terminal of unknown width gets 80 columns.
            ncols=shutil.get_terminal_size().columns,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
        )

    def __enter__(self) -> _Display:
        self._bar.set_description_str(f"0/{self._total} cells")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, outcomes: Sequence[Outcome], running: Sequence[Running]) -> None:
        """Update the bar, or print a line for each cell that ended."""
        for outcome in outcomes:
            price = estimate(outcome.record.cell)
            # All cells of a pack share its time.
            self._work += price.seconds if outcome.trained else price.evaluation_seconds
        for outcome in outcomes:
            self._done += 1
            if self._bar.disable or outcome.record.status.state != "done":
                self._line(outcome.record)
        current = sum(each.share * _training_seconds(each.task) for each in running)
        # The bar reaches 100 % only with the last record, even if the estimates were too low.
        most = round(self._price if self._done == self._total else 0.99 * self._price, 3)
        losses = [f"{each.losses[0]:.1f}" for each in running if each.losses]
        with self._terminal():
            self._bar.n = min(self._work + current, most)
            self._bar.set_description_str(f"{self._done}/{self._total} cells", refresh=False)
            self._bar.set_postfix_str(f"loss {', '.join(losses)} nats" if losses else "")

    @contextmanager
    def _terminal(self) -> Iterator[None]:
        """Switch to plain lines if the terminal was closed."""
        try:
            yield
        except OSError:
            self._bar.disable = True

    def _line(self, record: CellRecord) -> None:
        what: str = record.status.state
        if record.status.reason:
            what += f" ({capped(record.status.reason, 500)})"  # complete in the record
        elbo = record.metrics.get("elbo")
        if elbo is not None and elbo.value is not None:
            name = "score" if record.comparable == NOT_A_LIKELIHOOD else "ELBO"
            value = f"{elbo.value:.2f}" if abs(elbo.value) < 1e9 else f"{elbo.value:.3g}"
            what += f", {name} {value} nats/{'row' if record.is_of_rows else 'image'}"
        if record.status.state != "interrupted":
            elapsed = time.monotonic() - self._begin
            remaining = elapsed * max(self._price / self._work - 1, 0.0) if self._work else 0.0
            what += f"; about {remaining:.0f} s left"
        self.say(f"[{self._done}/{self._total}] {record.cell_id}: {what}")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if not self._bar.disable:
            with self._terminal():
                self._bar.write(printable(text))
        if self._bar.disable:
            self._echo(text)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _seconds(task: Task) -> float:
    if task.trained is not None:
        return estimate(task.cells[0]).evaluation_seconds
    return sum(price.seconds for price in estimates([cell for cell, _ in task.all_cells()]))


def _training_seconds(task: Task) -> float:
    """Return the estimated training time of a task, in seconds."""
    prices = estimates([cell for cell, _ in task.all_cells()])
    return sum(price.seconds - price.evaluation_seconds for price in prices)
