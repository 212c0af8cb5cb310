"""Text for terminals that know less than Unicode: what they lack is spelled out in ASCII."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable
from typing import TextIO

__all__ = ["adapt", "printable"]

_ERRORS = "vaebench.spelled"
_SPELLED = {
    "σ": "sigma",
    "β": "beta",
    "λ": "lambda",
    "±": "+-",
    "²": "^2",
    "−": "-",
    "–": "-",
    "·": "*",
    "×": "x",
    "‖": "||",
    "→": "->",
    "…": "...",
    "†": "*",
}


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in lacking), error.end


def adapt(streams: Iterable[TextIO | None]) -> None:
    """Let streams spell out what their encoding lacks, in place of an error."""
    codecs.register_error(_ERRORS, _spell)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def printable(text: str, encoding: str | None = None) -> str:
    """The text as standard output (or `encoding`) can show it, for tables that are aligned.

    >>> printable("σ −0.1 ± 0.2", "ascii")
    'sigma -0.1 +- 0.2'
    """
    codecs.register_error(_ERRORS, _spell)
    known = encoding or getattr(sys.stdout, "encoding", None) or "ascii"
    return text.encode(known, _ERRORS).decode(known)
