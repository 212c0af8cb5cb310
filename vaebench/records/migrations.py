"""Convert records of older schema versions to the present version."""

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
"""The first words of the warnings of version 1, which had no codes, and their codes."""


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Add the code of each warning, which version 1 did not record."""
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
"""Maps a schema version to the function that converts a record to the next version.

A migration changes fields only; `vaebench.records.schema` sets the ``schema`` field.
"""
