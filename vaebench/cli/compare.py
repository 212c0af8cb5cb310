"""`vaebench compare`: compare two stores or two designs, paired by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vaebench.cli.options import Command, json_option, require_stores
from vaebench.cli.output import json_rows, leave, say, say_json, say_unused

if TYPE_CHECKING:
    from vaebench.analysis.comparison import Comparison


@click.command(cls=Command, short_help="Compare two stores or designs, paired by seed.")
@click.argument("a")
@click.argument("b")
@click.option("--metric", default="elbo", show_default=True, help="See `vaebench list metrics`.")
@json_option
def compare(a: str, b: str, metric: str, as_json: bool) -> None:
    """Compare two stores, or two designs, seed by seed, with 95 % intervals.

    A and B are results folders; DIR:axis=value,axis=value selects cells of a folder. Two cells form
    a pair if they differ only in axes that have a single value in A and another one in B:

    vaebench compare results/quick:sigma=0.1 results/quick:sigma=learned

    Comparisons without meaning (timings of two machines, nats of a density and of a probability
    mass, ...) are refused with the reason; --metric bits_per_dim compares likelihood families.
    """
    from vaebench.analysis.comparison import compare as compared
    from vaebench.analysis.comparison import parse_side
    from vaebench.cli.console import comparison_text

    require_stores(*(parse_side(side)[0] for side in (a, b)))
    found = compared(a, b, metric)
    if as_json:
        say_json(_document(found, (a, b)))
    else:
        say(comparison_text(found, (a, b)))
    leave(say_unused(found.unused))


def _document(found: Comparison, names: tuple[str, str]) -> dict[str, object]:
    from vaebench.cli.console import comparison_verdict

    rows = found.frame.to_dict("records")
    verdicts = [{"verdict": comparison_verdict(row, found.metric)} for row in rows]
    designs = zip(json_rows(found.frame), verdicts, strict=True)
    return {
        "a": names[0],
        "b": names[1],
        "metric": found.metric,
        "differs": {axis: list(values) for axis, values in found.apart.items()},
        "designs": [row | verdict for row, verdict in designs],
        "without_partner": list(found.alone),
        "without_value": [dict(reasons) for reasons in found.without],
        "notes": list(found.notes),
        "unused": list(found.unused),
    }
