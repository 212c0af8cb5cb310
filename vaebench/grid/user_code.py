"""Import a user's function ``module:function``, such as a loss to audit or a network to train."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from vaebench.errors import UserCodeError, error_text
from vaebench.grid.values import closest


def load_function(name: str) -> Callable[..., Any]:
    """Import the function that ``module:function`` names; the working folder is searched first.

    Raises:
        UserCodeError: the name is malformed, the module cannot be imported, or it has no such
            function.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise UserCodeError(f"a function must be given as module:function; got {name!r}")
    if module_name.endswith(".py"):
        stem = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise UserCodeError(
            f"a function must be given by its module, not its file: write {stem}:{function_name}; "
            f"got {name!r}"
        )
    with _working_folder_first():
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            why = error_text(error)
            raise UserCodeError(f"{module_name} cannot be imported ({why})") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise UserCodeError(f"{module_name} has no function {function_name!r}")
    if not callable(function):
        kind = type(function).__name__
        raise UserCodeError(f"{module_name}:{function_name} is not callable (type {kind})")
    return function  # type: ignore[no-any-return]  # its type is known only to the user


def lack_of_function(name: str) -> str | None:
    """Return why ``module:function`` cannot be found, or None if no problem is found.

    The module is not executed, but its parent packages are.
    """
    module_name, _, function_name = name.partition(":")
    with _working_folder_first():
        try:
            found = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            found = None
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a user's package may raise anything
            return f"the package of {module_name} cannot be imported ({error_text(error)})"
    if found is None:
        return f"there is no module {module_name!r} in the working folder or the installed packages"
    try:
        names = _names_in(found.origin)
    except SyntaxError as error:
        return f"{module_name} is not valid Python: {error.msg}, line {error.lineno}"
    if names is None or function_name in names:
        return None
    return f"{module_name} has no function {function_name!r}{closest(function_name, sorted(names))}"


def _names_in(source: str | None) -> set[str] | None:
    """Return the names that a module's source defines; None if the source does not show them.

    Raises:
        SyntaxError: the source is not valid Python.
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
    """Return the SHA-256 of the file of the module of ``module:function``.

    None if the file cannot be read, and for a name without a colon, which is not user code.
    """
    if ":" not in name:
        return None
    # The user's package may raise any exception; `lack_of_function` reports it.
    with _working_folder_first(), suppress(Exception, SystemExit):
        found = importlib.util.find_spec(name.partition(":")[0])
        if found is not None and found.origin is not None:
            return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
    return None


@contextmanager
def exits_raised() -> Iterator[None]:
    """Make ``os._exit`` raise SystemExit: a user's function must not end a command without a word.

    Processes that the function forks keep the system's own.
    """
    own, leave = os.getpid(), os._exit

    def _exit(status: int) -> NoReturn:
        if os.getpid() != own:
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = _exit
    try:
        yield
    finally:
        os._exit = leave


@contextmanager
def _working_folder_first() -> Iterator[None]:
    """Search the working folder for modules, as ``python -m`` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
