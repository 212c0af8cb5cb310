"""Every error that a user can meet ends a command with the documented exit code."""

import ast
import errno
import inspect
from pathlib import Path

import click
import pytest

import vaebench
from vaebench import errors
from vaebench.cli import main as command_line
from vaebench.errors import Problem

EXIT_CODES = {
    "UsageError": 2,
    "GridError": 2,
    "WrongStep": 2,
    "UserCodeError": 2,
    "EngineError": 2,
    "WorkerStartError": 1,
    "OutputError": 1,
    "RecordMissing": 2,
    "WeightsMissing": 2,
    "StorageError": 2,
    "NotComparable": 2,
    "UnknownFinding": 2,
    "AuditError": 2,
    "DataMissing": 3,
    "DataInvalid": 3,
    "RecordError": 4,
    "RecordDamaged": 4,
    "RecordEdited": 4,
    "NewerSchema": 4,
    "ArraysDamaged": 4,
    "OnlyDamaged": 4,
    "BundleDamaged": 4,
    "NothingToReport": 5,
    "StoreBusy": 75,
}
ARGUMENTS = {
    "GridError": ([Problem("axes.sigma", "must be above 0")],),
    "WrongStep": ("latent_dim", "must be above 0"),
    "StoreBusy": (Path("results/a"), 17),
    "StorageError": (errno.EACCES, "permission denied", "results/a"),
}
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.VaebenchError)
}
OTHERS = [
    (PermissionError(errno.EACCES, "permission denied", "results/a"), 2),
    (FileNotFoundError(errno.ENOENT, "no such file", "grid.toml"), 2),
    (OSError(errno.ENOSPC, "no space left", "results/a"), 4),
    (OSError(errno.EDQUOT, "quota exceeded", "results/a"), 4),
    (errors.StorageError(errno.ENOSPC, "no space left", "results/a"), 4),
    (click.UsageError("no such option"), 2),
    (click.Abort(), 130),
    (KeyboardInterrupt(), 130),
    (BrokenPipeError(errno.EPIPE, "broken pipe"), 141),
]


def exit_code(error, monkeypatch):
    """The exit code of a command that ends with this error."""

    def command(*_, **__):
        raise error

    monkeypatch.setattr(command_line.cli, "main", command)
    with pytest.raises(SystemExit) as left:
        command_line.main([])
    return left.value.code


def test_the_table_holds_every_error():
    assert set(EXIT_CODES) == set(ERRORS) - {"VaebenchError"}


@pytest.mark.parametrize("name", EXIT_CODES)
def test_an_error_ends_the_command_with_its_exit_code(name, monkeypatch, capfd):
    error = ERRORS[name](*ARGUMENTS.get(name, ("what is wrong",)))
    assert exit_code(error, monkeypatch) == EXIT_CODES[name]
    assert str(error) in capfd.readouterr().err


@pytest.mark.parametrize(("error", "code"), OTHERS, ids=lambda each: type(each).__name__)
def test_other_errors_have_exit_codes_too(error, code, monkeypatch, capfd):
    assert exit_code(error, monkeypatch) == code


def test_a_defect_of_the_program_is_not_disguised(monkeypatch):
    def command(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(command_line.cli, "main", command)
    with pytest.raises(ZeroDivisionError):
        command_line.main([])


def test_no_other_module_gives_an_error_an_exit_code():
    """An error with an exit code is defined in `vaebench.errors` and nowhere else."""
    root = Path(vaebench.__file__).parent
    for path in root.rglob("*.py"):
        if path.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                assert not bases & set(ERRORS), f"{path}: {node.name}"
