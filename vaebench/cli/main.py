"""The command line: words in, calls out. Each command imports its half inside itself."""

from __future__ import annotations

import importlib
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from vaebench import __version__
from vaebench.cli.options import FOLDER, data_dir_option
from vaebench.cli.reproduce import reproduce
from vaebench.cli.time_steps import time_command
from vaebench.errors import ExitCode, NothingToReport, exit_code_of
from vaebench.system.terminal import adapt, printable

if TYPE_CHECKING:
    from types import FrameType

    from vaebench.grid.spec import Grid
    from vaebench.runner.engines.base import EngineName
    from vaebench.runner.run import RunSummary

__all__ = ["cli", "main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with one of the documented exit codes."""
    adapt((sys.stdout, sys.stderr))
    try:
        with _leaving_on_sigterm():
            cli.main(arguments, prog_name="vaebench", standalone_mode=False)
        if sys.stdout is not None:  # as after `>&-`
            sys.stdout.flush()
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say("vaebench: stopped", err=True)
        sys.exit(ExitCode.SIGNAL + signal.SIGINT)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except BrokenPipeError:
        _leave_unread()
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        _say(f"vaebench: {_told(error)}", err=True)
        sys.exit(code)
    sys.exit(0)


def _say(text: str, err: bool = False) -> None:
    """Print a line, in ASCII where the terminal has no more."""
    try:
        click.echo(printable(text), err=err)
    except BrokenPipeError:
        _leave_unread()


def _leave_unread() -> NoReturn:
    """The reader of our output has left, as in `vaebench list axes | head -1`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(ExitCode.BROKEN_PIPE)


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the program in order, with its exit code; a run has a handler of its own."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(ExitCode.SIGNAL + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(error: Exception) -> str:
    if type(error).__module__ == "builtins" and isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)


class _Group(click.Group):
    """A group that names the command that was meant, and lists its commands in their order here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.commands, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)


_ROWS_AFTER_A_RUN = 40


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vaebench")
def cli() -> None:
    """Measure what the design choices of a variational autoencoder do.

    Start with `vaebench run`: it trains a small grid on images that need no download, and ends
    with a table and a report. What else there is to run: `vaebench list grids`; what can be
    varied: `vaebench list axes`. Every command explains itself: `vaebench run --help`.
    """


@cli.command(short_help="Train a grid of VAEs, record and report.")
@click.argument("grid", default="quick")
@click.option("-o", "--output", type=FOLDER, help="The store [default: results/GRID].")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="AXIS=VALUE[,VALUE]",
    help="Replace an axis of the grid; may be repeated.",
)
@click.option("--device", help="Short for --set device=...; 'available' takes all there are.")
@click.option("--dry-run", is_flag=True, help="Print the plan and train nothing.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Worker processes [default: cores].")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the workers are: on this machine, or on a Ray cluster.",
)
@click.option(
    "--pack",
    type=click.IntRange(1),
    metavar="N",
    help="Train up to N cells of equal shapes as one program [default: 6; 64 on a GPU].",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End a cell that takes longer, or hangs [default: none].",
)
@click.option(
    "--keep-weights",
    is_flag=True,
    help="Keep what each cell learns as weights.safetensors; done cells without are run again.",
)
@click.option(
    "--retry-failed", is_flag=True, help="Try again what failed, diverged or ran out of time."
)
@click.option("--wait", is_flag=True, help="Wait for another run that holds the store.")
@click.option("--no-report", is_flag=True, help="Leave the report out.")
@click.option("--report-dir", type=FOLDER, help="The report's folder [default: reports/STORE].")
@data_dir_option
def run(
    grid: str,
    output: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    dry_run: bool,
    jobs: int | None,
    engine: EngineName,
    pack: int | None,
    time_limit: float | None,
    keep_weights: bool,
    retry_failed: bool,
    wait: bool,
    no_report: bool,
    report_dir: Path | None,
    data_dir: Path | None,
) -> None:
    """Train every cell of GRID, record what it measured, and make the report.

    GRID is a packaged grid's name (`vaebench list grids`) or a TOML file; `quick` needs no
    download and takes a minute or two on two cores. Running it again does only what is missing.
    """
    from vaebench.cli.preview import Ask, preview
    from vaebench.records.store import Store
    from vaebench.runner.engines import engine_of
    from vaebench.runner.run import run_grid

    if time_limit is not None and math.isnan(time_limit):
        raise click.UsageError("--time-limit is a number of seconds; got nan")
    loaded = _grid(grid, settings, device)
    store = Store(output or Path("results") / loaded.name)
    if dry_run:
        with engine_of(engine) as machines:
            ask = Ask(data_dir, jobs, retry_failed, keep_weights, machines)
            for line in preview(loaded, store, ask):
                _say(line)
        return
    folder = _report_folder(store.root, report_dir, wanted=not no_report)
    for note in loaded.notes:
        _say(f"note: {note}")
    summary = run_grid(
        loaded,
        store,
        data_dir=data_dir,
        jobs=jobs,
        retry_failed=retry_failed,
        wait=wait,
        largest_pack=pack,
        time_limit=time_limit or math.inf,
        keep_weights=keep_weights,
        engine=engine,
        echo=_say,
    )
    # A run that finds nothing to do, and is asked for no report, answers without reading it all.
    _print_summary(summary, store.root, table=bool(summary.trained) or not no_report)
    if folder is not None and summary.signal is not None:
        if "done" in summary.states():
            out = "" if report_dir is None else f" -o {report_dir}"
            _say(f"stopped before the report: `vaebench report {store.root}{out}` makes it")
    elif folder is not None and summary.storage_error is None:
        _write_report([store.root], folder)
    _leave_after(summary)


