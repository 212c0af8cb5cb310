"""A store's file operations of which one, or every one from there on, goes wrong."""

import os
from collections.abc import Callable
from typing import Any

from vaebench.records.files import Files

OPERATIONS = tuple(name for name in vars(Files) if not name.startswith("_"))


class FaultyFiles(Files):
    """Counts its calls; call number `first` meets `fault`, and with `forever` all after it too.

    A write that goes wrong has written half; a close that goes wrong has closed.
    """

    def __init__(self, first: int, fault: Callable[[], None], forever: bool = False) -> None:
        self.first, self.fault, self.forever = first, fault, forever
        self.calls = 0

    def is_due(self) -> bool:
        self.calls += 1
        return self.calls >= self.first if self.forever else self.calls == self.first


def _guarded(name: str) -> Callable[..., Any]:
    real = getattr(Files, name)

    def operation(self: FaultyFiles, *arguments: Any) -> Any:
        if self.is_due():
            if name == "write":
                real(self, arguments[0], arguments[1][: len(arguments[1]) // 2])
            if name == "close":
                real(self, *arguments)
            self.fault()
        return real(self, *arguments)

    return operation


for _name in OPERATIONS:
    setattr(FaultyFiles, _name, _guarded(_name))


def fails_with(number: int) -> Callable[[], None]:
    """Return a fault that raises the OSError of this errno."""

    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault
