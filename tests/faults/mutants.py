"""Mutation testing: `python tests/faults/mutants.py results.jsonl` (an hour or more).

Draws places of the rooms below with a fixed seed, changes one at a time in a copy of the project,
and runs the tests that execute its line, the fast ones first, until one fails. Each mutant runs in
a fork of a process that has imported torch: mutmut and cosmic-ray start an interpreter for each,
which takes seconds of import here, and neither draws a sample.

A run that was stopped continues where it was. The last lines are the share that was killed in each
room and the survivors; `--survivors` tries those again, with the tests that exist then. `--rooms`
tries only some rooms, and `--seconds` limits the tests of each mutant.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import coverage
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COUNT, SEED = 400, 20
ROOMS = {
    "vaebench/findings/verdict.py": (
        "vaebench/findings/verdict.py",
        "tests/findings/test_verdict.py",
        "tests/findings/test_definitions.py",
    ),
    "vaebench/model": (
        "vaebench/model",
        "tests/model",
        "tests/training/test_training_step.py",
        "tests/training/test_recipes.py",
        "tests/test_new_family.py",
    ),
    "vaebench/records": (
        "vaebench/records",
        "tests/records",
        "tests/faults",
        "tests/analysis/test_result_frame.py",
    ),
    "vaebench/evaluation": ("vaebench/evaluation", "tests/evaluation"),
}
_PYTEST = (
    *("-q", "-x", "--tb=no", "-p", "pytest_benchmark.plugin"),
    *("-k", "not 1000_iterations"),  # minutes of t-SNE
)
# They start whole runs in other processes, whose lines are not seen from here.
LEFT_OUT = ("test_foreign_code.py", "test_stops_and_exits.py", "test_advised_repairs.py")
PRELOADED = (
    *("pytest_benchmark.plugin", "scipy.stats", "sklearn.neighbors", "sklearn.manifold"),
    *("pandas", "pydantic", "hypothesis"),
)

_COMPARE: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_BINARY: dict[type[ast.AST], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.MatMult: ("@", "*"),
}
_SKIPPED = ("annotation", "returns", "decorator_list")
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any", "sum": "mean", "mean": "sum"}
_CODE = re.compile(r"[\w.:/-]+")
"""Texts that are codes or names; messages are for people, and tests do not fix their words."""


@dataclass(frozen=True)
class Mutant:
    """A change of the bytes from `start` to `end` of a file.

    `lines` are those of its statement, which is in a function or runs at import.
    """

    path: str
    start: int
    end: int
    new: str
    old: str
    lines: tuple[int, int]
    in_function: bool

    def name(self) -> str:
        return f"{self.path}:{self.lines[0]}:{self.start}: {self.old!r} -> {self.new!r}"


class _Places:
    """All mutants of one file."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        ends = [0, *(place + 1 for place, byte in enumerate(source) if byte == ord("\n"))]
        self.starts = dict(enumerate(ends, 1))
        self.found: list[Mutant] = []
        self.lines, self.functions = (1, 1), 0
        for statement in ast.parse(source).body:
            self.visit(statement)

    def place(self, node: ast.AST) -> tuple[int, int]:
        at = vars(node)
        return (
            self.starts[at["lineno"]] + at["col_offset"],
            self.starts[at["end_lineno"]] + at["end_col_offset"],
        )

    def add(self, start: int, end: int, new: str) -> None:
        old = self.source[start:end].decode()
        self.found.append(Mutant(self.path, start, end, new, old, self.lines, self.functions > 0))

    def between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Replace the operator between two operands."""
        begin, end = self.place(left)[1], self.place(right)[0]
        start = begin + self.source[begin:end].index(old.encode())
        self.add(start, start + len(old), new)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            self.lines = (node.lineno, max(last, node.lineno))
        if _is_no_code(node):
            return
        lines = self.lines
        self.mutate(node)
        is_function = isinstance(node, ast.FunctionDef | ast.Lambda)
        self.functions += is_function
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and name not in _SKIPPED:
                    self.lines = lines
                    self.visit(child)
        self.functions -= is_function

    def mutate(self, node: ast.AST) -> None:
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for left, right, each in zip(operands, operands[1:], node.ops, strict=False):
                self.between(left, right, *_COMPARE[type(each)])
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            self.between(node.left, node.right, *_BINARY[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            self.between(node.values[0], node.values[1], *words)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            start = self.place(node)[0]
            self.add(start, start + (3 if isinstance(node.op, ast.Not) else 1), "")
        elif isinstance(node, ast.Constant):
            self.constant(node)
        elif isinstance(node, ast.Call):
            self.call(node)
        self.statement(node)

    def constant(self, node: ast.Constant) -> None:
        value, new = node.value, None
        if isinstance(value, bool):
            new = str(not value)
        elif isinstance(value, int):
            new = str(value + 1)
        elif isinstance(value, float):
            new = repr(value * 1.5 or 1.0)
        elif isinstance(value, str) and _CODE.fullmatch(value):
            new = repr(f"X{value}")
        if new is not None:
            self.add(*self.place(node), new)

    def call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        end = self.place(node.func)[1]
        if name in _CALLED and (
            isinstance(node.func, ast.Attribute) or name not in ("sum", "mean")
        ):
            self.add(end - len(name), end, _CALLED[name])

    def statement(self, node: ast.AST) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self.add(*self.place(node), "pass")
        elif isinstance(node, ast.Return) and not _is_none(node.value):
            self.add(*self.place(node), "return None")
        elif isinstance(node, ast.AugAssign):
            self.between(node.target, node.value, *_augmented(node.op))
        elif isinstance(node, ast.Break | ast.Continue):
            word = "continue" if isinstance(node, ast.Break) else "break"
            self.add(*self.place(node), word)
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            start, end = self.place(node.test)
            self.add(start, end, f"not ({self.source[start:end].decode()})")


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _augmented(operator: ast.operator) -> tuple[str, str]:
    return f"{_BINARY[type(operator)][0]}=", "="


def _is_no_code(node: ast.AST) -> bool:
    """Whether a node is a docstring, a message, an import, or only for the type checker."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return getattr(node.test, "id", "") == "TYPE_CHECKING"
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in ("cast", "TypeVar")
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"