def _report_folder(store: Path, given: Path | None, *, wanted: bool) -> Path | None:
    """Where the report goes, None for none; a folder that can't have it is refused at once."""
    if not wanted:
        if given is not None:
            raise click.UsageError("--report-dir says where the report goes; --no-report, none")
        return None
    from vaebench.report.target import check_target, default_target

    folder = given or default_target([store])
    check_target([store], folder)
    return folder


def _write_report(stores: Sequence[Path], folder: Path | None) -> tuple[str, ...]:
    """Make the report; a line for each file that could not be used."""
    from vaebench.report.report import make_report

    made = make_report(stores, folder)
    _say(f"report: {made.page}")
    return made.unused


def _grid(name: str, settings: Sequence[str], device: str | None) -> Grid:
    from vaebench.grid.spec import Grid, parse_override

    overrides: dict[str, list[object]] = {}
    for text in (*settings, *([f"device={device}"] if device else [])):
        axis, values = parse_override(text)
        if axis in overrides:
            raise click.UsageError(
                f"the axis {axis!r} is set twice: give all its values at once, {axis}=A,B"
            )
        overrides[axis] = values
    return Grid.load(name, overrides)


def _print_summary(summary: RunSummary, root: Path, *, table: bool) -> None:
    from vaebench.cli.preview import duration

    if not summary.trained and summary.left == 0:
        _say(f"nothing to train: all {len(summary.finished)} cells have a record in {root}")
    else:
        count = len(summary.trained)
        _say(f"{count} {'cell' if count == 1 else 'cells'} run in {duration(summary.seconds)}")
        # What cells were at when they were stopped is in no record.
        if summary.worker_time is not None and summary.signal is None:
            _say(summary.worker_time.text())
    if table and summary.storage_error is None and summary.states():
        from vaebench.cli.console import store_text

        _say(f"\n{store_text(root, most_rows=_ROWS_AFTER_A_RUN)}\n")
    states = ", ".join(f"{count} {state}" for state, count in summary.states().items())
    left = f", {summary.left} left" if summary.left else ""
    goes_on = summary.left or summary.states().get("interrupted")
    _say(f"cells: {states or 'none'}{left}{': run it again to go on' if goes_on else ''}")
    if set(summary.states()) & {"failed", "diverged", "timeout"}:
        _say("  try cells that failed, diverged or ran out of time again with --retry-failed")
    if summary.storage_error is not None:
        _say(f"vaebench: {summary.storage_error}", err=True)
    _say(f"records: {root}")


