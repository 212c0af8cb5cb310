"""vaebench: a benchmark and analysis suite for the design choices of a variational autoencoder.

Names of the Python interface are imported when they are first used, so that ``import vaebench`` is
quick and reading results needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaebench.analysis.comparison import compare
    from vaebench.analysis.frame import load_results
    from vaebench.analysis.recommendation import best
    from vaebench.analysis.timing import load_timings
    from vaebench.auditing.probe import audit
    from vaebench.grid.cell import Cell
    from vaebench.grid.spec import Grid
    from vaebench.records.bundle import bundle, merge
    from vaebench.records.store import Store
    from vaebench.report.report import write_report
    from vaebench.runner.advise import advise
    from vaebench.runner.encode import encode
    from vaebench.runner.external import evaluate
    from vaebench.runner.models import load_model
    from vaebench.runner.reproduce import reproduce
    from vaebench.runner.run import run
    from vaebench.runner.timing import time_steps

__all__ = [
    "Cell",
    "Grid",
    "Store",
    "__version__",
    "advise",
    "audit",
    "best",
    "bundle",
    "compare",
    "encode",
    "evaluate",
    "load_model",
    "load_results",
    "load_timings",
    "merge",
    "reproduce",
    "run",
    "time_steps",
    "write_report",
]

__version__ = "0.1.0"

_HOMES = {
    "Cell": "vaebench.grid.cell",
    "Grid": "vaebench.grid.spec",
    "Store": "vaebench.records.store",
    "advise": "vaebench.runner.advise",
    "audit": "vaebench.auditing.probe",
    "best": "vaebench.analysis.recommendation",
    "bundle": "vaebench.records.bundle",
    "encode": "vaebench.runner.encode",
    "evaluate": "vaebench.runner.external",
    "compare": "vaebench.analysis.comparison",
    "load_model": "vaebench.runner.models",
    "load_results": "vaebench.analysis.frame",
    "load_timings": "vaebench.analysis.timing",
    "merge": "vaebench.records.bundle",
    "reproduce": "vaebench.runner.reproduce",
    "run": "vaebench.runner.run",
    "time_steps": "vaebench.runner.timing",
    "write_report": "vaebench.report.report",
}
_STOPPABLE = frozenset({"advise", "reproduce", "run", "time_steps"})
"""Functions that stop cleanly at a signal, which is then passed to the caller's handler."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vaebench' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    if name in _STOPPABLE:
        from vaebench.system.processes import passing_signals_on

        return passing_signals_on(found)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
