"""What there is to choose from, a line each, from the registries alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vaebench.grid.cell import AXES, Value
from vaebench.grid.choices import DATASETS, LIKELIHOODS
from vaebench.grid.spec import packaged_grids
from vaebench.grid.values import shown
from vaebench.records.metrics import METRICS

__all__ = ["lines_of"]


def lines_of(what: str) -> Iterator[str]:
    """Lines for ``vaebench list WHAT``."""
    yield from _LISTS[what]()


def _grids() -> Iterator[str]:
    for name, description in packaged_grids().items():
        yield f"{name:<14} {description}"


def _axes() -> Iterator[str]:
    for axis in AXES.values():
        default = "" if axis.default is None else f"; default {_written(axis.default)}"
        yield f"{axis.name:<24} {axis.summary}; {axis.values}{default}"


def _written(value: Value) -> str:
    """A value as a grid file would write it."""
    return shown(list(value) if isinstance(value, tuple) else value)


def _likelihoods() -> Iterator[str]:
    for entry in LIKELIHOODS.values():
        scale = "has a sigma" if entry.has_scale else "no sigma"
        yield f"{entry.name:<22} {entry.kind}, {scale}, {entry.unit}; {entry.summary}"


def _datasets() -> Iterator[str]:
    for entry in DATASETS.values():
        channels, height, width = entry.shape
        levels = "real-valued" if entry.levels is None else f"{entry.levels} grey levels"
        yield (
            f"{entry.name:<16} {entry.train_images:,} + {entry.test_images:,} images of "
            f"{channels}x{height}x{width}, {levels}; {entry.summary}"
        )


def _metrics() -> Iterator[str]:
    for metric in METRICS.values():
        better = f", {metric.better} is better" if metric.better else ""
        yield f"{metric.name:<30} {metric.unit}{better}; {metric.summary}"


def _findings() -> Iterator[str]:
    # The findings bring scipy with them, which no other list needs.
    from vaebench.findings.registry import finding_lines

    yield from finding_lines()


_LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "grids": _grids,
    "axes": _axes,
    "likelihoods": _likelihoods,
    "datasets": _datasets,
    "metrics": _metrics,
    "findings": _findings,
}