def _leave_after(summary: RunSummary) -> None:
    if summary.signal is not None:
        sys.exit(ExitCode.SIGNAL + summary.signal)
    unused = _told_unused(summary.unused)
    if summary.damaged:
        files = (
            "1 damaged file was"
            if summary.damaged == 1
            else f"{summary.damaged} damaged files were"
        )
        _say(f"vaebench: {files} set aside; what this grid needs was trained again", err=True)
    if summary.storage_error is not None or summary.damaged or unused:
        sys.exit(ExitCode.DAMAGED)
    if set(summary.states()) - {"done"}:
        sys.exit(ExitCode.SOME_FAILED)


def _told_unused(lines: Sequence[str]) -> bool:
    for line in lines:
        _say(f"vaebench: not used: {line}", err=True)
    return bool(lines)


@cli.command(short_help="Make tables, figures and a page from records.")
@click.argument("stores", nargs=-1, type=FOLDER, metavar="[DIR]...")
@click.option("-o", "--output", type=FOLDER, help="The report's folder [default: reports/DIR].")
def report(stores: tuple[Path, ...], output: Path | None) -> None:
    """Make tables, figures and a page from the records in DIR, and from nothing else.

    The same records give the same bytes. Without DIR: every store that lies in results/.
    """
    found = list(stores) or _stores_under(Path("results"))
    _must_exist(*stores)
    if _told_unused(_write_report(found, output)):
        sys.exit(ExitCode.DAMAGED)


def _stores_under(folder: Path) -> list[Path]:
    rooms = [*folder.glob("*/cells"), *folder.glob("*/facts")] if folder.exists() else []
    return sorted({each.parent for each in rooms})


def _must_exist(*stores: Path) -> None:
    missing = [str(store) for store in stores if not store.exists()]
    if missing:
        raise click.UsageError(f"there is no folder {', '.join(missing)}")


@cli.command(short_help="Two stores or two designs, paired by seed, with intervals.")
@click.argument("a")
@click.argument("b")
@click.option("--metric", default="elbo", show_default=True, help="See `vaebench list metrics`.")
def compare(a: str, b: str, metric: str) -> None:
    """Compare two stores, or two designs, seed by seed, with 95 % intervals.

    A and B are results folders; DIR:axis=value,axis=value selects some of the cells of one. A cell
    is compared with the one that is equal in all but the axes that have one value on each side:

    vaebench compare results/quick:sigma=0.1 results/quick:sigma=learned

    What may not be compared (timings of two machines, nats of a density and of a mass, ...) is
    refused with the reason; --metric bits_per_dim may cross likelihood families.
    """
    from vaebench.analysis.comparison import compare as compared
    from vaebench.analysis.comparison import parse_side
    from vaebench.cli.console import comparison_text

    _must_exist(*(parse_side(side)[0] for side in (a, b)))
    found = compared(a, b, metric)
    _say(comparison_text(found, (a, b)))
    if _told_unused(found.unused):
        sys.exit(ExitCode.DAMAGED)


@cli.command(short_help="Write a store's tidy table as CSV or Parquet.")
@click.argument("store", type=FOLDER, metavar="DIR")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write: .csv or .parquet.",
)
def export(store: Path, output: Path) -> None:
    """Write the tidy table of a store: a row a cell, a column an axis or metric.

    Of a store that holds no cells, but what `vaebench time` measured: a row a timing.
    """
    from vaebench.analysis.frame import load_with_damage
    from vaebench.analysis.timing import load_timings_with_unused
    from vaebench.report.export import export as write_table

    _must_exist(store)
    frame, damages = load_with_damage(store)
    unused = list(map(str, damages))
    if frame.empty and not unused:
        frame, unused = load_timings_with_unused(store)
    if frame.empty and not unused:
        _say(f"vaebench: there is no record of a cell or timing in {store}", err=True)
        sys.exit(ExitCode.NOTHING)
    if frame.empty:
        _told_unused(unused)
        sys.exit(ExitCode.DAMAGED)
    written = write_table(frame, output)
    _say(f"{len(frame)} row{'s' * (len(frame) != 1)}: {written}")
    if _told_unused(unused):
        sys.exit(ExitCode.DAMAGED)


