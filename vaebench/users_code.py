"""A user's own function, named ``module:function``: a loss to audit, a network to train."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["UsersCodeError", "lack_of_module", "load_function", "source_digest"]


class UsersCodeError(ValueError):
    """What was named is not there, or is no function; the message says which."""


def load_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; the working folder is searched first.

    Raises:
        UsersCodeError: the name is malformed, the module can't be imported, or it has no such
            function.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise UsersCodeError(f"a function of your own is named module:function; got {name!r}")
    with _working_folder_first():
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise UsersCodeError(
                f"{module_name} cannot be imported ({type(error).__name__}: {error})"
            ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsersCodeError(f"{module_name} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]  # only a call can tell what a user's code gives


def lack_of_module(name: str) -> str | None:
    """Why the module of ``module:function`` can't be found, None if it can; does not run it."""
    module_name = name.partition(":")[0]
    with _working_folder_first():
        try:
            found = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            found = None
    if found is not None:
        return None
    return f"there is no module {module_name!r} in the working folder or among those installed"


def source_digest(name: str) -> str | None:
    """SHA-256 of the file of the module of ``module:function``; None if there is none to read."""
    with _working_folder_first(), suppress(ImportError, ValueError, OSError):
        found = importlib.util.find_spec(name.partition(":")[0])
        if found is not None and found.origin is not None:
            return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
    return None


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """As ``python -m`` has it: the installed command would look among installed modules alone."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
