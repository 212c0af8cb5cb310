"""`vaebench reproduce`: re-test published claims (findings)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.options import (
    Command,
    data_dir_option,
    jobs_option,
    report_options,
    require_stores,
    retry_option,
    store_option,
    wait_option,
)
from vaebench.cli.output import codes_of, leave, say, say_unused
from vaebench.errors import ExitCode
from vaebench.grid.values import plural

if TYPE_CHECKING:
    from vaebench.findings.finding import Assessed
    from vaebench.findings.settings import Budget


@click.command(cls=Command)
@click.argument("findings", nargs=-1, metavar="[FINDING]...")
@click.option(
    "--budget",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="quick: digits and closed forms, minutes; full: MNIST, hours.",
)
@store_option("results/reproduce-BUDGET")
@click.option(
    "--device", default="cpu", show_default=True, help="Device on which the cells are trained."
)
@click.option("--no-train", is_flag=True, help="Use only existing records, without training.")
@jobs_option
@retry_option
@click.option(
    "--keep-weights",
    is_flag=True,
    help="Save each model; train cells again whose model is missing.",
)
@wait_option
@report_options("reports/findings-STORE")
@data_dir_option
def reproduce(
    findings: tuple[str, ...],
    budget: Budget,
    output: Path | None,
    device: str,
    no_train: bool,
    no_report: bool,
    report_dir: Path | None,
    **options: Any,
) -> None:
    """Re-test published claims and give each a verdict.

    FINDING is the name of a claim or of a family of claims such as latent-dim (see `vaebench list
    findings`); by default, all are tested. If the command is repeated, only cells without a record
    are trained. The exit code is 6 if a claim is contradicted.
    """
    from vaebench.findings.registry import select_findings
    from vaebench.grid.cell import AXES
    from vaebench.records.store import Store
    from vaebench.report.target import require_apart
    from vaebench.runner.reproduce import collected
    from vaebench.runner.reproduce import reproduce as run

    select_findings(findings)
    try:
        AXES["device"].check(device)
    except ValueError as error:
        raise click.UsageError(f"--device: {error}") from error
    store = Store(output or Path("results") / f"reproduce-{budget}")
    if no_train:
        require_stores(store.root)
    folder = report_dir or Path("reports") / f"findings-{store.root.resolve().name}"
    if not no_report:
        require_apart([store.root], folder)
    made = run(findings, budget, store, device=device, train=not no_train, echo=say, **options)
    say("\n".join((verdict_table(made.rows), *made.notes)))
    say(f"records: {store.root}")
    summary = made.summary
    if summary.signal is not None:
        left = plural(summary.left + summary.states().get("interrupted", 0), "cell")
        say(f"stopped with {left} left; the same command continues, then writes the page")
    elif not no_report and summary.storage_error is None:
        from vaebench.report.findings_page import write_findings_page

        say(f"report: {write_findings_page(made.rows, collected(store), folder)}")
    for reason in (*made.absent.values(), *filter(None, [summary.storage_error])):
        say(f"vaebench: {reason}", err=True)
    codes = codes_of(summary) | say_unused(map(str, store.check()))
    verdicts = {each.judgement.verdict for each in made.rows}
    if "contradicted" in verdicts:
        codes.add(ExitCode.CONTRADICTED)
    if made.absent and verdicts <= {"not tested"}:
        codes.add(ExitCode.DATA)
    leave(codes, summary.signal)


def verdict_table(rows: Sequence[Assessed]) -> str:
    """Return the verdicts as text: one or two lines per finding, then the counts."""
    from vaebench.findings.finding import Counts
    from vaebench.report.findings_page import measured_text

    lines = []
    for each in rows:
        judged, statistic = each.judgement, each.statistic
        reason = f" ({judged.reason})" if judged.reason else ""
        lines.append(f"{judged.verdict}: {each.finding.name}: {each.finding.claim}{reason}")
        if statistic is not None and each.margin is not None:
            tested = f"; measured: {each.proxy}" if each.proxy else ""
            tested += f"; falls short in: {each.truncation}" if each.truncation else ""
            lines.append(
                f"    {each.finding.measure}: {measured_text(statistic)}, n = {statistic.n}, "
                f"margin {each.margin.text()}{tested}"
            )
    return "\n".join([*lines, "", Counts.of(rows).text()])