_LISTS = ("grids", "axes", "likelihoods", "datasets", "metrics", "findings")


@cli.command("list", short_help="What there is: grids, axes, likelihoods, metrics, more.")
@click.argument("what", type=click.Choice(_LISTS))
def list_(what: str) -> None:
    """Print what there is, each with one line."""
    from vaebench.cli.listing import lines_of

    for line in lines_of(what):
        _say(line)


@cli.command(short_help="A store's state, or one record, to read.")
@click.argument("store", type=FOLDER, metavar="DIR")
@click.argument("cell", required=False)
def show(store: Path, cell: str | None) -> None:
    """Print the state of a store, or one record of it, for a person to read.

    CELL may be the beginning of a cell's name.
    """
    from vaebench.analysis.timing import load_timings_with_unused
    from vaebench.cli.console import fact_text, record_text, store_text, timings_text
    from vaebench.records.store import Store

    _must_exist(store)
    states = Store(store).states()
    facts = {fact.record_id: fact for fact in Store(store).read_facts()[0]}
    if not states and not facts:
        _say(f"vaebench: there is no record in {store}", err=True)
        sys.exit(ExitCode.NOTHING)
    if cell is None:
        if states:
            _say(store_text(store))
        timings, unused = load_timings_with_unused(store)
        if not timings.empty:
            _say(timings_text(timings))
        findings = sum(fact.kind == "finding" for fact in facts.values())
        if findings:
            judge = f"vaebench reproduce --no-train -o {store}"
            many = "s" * (findings != 1)
            _say(f"{findings} record{many} of findings that need no cell: `{judge}` judges by them")
        if _told_unused(list(dict.fromkeys([*map(str, Store(store).check()), *unused]))):
            sys.exit(ExitCode.DAMAGED)
        return
    names = [*states, *facts]
    matching = [name for name in names if name == cell] or [
        name for name in names if name.startswith(cell)
    ]
    if len(matching) != 1:
        found = ", ".join(matching[:5]) + ", …" * (len(matching) > 5) if matching else "none"
        raise click.UsageError(f"CELL must name one record of {store}; {cell!r} fits: {found}")
    (name,) = matching
    _say(fact_text(facts[name]) if name in facts else record_text(Store(store).read(name)))


@cli.group(cls=_Group)
def data() -> None:
    """List, fetch, add and verify data sets."""


@data.command("list", short_help="Each data set, and whether it is here.")
@data_dir_option
def data_list(data_dir: Path | None) -> None:
    """Print each data set, and whether it is here."""
    from vaebench.data.acquire import listing

    for state in listing(data_dir):
        where = f" ({state.folder})" if state.folder else ""
        _say(f"{state.name:<16} {state.state}{where}  {state.summary}")


@data.command("fetch", short_help="Download one, checked by SHA-256.")
@click.argument("name")
@data_dir_option
def data_fetch(name: str, data_dir: Path | None) -> None:
    """Download a data set from torchvision's mirrors, checked by SHA-256."""
    from vaebench.data.acquire import fetch

    _say(f"{name}: {fetch(name, data_dir, _say)}")


@data.command("add", short_help="Take its IDX files from a folder or archive.")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@data_dir_option
def data_add(name: str, path: Path, data_dir: Path | None) -> None:
    """Take a data set's IDX files from a folder or archive, raw or gzipped."""
    from vaebench.data.acquire import add

    _say(f"{name}: {add(name, path, data_dir, _say)}")


@data.command("verify", short_help="Read its files and compare their SHA-256.")
@click.argument("name")
@data_dir_option
def data_verify(name: str, data_dir: Path | None) -> None:
    """Read every file of a data set and compare its SHA-256."""
    from vaebench.data.acquire import verify

    checks = verify(name, data_dir)
    for check in checks:
        _say(f"{check.path}: {check.fault or 'as it should be'}")
    if any(check.fault for check in checks):
        sys.exit(ExitCode.DATA)


