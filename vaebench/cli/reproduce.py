"""`vaebench reproduce`: re-test published claims, from the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.options import FOLDER, data_dir_option
from vaebench.errors import ExitCode

if TYPE_CHECKING:
    from vaebench.findings.finding import Assessed
    from vaebench.findings.settings import Budget
    from vaebench.runner.reproduce import Reproduction

__all__ = ["reproduce"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("findings", nargs=-1, metavar="[FINDING]...")
@click.option(
    "--budget",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="quick: digits and mathematics, minutes; full: MNIST, hours.",
)
@click.option("-o", "--output", type=FOLDER, help="The store [default: results/reproduce-BUDGET].")
@click.option("--device", default="cpu", show_default=True, help="Where to train the cells.")
@click.option("--no-train", is_flag=True, help="Judge by the records that are there.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Worker processes [default: cores].")
@click.option("--retry-failed", is_flag=True, help="Try again what failed or diverged.")
@click.option("--wait", is_flag=True, help="Wait for another run that holds the store.")
@click.option("--no-report", is_flag=True, help="Leave the page out.")
@click.option(
    "--report-dir", type=FOLDER, help="The page's folder [default: reports/findings-STORE]."
)
@data_dir_option
def reproduce(
    findings: tuple[str, ...],
    budget: Budget,
    output: Path | None,
    device: str,
    no_train: bool,
    jobs: int | None,
    retry_failed: bool,
    wait: bool,
    no_report: bool,
    report_dir: Path | None,
    data_dir: Path | None,
) -> None:
    """Re-test published claims and give each a verdict.

    FINDING is a name or a family such as latent-dim (`vaebench list findings`); all by default.
    Running it again does only what is missing. Leaves with 6 where a claim is contradicted.
    """
    if no_report and report_dir is not None:
        raise click.UsageError("--report-dir says where the page goes; --no-report, none")

    from pydantic import ValidationError

    from vaebench.findings.registry import select_findings
    from vaebench.grid.cell import Cell
    from vaebench.records.store import Store

    select_findings(findings)
    try:
        Cell.model_validate({"device": device})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"--device: {message}") from error

    from vaebench.report.target import require_apart
    from vaebench.runner.reproduce import reproduce as run

    store = Store(output or Path("results") / f"reproduce-{budget}")
    if no_train and not store.root.exists():
        raise click.UsageError(f"there is no folder {store.root} to judge by")
    folder = report_dir or Path("reports") / f"findings-{store.root.resolve().name}"
    if not no_report:
        require_apart([store.root], folder)
    made = run(
        findings,
        budget,
        store,
        data_dir=data_dir,
        device=device,
        train=not no_train,
        jobs=jobs,
        retry_failed=retry_failed,
        wait=wait,
        echo=click.echo,
    )
    click.echo("\n".join((verdict_table(made.rows), *made.notes)))
    click.echo(f"records: {store.root}")
    if made.summary.signal is not None:
        click.echo(f"stopped, {_left(made)}: the same command goes on; the page comes at its end")
    elif not no_report and made.summary.storage_error is None:
        _page(made.rows, store.root, folder)
    damages = store.check()
    for damage in damages:
        click.echo(f"vaebench: not used: {damage}", err=True)
    _leave(made, damaged=bool(damages))


def _left(made: Reproduction) -> str:
    count = made.summary.left + made.summary.states().get("interrupted", 0)
    return f"{count} {'cell' if count == 1 else 'cells'} left"


def _page(rows: Sequence[Assessed], root: Path, folder: Path) -> None:
    from vaebench.records.store import Store
    from vaebench.report.findings_page import write_findings_page
    from vaebench.runner.reproduce import collected

    click.echo(f"report: {write_findings_page(rows, collected(Store(root)), folder)}")


def verdict_table(rows: Sequence[Assessed]) -> str:
    """The verdicts for a terminal: two lines a finding, then the counts."""
    from vaebench.findings.finding import Counts
    from vaebench.report.findings_page import measured_text

    lines = []
    for each in rows:
        judged, statistic = each.judgement, each.statistic
        reason = f" ({judged.reason})" if judged.reason else ""
        lines.append(f"{judged.verdict}: {each.finding.name}: {each.finding.claim}{reason}")
        if statistic is not None and each.margin is not None:
            tested = f"; falls short in: {each.truncation}" if each.truncation else ""
            lines.append(
                f"    {each.finding.measure}: {measured_text(statistic)}, n = {statistic.n}, "
                f"margin {each.margin.text()}{tested}"
            )
    return "\n".join([*lines, "", Counts.of(rows).text()])


def _leave(made: Reproduction, *, damaged: bool) -> None:
    """Exit codes, the most pressing first."""
    summary = made.summary
    for reason in made.absent.values():
        click.echo(f"vaebench: {reason}", err=True)
    if summary.signal is not None:
        sys.exit(ExitCode.SIGNAL + summary.signal)
    if summary.storage_error is not None:
        click.echo(f"vaebench: {summary.storage_error}", err=True)
    if summary.storage_error is not None or summary.damaged or damaged:
        sys.exit(ExitCode.DAMAGED)
    if any(each.judgement.verdict == "contradicted" for each in made.rows):
        sys.exit(ExitCode.CONTRADICTED)
    if set(summary.states()) - {"done"}:
        sys.exit(ExitCode.SOME_FAILED)
    if made.absent and all(each.judgement.verdict == "not tested" for each in made.rows):
        sys.exit(ExitCode.DATA)
