"""Only public names of dependencies: no import, attribute or dotted text of theirs is private.

A private name begins with one underscore. Whose an attribute of an object is cannot be seen in the
syntax; one that nothing in this project defines is a dependency's.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for top in ("vaebench", "tests", "benchmarks") for p in (ROOT / top).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
OURS = {"vaebench", "benchmarks", *(path.stem for path in FILES)}
NAMED_TUPLE = {"_asdict", "_replace", "_fields", "_make"}
"""Public methods of named tuples, whose fields may have any other name."""


def private_parts(name: str) -> list[str]:
    """The parts of a dotted name that begin with an underscore; ``__file__`` is public."""
    return [part for part in name.split(".") if re.match(r"_(?!_.*__$)", part)]


def is_foreign(module: str) -> bool:
    root = module.partition(".")[0]
    return root not in OURS and root not in sys.stdlib_module_names


def defined_in(tree: ast.AST) -> Iterator[str]:
    """Every name that a file defines or assigns, also as an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


DEFINED = {name for tree in TREES.values() for name in defined_in(tree)}


def modules_of(tree: ast.AST) -> dict[str, str]:
    """What each imported name of a file stands for, as a dotted name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                name = each.name if each.asname else each.name.partition(".")[0]
                found[each.asname or name] = name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                found[each.asname or each.name] = f"{node.module}.{each.name}"
    return found


def dotted(node: ast.expr, modules: dict[str, str]) -> str | None:
    """``a.b.c`` with its module's name in full; None if it does not begin with a plain name."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value, modules)
        return None if start is None else f"{start}.{node.attr}"
    return modules.get(node.id, node.id) if isinstance(node, ast.Name) else None


def private_uses(tree: ast.AST) -> Iterator[str]:
    """Each private name of a dependency that a file uses, with its line."""
    modules = modules_of(tree)
    foreign = {name.partition(".")[0] for name in modules.values() if is_foreign(name)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names if is_foreign(each.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and is_foreign(node.module):
            names = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Attribute):
            path = dotted(node, modules) or f"?.{node.attr}"
            root = path.partition(".")[0]
            known = root in OURS or root in sys.stdlib_module_names or node.attr in NAMED_TUPLE
            if root in foreign or not (known or node.attr in DEFINED):
                # What is before the attribute is a node of its own.
                names = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # As what `monkeypatch.setattr` and `import_module` take.
            is_path = re.fullmatch(r"\w+(\.\w+)+", node.value)
            names = [node.value] if is_path and node.value.partition(".")[0] in foreign else []
        yield from (f"line {node.lineno}: {name}" for name in names if private_parts(name))


def test_no_private_name_of_a_dependency_is_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}, {use}"
        for path, tree in TREES.items()
        for use in private_uses(tree)
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import torch._inductor",
        "import torch._inductor as compiler",
        "from torch._ops import OpOverload",
        "from torch import _C",
        "import torch\ndef f():\n    torch._fused_adam_([])",
        "import numpy as np\nnp.core._methods",
        "from torch import nn\nnn.modules._functions.x",
        "import torch\nlayer = torch.nn.Linear(1, 1)\nlayer._parameters",
        "import torch\nf(1)[0]._base_of_view",
        "import torch\nmonkeypatch.setattr('torch._inductor.compile', None)",
    ],
)
def test_a_private_use_would_be_found(source: str) -> None:
    assert list(private_uses(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.__version__",
        "import os\nos._exit(1)",
        "from vaebench.cli import _report",
        "import torch\nclass A:\n    def f(self):\n        return self._captured",
        "row._asdict()",
        "import torch\n'a text of torch. _not a path'",
    ],
)
def test_what_is_public_or_ours_is_not(source: str) -> None:
    assert not list(private_uses(ast.parse(source)))
