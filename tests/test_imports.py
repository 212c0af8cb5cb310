"""No module imports itself by way of others, not even inside a function."""

import ast
import importlib.util
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vaebench

ROOT = Path(vaebench.__file__).parent


def imports(source: str, module: str, modules: set[str]) -> Iterator[str]:
    """The modules of `modules` that a module imports when it, or a function of it, runs.

    Imports for type checkers alone are left out: they never run.
    """
    tree = ast.parse(source)
    idle = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test).endswith("TYPE_CHECKING")
        for branch in test.body
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in idle:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), module)
            names = [
                full if (full := f"{name}.{alias.name}") in modules else name
                for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name in modules and name != module)


def graph_of(root: Path) -> dict[str, set[str]]:
    """What every module of a package imports."""
    files = {
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in sorted(root.rglob("*.py"))
    }
    return {
        module: set(imports(path.read_text(encoding="utf-8"), module, set(files)))
        for module, path in files.items()
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports; none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle_of_imports() -> None:
    graph = graph_of(ROOT)
    assert len(graph) > 100
    assert circle(graph) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pack.b", True),
        ("from pack import b", True),
        ("from pack.b import x", True),
        ("def f():\n    from pack.b import x", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.b import x", False),
        ("import json", False),
    ],
)
def test_a_circle_is_found(tmp_path: Path, text: str, found: bool) -> None:
    root = tmp_path / "pack"
    root.mkdir()
    (root / "__init__.py").touch()
    (root / "a.py").write_text(text)
    (root / "b.py").write_text("from pack.c import x")
    (root / "c.py").write_text("from pack.a import x")
    assert set(circle(graph_of(root))) == ({"pack.a", "pack.b", "pack.c"} if found else set())