def drawn(root: Path) -> list[Mutant]:
    """The sample, in the order in which it is tried."""
    every: list[Mutant] = []
    for room in sorted(ROOMS):
        files = sorted((root / room).rglob("*.py")) if (root / room).is_dir() else [root / room]
        for file in files:
            every += _Places(str(file.relative_to(root)), file.read_bytes()).found
    return random.Random(SEED).sample(every, COUNT)  # noqa: S311 - a test's own numbers


class Reported:
    """A plugin of pytest: which tests passed and how long they took, or the first that failed."""

    def __init__(self, chosen: list[str] | None, traced: coverage.Coverage | None) -> None:
        self.chosen, self.traced = chosen, traced
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.chosen is not None:
            place = {name: number for number, name in enumerate(self.chosen)}
            items[:] = sorted(
                (item for item in items if item.nodeid in place), key=lambda i: place[i.nodeid]
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        if self.traced is not None:
            self.traced.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            if self.traced is not None:
                self.traced.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)


def forked(
    files: list[str], limit: float, chosen: list[str] | None = None, include: str | None = None
) -> dict[str, object]:
    """Run tests in a fork; returns its answer, which says `timeout` if it took too long."""
    root = Path.cwd()
    answer = root / "answer.json"
    answer.unlink(missing_ok=True)
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        traced = None if include is None else coverage.Coverage(data_file=None, include=include)
        sys.dont_write_bytecode = include is None
        plugin = Reported(chosen, traced)
        if traced is not None:
            traced.start()
        code = int(pytest.main([*_PYTEST, *files], plugins=[plugin]))
        found: dict[str, object] = {"code": code, "failed": plugin.failed}
        if traced is not None:
            traced.stop()
            data = traced.get_data()
            lines = {
                os.path.relpath(file, root): data.contexts_by_lineno(file)
                for file in data.measured_files()
            }
            found |= {"seconds": plugin.seconds, "lines": lines}
        answer.write_text(json.dumps(found), encoding="utf-8")
        os._exit(0)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() - begin > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": -1, "failed": ["timeout"], "spent": limit}
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    told = answer.read_text(encoding="utf-8") if answer.exists() else '{"code": -2, "failed": []}'
    return {**json.loads(told), "spent": time.monotonic() - begin}


