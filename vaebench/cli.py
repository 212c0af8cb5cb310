"""The command line: words in, calls out. Each command imports its half inside itself."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from vaebench import __version__

if TYPE_CHECKING:
    from vaebench.grid.spec import Grid
    from vaebench.runner.plan import Plan
    from vaebench.runner.run import RunSummary

__all__ = ["cli", "main"]

EXIT_SOME_FAILED, EXIT_USAGE, EXIT_DATA, EXIT_DAMAGED, EXIT_NOTHING = 1, 2, 3, 4, 5
EXIT_BUSY, EXIT_SIGNAL = 75, 128

# By name, so that a usage error needs none of the modules that raise the others.
_EXIT_CODES = {
    "vaebench.grid.problems.GridError": EXIT_USAGE,
    "vaebench.auditing.form.AuditError": EXIT_USAGE,
    "vaebench.records.files.StorageError": EXIT_USAGE,
    "vaebench.data.faults.DataMissing": EXIT_DATA,
    "vaebench.data.faults.DataInvalid": EXIT_DATA,
    "vaebench.records.store.StoreBusy": EXIT_BUSY,
    "vaebench.records.store.RecordMissing": EXIT_USAGE,
    "vaebench.records.schema.RecordError": EXIT_DAMAGED,
    "vaebench.records.arrays.ArraysDamaged": EXIT_DAMAGED,
    "vaebench.analysis.report.NothingToReport": EXIT_NOTHING,
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with one of the documented exit codes."""
    try:
        cli.main(arguments, prog_name="vaebench", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        sys.exit(EXIT_SIGNAL + signal.SIGINT)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(EXIT_SIGNAL + signal.SIGINT)
    except (ValueError, RuntimeError, LookupError, OSError) as error:
        code = _exit_code(error)
        if code is None:
            raise
        click.echo(f"vaebench: {error}", err=True)
        sys.exit(code)
    sys.exit(0)


def _exit_code(error: Exception) -> int | None:
    for kind in type(error).__mro__:
        code = _EXIT_CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None


class _Suggesting(click.Group):
    """A group that names the command that was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.commands, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)


_FOLDER = click.Path(path_type=Path, file_okay=False)
_DATA_DIR = click.option(
    "--data-dir", type=_FOLDER, help="Look for data files here first [default: $VAEBENCH_DATA]."
)


@click.group(cls=_Suggesting, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vaebench")
def cli() -> None:
    """Measure what the design choices of a variational autoencoder do.

    Start with `vaebench run`: it trains a small grid on images that need no download, and ends
    with a table and a report. Then `vaebench list grids`, `vaebench list axes`.
    """


@cli.command()
@click.argument("grid", default="quick")
@click.option("-o", "--output", type=_FOLDER, help="The store [default: results/GRID].")
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
@click.option("--retry-failed", is_flag=True, help="Try again what failed or diverged.")
@click.option("--wait", is_flag=True, help="Wait for another run that holds the store.")
@click.option("--no-report", is_flag=True, help="Leave the report out.")
@click.option("--report-dir", type=_FOLDER, help="The report's folder [default: reports/GRID].")
@_DATA_DIR
def run(
    grid: str,
    output: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    dry_run: bool,
    jobs: int | None,
    retry_failed: bool,
    wait: bool,
    no_report: bool,
    report_dir: Path | None,
    data_dir: Path | None,
) -> None:
    """Train every cell of GRID, record what it measured, and make the report.

    GRID is a packaged grid's name (`vaebench list grids`) or a TOML file; `quick` needs no
    download and takes about three minutes on two cores. Running it again does only what is missing.
    """
    from vaebench.records.store import Store
    from vaebench.runner.run import run_grid

    loaded = _grid(grid, settings, device)
    store = Store(output or Path("results") / loaded.name)
    if dry_run:
        _print_plan(loaded, store.root, data_dir, retry_failed)
        return
    for note in loaded.notes:
        click.echo(f"note: {note}")
    summary = run_grid(
        loaded,
        store,
        data_dir=data_dir,
        jobs=jobs,
        retry_failed=retry_failed,
        wait=wait,
        echo=click.echo,
    )
    _print_summary(summary, store.root)
    if not no_report and summary.signal is None and summary.storage_error is None:
        from vaebench.analysis.report import write_report

        page = write_report([store.root], report_dir or Path("reports") / loaded.name)
        click.echo(f"report: {page}")
    _leave_after(summary)


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


def _print_plan(grid: Grid, root: Path, data_dir: Path | None, retry_failed: bool) -> None:
    from vaebench.records.store import Store
    from vaebench.runner.plan import make_plan
    from vaebench.runner.run import devices_of

    click.echo(f"{grid.name}: {grid.count:,} cells{_about(grid.description)}")
    for note in grid.notes:
        click.echo(f"note: {note}")
    if grid.count > 20_000:
        click.echo("too many cells to list; a run this large is better cut into several grids")
        return
    plan = make_plan(grid, Store(root), data_dir, devices_of(grid), retry_failed=retry_failed)
    _print_cells(plan)
    _print_absent_devices(plan)
    click.echo(_price(plan))


def _about(description: str) -> str:
    return f" ({description})" if description else ""


def _print_cells(plan: Plan) -> None:
    for planned in plan.todo:
        click.echo(f"  {planned.cell_id}")
    if plan.finished:
        click.echo(f"  and {len(plan.finished)} that have a record already")
    for name in plan.newer:
        click.echo(f"  {name}: its record was written by a newer vaebench and is left alone")


def _print_absent_devices(plan: Plan) -> None:
    devices = {planned.cell.device for planned in plan.todo} - {"cpu"}
    if devices:
        from vaebench.runner.machine import absent_device

        for device in sorted(devices):
            why = absent_device(device)
            if why is not None:
                click.echo(f"  device {device}: unavailable, {why}")


def _price(plan: Plan) -> str:
    from vaebench.runner.plan import estimate
    from vaebench.runner.run import default_jobs

    prices = [estimate(planned.cell) for planned in plan.todo]
    if not prices:
        return "to do: nothing"
    seconds = sum(price.seconds for price in prices) / default_jobs()
    memory = max(price.memory_mib for price in prices)
    return (
        f"to do: {len(prices):,} cells, roughly {_duration(seconds)} with {default_jobs()} jobs, "
        f"up to {memory:,.0f} MiB a job (estimates; the first cells will tell)"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_summary(summary: RunSummary, root: Path) -> None:
    from vaebench.analysis.console import summary_table

    if not summary.trained and summary.left == 0:
        click.echo(f"nothing to train: all {len(summary.finished)} cells have a record in {root}")
    else:
        click.echo(f"{len(summary.trained)} cells run in {_duration(summary.seconds)}")
    if summary.storage_error is None and summary.states():
        click.echo(summary_table(root))
    states = ", ".join(f"{count} {state}" for state, count in summary.states().items())
    click.echo(f"cells: {states or 'none'}" + (f", {summary.left} left" if summary.left else ""))
    if summary.storage_error is not None:
        click.echo(f"vaebench: {summary.storage_error}", err=True)
    click.echo(f"records: {root}")


def _leave_after(summary: RunSummary) -> None:
    if summary.signal is not None:
        sys.exit(EXIT_SIGNAL + summary.signal)
    if summary.storage_error is not None or summary.damaged:
        sys.exit(EXIT_DAMAGED)
    if set(summary.states()) - {"done"}:
        sys.exit(EXIT_SOME_FAILED)


@cli.command()
@click.argument("stores", nargs=-1, type=_FOLDER, metavar="[DIR]...")
@click.option("-o", "--output", type=_FOLDER, help="The report's folder [default: reports/NAME].")
def report(stores: tuple[Path, ...], output: Path | None) -> None:
    """Make tables, figures and a page from the records in DIR, and from nothing else.

    The same records give the same bytes. Without DIR: every store under results/.
    """
    from vaebench.analysis.report import write_report

    found = list(stores) or _stores_under(Path("results"))
    missing = [str(store) for store in stores if not store.exists()]
    if missing:
        raise click.UsageError(f"there is no folder {', '.join(missing)}")
    name = found[0].resolve().name if len(found) == 1 else "all"
    page = write_report(found, output or Path("reports") / name)
    click.echo(f"report: {page}")
    damaged = _damage_lines(found)
    for line in damaged:
        click.echo(f"vaebench: not used: {line}", err=True)
    if damaged:
        sys.exit(EXIT_DAMAGED)


def _stores_under(folder: Path) -> list[Path]:
    return sorted(each.parent for each in folder.glob("*/cells")) if folder.exists() else []


def _damage_lines(stores: Sequence[Path]) -> list[str]:
    from vaebench.records.store import Store

    return [str(damage) for store in stores for damage in Store(store).read_all()[1]]


@cli.command()
@click.argument("store", type=_FOLDER, metavar="DIR")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write: .csv or .parquet.",
)
def export(store: Path, output: Path) -> None:
    """Write the tidy table of a store: a row a cell, a column an axis or metric."""
    from vaebench.analysis.export import export as write_table
    from vaebench.analysis.frame import load_results

    _must_exist(store)
    frame = load_results(store)
    if frame.empty:
        click.echo(f"vaebench: there is no record in {store}", err=True)
        sys.exit(EXIT_NOTHING)
    try:
        written = write_table(frame, output)
    except (ValueError, ModuleNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{len(frame)} rows: {written}")


def _must_exist(store: Path) -> None:
    if not store.exists():
        raise click.UsageError(f"there is no folder {store}")


_LISTS = ("grids", "axes", "likelihoods", "datasets", "metrics", "findings")


@cli.command("list")
@click.argument("what", type=click.Choice(_LISTS))
def list_(what: str) -> None:
    """Print what there is, each with one line."""
    from vaebench.listing import lines_of

    for line in lines_of(what):
        click.echo(line)


@cli.command()
@click.argument("store", type=_FOLDER, metavar="DIR")
@click.argument("cell", required=False)
def show(store: Path, cell: str | None) -> None:
    """Print the state of a store, or one record of it, for a person to read.

    CELL may be the beginning of a cell's name.
    """
    from vaebench.analysis.console import record_text, summary_table
    from vaebench.records.store import Store

    _must_exist(store)
    states = Store(store).states()
    if not states:
        click.echo(f"vaebench: there is no record in {store}", err=True)
        sys.exit(EXIT_NOTHING)
    if cell is None:
        click.echo(summary_table(store))
        for state in sorted(set(states.values())):
            names = [name for name, each in states.items() if each == state]
            click.echo(
                f"{len(names)} {state}" + ("" if state == "done" else f": {', '.join(names)}")
            )
        return
    matching = [name for name in states if name == cell] or [
        name for name in states if name.startswith(cell)
    ]
    if len(matching) != 1:
        found = ", ".join(matching[:5]) if matching else "none"
        raise click.UsageError(f"CELL must name one record of {store}; {cell!r} fits: {found}")
    click.echo(record_text(Store(store).read(matching[0])))


@cli.group()
def data() -> None:
    """List, fetch, add and verify data sets."""


@data.command("list")
@_DATA_DIR
def data_list(data_dir: Path | None) -> None:
    """Print each data set, and whether it is here."""
    from vaebench.data.acquire import listing

    for state in listing(data_dir):
        where = f" ({state.folder})" if state.folder else ""
        click.echo(f"{state.name:<16} {state.state}{where}  {state.summary}")


@data.command("fetch")
@click.argument("name")
@_DATA_DIR
def data_fetch(name: str, data_dir: Path | None) -> None:
    """Download a data set from torchvision's mirrors, checked by SHA-256."""
    from vaebench.data.acquire import fetch

    with _usage_errors():
        click.echo(f"{name}: {fetch(name, data_dir, click.echo)}")


@data.command("add")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@_DATA_DIR
def data_add(name: str, path: Path, data_dir: Path | None) -> None:
    """Take a data set's IDX files from a folder or archive, raw or gzipped."""
    from vaebench.data.acquire import add

    with _usage_errors():
        click.echo(f"{name}: {add(name, path, data_dir, click.echo)}")


@data.command("verify")
@click.argument("name")
@_DATA_DIR
def data_verify(name: str, data_dir: Path | None) -> None:
    """Read every file of a data set and compare its SHA-256."""
    from vaebench.data.acquire import verify

    with _usage_errors():
        checks = verify(name, data_dir)
    for check in checks:
        click.echo(f"{check.path}: {check.fault or 'as it should be'}")
    if any(check.fault for check in checks):
        sys.exit(EXIT_DATA)


class _usage_errors:  # noqa: N801 -- used like a function, in a with statement
    """A ValueError that is no known kind of error is a misused name: exit 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ValueError) and _exit_code(error) is None:
            raise click.UsageError(str(error)) from error


@cli.command()
@click.argument("store", required=False, type=_FOLDER, metavar="[DIR]")
def doctor(store: Path | None) -> None:
    """Print machine, versions and devices; and of a store what is damaged."""
    if store is not None:
        _must_exist(store)
        from vaebench.records.store import Store

        damages = Store(store).check()
        for damage in damages:
            click.echo(str(damage))
        click.echo(f"{store}: " + (f"{len(damages)} damaged" if damages else "nothing is damaged"))
        if damages:
            sys.exit(EXIT_DAMAGED)
        return
    machine = importlib.import_module("vaebench.runner.machine")
    for line in machine.description():
        click.echo(line)


@cli.command()
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
    if zoo:
        from vaebench.auditing.zoo import zoo as run_zoo
        from vaebench.auditing.zoo import zoo_text

        click.echo(zoo_text(run_zoo()))
        return
    if peers:
        from vaebench.analysis.console import peers_table

        click.echo(peers_table())
        return
    from vaebench.auditing.options import audit_options

    click.echo(audit_options(x_shape=_shape(x_shape), **words).text())  # type: ignore[arg-type]  # click types each option


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.UsageError(f"--x-shape is whole numbers with commas; got {text!r}") from error
