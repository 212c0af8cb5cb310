"""`vaebench report`: make tables, figures and a page from records."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import FOLDER, Command, require_stores
from vaebench.cli.output import leave, say, say_unused


@click.command(cls=Command, short_help="Make tables, figures and a page from records.")
@click.argument("stores", nargs=-1, type=FOLDER, metavar="[DIR]...")
@click.option("-o", "--output", type=FOLDER, help="Folder of the report [default: reports/DIR].")
@click.option("--figures", is_flag=True, help="Also write every chart as a static figure (PNG).")
@click.option("--paper", is_flag=True, help="Also write figures and LaTeX tables for a paper.")
@click.option(
    "--columns", default="", help="Metrics in the LaTeX tables, e.g. elbo,kl [default: all]."
)
def report(
    stores: tuple[Path, ...], output: Path | None, figures: bool, paper: bool, columns: str
) -> None:
    """Make tables, figures and a page from the records in DIR.

    Equal records give bitwise equal files. By default, the report is about every store in results/.
    """
    from vaebench.report.report import make_report

    require_stores(*stores)
    results = Path("results")
    rooms = [*results.glob("*/cells"), *results.glob("*/facts")] if results.exists() else []
    chosen = stores or sorted({each.parent for each in rooms})
    names = [name.strip() for name in columns.split(",") if name.strip()]
    made = make_report(chosen, output, figures=figures, paper=paper, columns=names)
    say(f"report: {made.page}")
    leave(say_unused(made.unused))