class Survey:
    """Which tests execute which line, and how long each takes; made once, file by file."""

    def __init__(self, known: Path) -> None:
        self.tests: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.seconds: dict[str, float] = {}
        self.known = known
        self.cached = json.loads(known.read_text()) if known.exists() else {}

    def add_room(self, room: str) -> None:
        for file in _test_files(ROOMS[room]):
            key = f"{room} {file} {_checksum(Path(file))}"
            if key not in self.cached:
                pattern = f"*/{room}" if room.endswith(".py") else f"*/{room}/*"
                self.cached[key] = forked([file], 900, include=pattern)
                self.known.write_text(json.dumps(self.cached))
                print(key, self.cached[key]["spent"], self.cached[key]["failed"], flush=True)
            self.add(self.cached[key])

    def add(self, found: dict[str, object]) -> None:
        failed = set(found["failed"])  # type: ignore[call-overload]  # read from JSON
        self.seconds |= found.get("seconds", {})  # type: ignore[arg-type]
        for path, lines in found.get("lines", {}).items():  # type: ignore[attr-defined]
            for line, contexts in lines.items():
                own = {name for name in contexts if name and name not in failed}
                self.tests[path][int(line)] |= own

    def covering(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant: fast files first, and within a file fast tests first.

        A line that is executed when the module is imported has all tests of every file that
        executes a line of that module.
        """
        lines = self.tests[mutant.path]
        first, last = mutant.lines
        found = set().union(*(lines.get(line, set()) for line in range(first, last + 1)))
        if not found or not mutant.in_function:
            files = {_file(name) for name in set().union(*lines.values())}
            found = {name for name in self.seconds if _file(name) in files}
        total: dict[str, float] = defaultdict(float)
        for name in found:
            total[_file(name)] += self.seconds[name]
        return sorted(found, key=lambda n: (total[_file(n)], _file(n), self.seconds[n]))


def _checksum(file: Path) -> str:
    """A test file that has changed is surveyed again; for a module, only its docstrings are run."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else ""


def _file(test: str) -> str:
    return test.partition("::")[0]


def _test_files(folders: tuple[str, ...]) -> list[str]:
    found = [
        path
        for folder in folders
        for path in (sorted(Path(folder).rglob("test_*.py")) or [Path(folder)])
    ]
    return [str(path) for path in found if path.name not in LEFT_OUT]


def attempt(mutant: Mutant, survey: Survey, most: float) -> dict[str, object]:
    """Change the file, run tests of at most so many seconds until one fails, and change it back."""
    tests, spent = [], 0.0
    covering = survey.covering(mutant)
    for name in covering:
        if spent + survey.seconds[name] <= most:
            tests.append(name)
            spent += survey.seconds[name]
    file = Path(mutant.path)
    before, times = file.read_bytes(), file.stat()
    after = before[: mutant.start] + mutant.new.encode() + before[mutant.end :]
    ast.parse(after)
    file.write_bytes(after)
    # Another time than that of the original, whose bytecode is cached.
    os.utime(file, (times.st_atime, times.st_mtime + 10))
    try:
        files = list(dict.fromkeys(map(_file, tests)))
        done = forked(files, 30 + 6 * spent, tests) if tests else {"code": 0, "failed": []}
    finally:
        file.write_bytes(before)
        os.utime(file, (times.st_atime, times.st_mtime))
    return {
        "mutant": mutant.name(),
        "killed": done["code"] != 0,
        "by": (done["failed"] or [done["code"]])[0],  # type: ignore[index]  # a list of names
        "tests": f"{len(tests)} of {len(covering)}",
        "seconds": round(float(str(done.get("spent", 0))), 1),
    }


def table(results: dict[str, dict[str, object]]) -> str:
    """The share of killed mutants of each room, and the survivors."""
    lines = ["| room | mutants | killed | share |", "|---|---|---|---|"]
    for room in (*ROOMS, ""):
        killed = [each["killed"] for name, each in results.items() if name.startswith(room)]
        if killed:
            share = f"{sum(map(bool, killed)) / len(killed):.1%}"
            name = f"`{room}`" if room else "all"
            lines.append(f"| {name} | {len(killed)} | {sum(map(bool, killed))} | {share} |")
    return "\n".join([*lines, *(name for name, each in results.items() if not each["killed"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a file of one JSON line a mutant")
    parser.add_argument("--seconds", type=float, default=60.0, help="of tests for each mutant")
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=list(ROOMS))
    parser.add_argument("--survivors", action="store_true", help="try the survivors again")
    options = parser.parse_args()
    output, known = options.results.absolute(), options.results.absolute().with_suffix(".survey")
    results: dict[str, dict[str, object]] = {}
    if output.exists():
        lines = output.read_text(encoding="utf-8").splitlines()
        results = {each["mutant"]: each for each in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder:
        copied_project(Path(folder))
        survey, sample = Survey(known), drawn(Path(folder))
        for room in options.rooms:
            survey.add_room(room)
            for mutant in (each for each in sample if each.path.startswith(room)):
                tried = results.get(mutant.name())
                if tried is None or (options.survivors and not tried["killed"]):
                    results[mutant.name()] = attempt(mutant, survey, options.seconds)
                    with output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(results[mutant.name()]) + "\n")
        os.chdir(ROOT)
    print(table(results))


def copied_project(folder: Path) -> None:
    """Copy the code to a folder, work there, and import what every fork needs."""
    for name in ("vaebench", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("results", "reports", "docs", "benchmarks", "README.md", ".ci"):
        (folder / name).symlink_to(ROOT / name)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(folder))
    for module in PRELOADED:
        import_module(module)
    # The first optimizer imports torch's compiler.
    torch.optim.SGD([torch.zeros(1)], lr=1.0)


if __name__ == "__main__":
    main()
