"""Text for terminals: without escape sequences, and in ASCII if the terminal needs it."""

from __future__ import annotations

import codecs
import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["adapt", "capped", "escaped", "printable", "waiting"]

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
# Control characters except newline and tab, line separators, bidirectional marks, surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MOST_CHARACTERS = 10_000


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    spelled = [
        _SPELLED.get(character) or character.encode("unicode_escape").decode("ascii")
        for character in lacking
    ]
    return "".join(spelled), error.end


def adapt(streams: Iterable[TextIO | None]) -> None:
    """Configure streams to replace characters that they cannot encode by ASCII or escapes."""
    codecs.register_error(_ERRORS, _spell)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def escaped(text: str) -> str:
    r"""Return the text with control characters and the like written as escapes.

    Escape sequences in text from data, files and foreign code could otherwise control the terminal.
    Newlines and tabs are kept; every character of the result can be encoded in UTF-8.

    >>> escaped("a\x1b[31m b\n")
    'a\\x1b[31m b\n'
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def capped(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Return the escaped text, cut after `most` characters.

    >>> capped("abcdef", 4)
    'abcd… (2 more characters)'
    """
    if len(text) <= most:
        return escaped(text)
    return f"{escaped(text[:most])}… ({len(text) - most:,} more characters)"


def printable(text: str, encoding: str | None = None) -> str:
    """Return the text for standard output (or for `encoding`), without escape sequences.

    >>> printable("σ −0.1 ± 0.2", "ascii")
    'sigma -0.1 +- 0.2'
    """
    codecs.register_error(_ERRORS, _spell)
    known = encoding or getattr(sys.stdout, "encoding", None) or "ascii"
    return escaped(text).encode(known, _ERRORS).decode(known)


@contextmanager
def waiting(
    text: str, echo: Callable[[str], None], after: float = 1.5, every: float = 10.0
) -> Iterator[None]:
    """Print a line during a long operation, after `after` and then every `every` seconds."""
    done, begin = threading.Event(), time.monotonic()

    def report() -> None:
        pause = after
        while not done.wait(pause):
            echo(f"{text} ({time.monotonic() - begin:.0f} s)")
            pause = every

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
