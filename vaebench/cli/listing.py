"""`vaebench list`: the grids, axes, likelihoods, data sets, metrics and findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vaebench.cli.options import Command
from vaebench.cli.output import say

if TYPE_CHECKING:
    from vaebench.grid.cell import Axis
    from vaebench.grid.choices import DatasetChoice, LikelihoodChoice
    from vaebench.records.metrics import MetricChoice

__all__ = ["list_"]


@click.command("list", cls=Command, short_help="List grids, axes, metrics and more.")
@click.argument(
    "what",
    type=click.Choice(["grids", "axes", "likelihoods", "datasets", "metrics", "findings"]),
)
def list_(what: str) -> None:
    """Print the entries of a list, one line each."""
    for line in _lines(what):
        say(line)


def _lines(what: str) -> Iterable[str]:
    from vaebench.findings.registry import finding_lines
    from vaebench.grid.cell import AXES
    from vaebench.grid.choices import DATASETS, LIKELIHOODS
    from vaebench.grid.spec import packaged_grids
    from vaebench.records.metrics import METRICS

    match what:
        case "grids":
            return (f"{name:<14} {about}" for name, about in packaged_grids().items())
        case "axes":
            return map(_axis_line, AXES.values())
        case "likelihoods":
            return map(_likelihood_line, LIKELIHOODS.values())
        case "datasets":
            return map(_dataset_line, DATASETS.values())
        case "metrics":
            return map(_metric_line, METRICS.values())
        case _:
            return finding_lines()


def _axis_line(axis: Axis) -> str:
    from vaebench.grid.values import shown

    value = list(axis.default) if isinstance(axis.default, tuple) else axis.default
    default = "" if value is None else f"; default {shown(value)}"
    return f"{axis.name:<24} {axis.summary}; {axis.values}{default}"


def _likelihood_line(family: LikelihoodChoice) -> str:
    scale = "has a sigma" if family.has_scale else "no sigma"
    return f"{family.name:<22} {family.kind}, {scale}, {family.unit}; {family.summary}"


def _dataset_line(data: DatasetChoice) -> str:
    levels = "real-valued" if data.levels is None else f"{data.levels} grey levels"
    images = f"{data.train_images:,} + {data.test_images:,} images"
    shape = "x".join(map(str, data.shape))
    return f"{data.name:<16} {images} of {shape}, {levels}; {data.summary}"


def _metric_line(metric: MetricChoice) -> str:
    better = f", {metric.better} is better" if metric.better else ""
    return f"{metric.name:<30} {metric.unit}{better}; {metric.summary}"
