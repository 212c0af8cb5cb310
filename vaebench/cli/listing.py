"""`vaebench list`: print the grids, axes, likelihoods, data sets, metrics or findings."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vaebench.cli.options import Command
from vaebench.cli.output import say


@click.command("list", cls=Command, short_help="List grids, axes, metrics and more.")
@click.argument(
    "what", type=click.Choice(["grids", "axes", "likelihoods", "datasets", "metrics", "findings"])
)
def list_(what: str) -> None:
    """Print all grids, axes, likelihoods, data sets, metrics or findings, one per line."""
    for line in _lines(what):
        say(line)


def _lines(what: str) -> Iterator[str]:
    from vaebench.findings.registry import finding_lines
    from vaebench.grid.axes import DATASETS, LIKELIHOODS
    from vaebench.grid.cell import AXES
    from vaebench.grid.spec import packaged_grids
    from vaebench.grid.values import shown
    from vaebench.records.metrics import METRICS

    match what:
        case "grids":
            yield from (f"{name:<14} {about}" for name, about in packaged_grids().items())
        case "axes":
            for axis in AXES.values():
                value = list(axis.default) if isinstance(axis.default, tuple) else axis.default
                default = "" if value is None else f"; default {shown(value)}"
                yield f"{axis.name:<24} {axis.summary}; {axis.check.text}{default}"
        case "likelihoods":
            for family in LIKELIHOODS.values():
                scale = "has a sigma" if family.has_scale else "no sigma"
                facts = f"{family.kind}, {scale}, {family.unit}"
                yield f"{family.name:<22} {facts}; {family.summary}"
        case "datasets":
            for data in DATASETS.values():
                levels = "real-valued" if data.levels is None else f"{data.levels} grey levels"
                images = f"{data.train_images:,} + {data.test_images:,} images"
                shape = "x".join(map(str, data.shape))
                yield f"{data.name:<16} {images} of {shape}, {levels}; {data.summary}"
        case "metrics":
            for metric in METRICS.values():
                better = f", {metric.better} is better" if metric.better else ""
                yield f"{metric.name:<30} {metric.unit}{better}; {metric.summary}"
        case _:
            yield from finding_lines()
