"""What a plan says of a function that a user names, without running the user's module."""

from pathlib import Path

import pytest

from vaebench.grid.user_code import lack_of_function, source_digest

SOURCE = """
raise SystemExit("a plan must not run this")
from os.path import join as put
import os.path
def plain(): ...
async def later(): ...
class Kind: ...
for each in (): ...
a = lambda: 0
"""


@pytest.mark.parametrize("name", ["put", "os", "plain", "later", "Kind", "each", "a"])
def test_a_name_that_the_source_gives_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given_names.py").write_text(SOURCE, encoding="utf-8")
    assert lack_of_function(f"given_names:{name}") is None


@pytest.mark.parametrize(("name", "near"), [("plane", "'plain'"), ("join", None), ("path", None)])
def test_any_other_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, near: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other_names.py").write_text(SOURCE, encoding="utf-8")
    hint = f" (did you mean {near}?)" if near else ""
    lack = lack_of_function(f"other_names:{name}")
    assert lack == f"other_names has no function {name!r}{hint}"


@pytest.mark.parametrize("source", ["from os import *", "def __getattr__(name): ..."])
def test_what_the_source_does_not_show_may_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hidden_names.py").write_text(source, encoding="utf-8")
    assert lack_of_function("hidden_names:anything") is None


def test_a_module_that_is_no_python_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken_names.py").write_text("\ndef broken(:\n", encoding="utf-8")
    lack = lack_of_function("broken_names:broken")
    assert lack == "broken_names is not valid Python: invalid syntax, line 2"


def test_a_module_without_a_source_may_have_it() -> None:
    assert lack_of_function("math:sqrt") is None
    assert lack_of_function("json:no_such") == "json has no function 'no_such'"


@pytest.mark.parametrize(
    ("text", "why"),
    [("raise RuntimeError('no licence')", "RuntimeError: no licence"), ("def", "SyntaxError")],
)
def test_a_package_that_fails_on_import_is_told_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"failing_{why[:6].lower()}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(text, encoding="utf-8")
    (tmp_path / name / "net.py").write_text("def make(): ...", encoding="utf-8")
    lack = lack_of_function(f"{name}.net:make")
    assert lack is not None
    assert lack.startswith(f"the package of {name}.net cannot be imported ({why}")
    assert source_digest(f"{name}.net:make") is None