@cli.command(short_help="Machine, versions, devices; of a store what is damaged.")
@click.argument("store", required=False, type=FOLDER, metavar="[DIR]")
def doctor(store: Path | None) -> None:
    """Print machine, versions and devices; and of a store what is damaged."""
    if store is not None:
        _must_exist(store)
        from vaebench.records.store import Store

        if not any((store / room).is_dir() for room in ("cells", "facts")):
            raise NothingToReport(f"{store} is no store: it holds no records")
        damages = Store(store).check()
        for damage in damages:
            _say(str(damage))
        newer = sum(damage.kind == "newer" for damage in damages)
        counts = {"damaged": len(damages) - newer, "of a newer vaebench": newer}
        found = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
        _say(f"{store}: {found or 'nothing is damaged'}")
        if damages:
            sys.exit(ExitCode.DAMAGED)
        return
    machine = importlib.import_module("vaebench.runner.machine")
    for line in machine.description():
        _say(line)


@cli.command(short_help="The sigma and beta that a VAE loss hides.")
@click.option("--recon", help="Reconstruction term, e.g. mse-mean, mse-sum, half-sse, bce-sum.")
@click.option("--kl", default="sum", show_default=True, help="How the KL is reduced.")
@click.option("--kl-weight", type=float, default=1.0, show_default=True)
@click.option("--recon-weight", type=float, default=1.0, show_default=True)
@click.option("--pixels", type=int, help="Pixels an image, channels counted.")
@click.option("--latent", type=int, help="Latent dimensions.")
@click.option("--batch", type=int, help="Images a batch.")
@click.option("--sigma", type=float, help="The sigma of a gaussian-nll.")
@click.option("--loss", metavar="MODULE:FUNCTION", help="Probe loss(x, decoded, mu, logvar).")
@click.option("--x-shape", metavar="C,H,W", help="Shape of one image, for --loss.")
@click.option("--zoo", is_flag=True, help="Run each classic error and print its effect in nats.")
@click.option("--peers", is_flag=True, help="Print the hidden sigma of well-known code bases.")
def audit(zoo: bool, peers: bool, x_shape: str | None, **words: object) -> None:
    """Say what sigma and beta a VAE loss hides, and whether it is an ELBO at all.

    For instance: vaebench audit --recon mse-mean --kl sum --kl-weight 0.00025 --pixels 12288
    --latent 128
    """
    given = _given()
    for alone in ("--zoo", "--peers"):
        _refuse_beside(given, alone, given)
    _refuse_beside(given, "--loss", ("--kl", "--kl-weight", "--recon-weight", "--sigma"))
    _refuse_beside(given, "--recon", ("--x-shape",))
    _refuse_beside(given, "--x-shape", ("--pixels",))
    if zoo:
        from vaebench.auditing.zoo import zoo as run_zoo
        from vaebench.auditing.zoo import zoo_text

        _say(zoo_text(run_zoo()))
        return
    if peers:
        from vaebench.cli.console import peers_table

        _say(peers_table())
        return
    from vaebench.auditing.options import audit_options

    _say(audit_options(x_shape=_shape(x_shape), **words).text())  # type: ignore[arg-type]  # click types each option


def _given() -> list[str]:
    """The options of this command that were given a value."""
    context = click.get_current_context()
    return [
        option.opts[0]
        for option in context.command.params
        if option.name is not None
        and context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
    ]


def _refuse_beside(given: Sequence[str], option: str, others: Sequence[str]) -> None:
    """Refuse what has no meaning beside an option, rather than leave it out without a word."""
    idle = [name for name in others if name in given and name != option]
    if option in given and idle:
        raise click.UsageError(f"with {option} leave out {', '.join(idle)}")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.UsageError(f"--x-shape is whole numbers with commas; got {text!r}") from error


cli.add_command(reproduce)
cli.add_command(time_command)
