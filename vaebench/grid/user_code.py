"""A user's own function, named ``module:function``: a loss to audit, a network to train."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vaebench.errors import UserCodeError
from vaebench.grid.values import closest

__all__ = ["lack_of_function", "load_function", "source_digest"]


def load_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; the working folder is searched first.

    Raises:
        UserCodeError: the name is malformed, the module can't be imported, or it has no such
            function.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise UserCodeError(f"a function of your own is named module:function; got {name!r}")
    with _working_folder_first():
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise UserCodeError(f"{module_name} cannot be imported ({_told(error)})") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise UserCodeError(f"{module_name} has no function {function_name!r}")
    if not callable(function):
        kind = type(function).__name__
        raise UserCodeError(f"{function_name!r} of {module_name} is no function: it is of {kind}")
    return function  # type: ignore[no-any-return]  # only a call can tell what a user's code gives


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def lack_of_function(name: str) -> str | None:
    """Why ``module:function`` can't be found, None if it can or may.

    The module is not run, but the packages that it lies in are.
    """
    module_name, _, function_name = name.partition(":")
    with _working_folder_first():
        try:
            found = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            found = None
        except Exception as error:  # noqa: BLE001 -- a user's own package may raise anything
            return f"the package of {module_name} cannot be imported ({_told(error)})"
    if found is None:
        return f"there is no module {module_name!r} in the working folder or among those installed"
    try:
        names = _names_in(found.origin)
    except SyntaxError as error:
        return f"{module_name} is no Python that can be read: {error.msg}, line {error.lineno}"
    if names is None or function_name in names:
        return None
    return f"{module_name} has no function {function_name!r}{closest(function_name, sorted(names))}"


def _names_in(source: str | None) -> set[str] | None:
    """All names that a module's source gives to anything; None if that is not to be seen there.

    Raises:
        SyntaxError: the source is no Python.
    """
    if source is None or not source.endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(source).read_bytes())
    except (OSError, ValueError):
        return None
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.alias():
                names.add(node.asname or node.name.partition(".")[0])
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
    return None if {"*", "__getattr__"} & names else names


def source_digest(name: str) -> str | None:
    """SHA-256 of the file of the module of ``module:function``; None if there is none to read.

    None too for a name without a colon: a network of ours.
    """
    if ":" not in name:
        return None
    # A user's own package may raise anything; `lack_of_function` says what.
    with _working_folder_first(), suppress(Exception):
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
