"""How records of older schemas become records of today's schema."""

from collections.abc import Callable
from typing import Any

_WARNINGS_OF_VERSION_1 = {
    "a density on data with repeated": "unbounded_density",
    "Bernoulli on grey pixels is": "not_a_likelihood",
    "collapsed or hardly trained": "collapsed",
    "BUG:": "impossible_score",
    "the decoder's scale is": "scale_without_density",
    "sigma ended on its floor": "scale_on_floor",
    "stopped after epoch": "resumed",
    "trained at a second try": "retried",
    "a checkpoint was": "checkpoint",
    "the last checkpoint": "checkpoint",
    "steps are not replayed": "step_fallback",
    "the training step was not compiled": "step_fallback",
}
"""How the warnings of version 1, which had no codes, begin."""


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Give each warning the code that version 1 did not record."""
    if content.get("kind") != "cell":
        return content
    warnings = [
        {
            "code": next(
                (code for start, code in _WARNINGS_OF_VERSION_1.items() if text.startswith(start)),
                "data",
            ),
            "text": text,
        }
        for text in content.get("warnings", [])
    ]
    return {**content, "warnings": warnings}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}
"""From a schema version to the function that gives the same record in the next version.

A migration changes fields only; `vaebench.records.schema` sets the ``schema`` field.
"""
