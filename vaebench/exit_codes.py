"""The exit codes of the command line, which scripts rely on; the README has what each means."""

__all__ = [
    "BROKEN_PIPE",
    "BUSY",
    "CONTRADICTED",
    "DAMAGED",
    "DATA",
    "NOTHING",
    "SIGNAL",
    "SOME_FAILED",
    "USAGE",
]

SOME_FAILED, USAGE, DATA, DAMAGED, NOTHING, CONTRADICTED = 1, 2, 3, 4, 5, 6
BUSY, BROKEN_PIPE = 75, 141
SIGNAL = 128
"""To which the number of the signal is added."""
