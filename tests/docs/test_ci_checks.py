"""The checks that CI makes find what they are for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

CI = Path(__file__).parents[2] / ".ci"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CI / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("plain.md", "The report mirrors the path of its store.\n" * 200, 0),
        ("archaic.md", "A report lies as its store does.\n" * 200, 1),
        ("code.md", "```text\nA report lies as its store does.\n```\n" + "Plain words.\n" * 9, 0),
        ("module.py", '"""What is told lies beside."""\n', 1),
        ("comment.py", "# A report lies as its store does.\n", 1),
        ("short.py", 'COLUMN = "lies"\nNAME = "plain words are here"\n', 0),
    ],
)
def test_plain_english(name: str, text: str, code: int, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert load("plain_english").main([str(tmp_path)]) == code


def test_a_large_folder_has_its_own_limit(tmp_path: Path) -> None:
    for folder, sentence in (("plain", "Words are plain here. "), ("mixed", "This is told. ")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.md").write_text(sentence * 4 + "Plain words. " * 600)
    (tmp_path / "plain" / "page.md").write_text("Plain words. " * 4000)
    check = load("plain_english").main
    assert check([str(tmp_path)]) == 1
    (tmp_path / "mixed" / "page.md").write_text("This is told. " * 2 + "Plain words. " * 600)
    assert check([str(tmp_path)]) == 0


def test_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no text"):
        load("plain_english").main([str(tmp_path)])


def write_report(folder: Path, table: str, page: str) -> Path:
    (folder / "quick" / "tables").mkdir(parents=True)
    (folder / "quick" / "tables" / "results.csv").write_text(table, encoding="utf-8")
    (folder / "quick" / "index.html").write_text(page, encoding="utf-8")
    return folder


def test_committed_reports_are_compared_by_tables_and_text(tmp_path: Path) -> None:
    differences = load("committed_reports").differences
    page = "<style>p { color: red }</style><p>ELBO</p> <img src='data:1'>"
    committed = write_report(tmp_path / "committed", "a,1\n", page)
    same = write_report(tmp_path / "same", "a,1\n", "<p>ELBO\n</p><img src='data:2'>")
    assert not list(differences(committed, same))
    other_table = write_report(tmp_path / "table", "a,2\n", page)
    assert list(differences(committed, other_table)) == ["quick/tables/results.csv differs"]
    other_page = write_report(tmp_path / "page", "a,1\n", page.replace("ELBO", "bound"))
    assert [line for line in differences(committed, other_page) if line == "+bound"]
    (committed / "quick" / "tables" / "more.csv").write_text("", encoding="utf-8")
    assert "more.csv is only in the committed reports" in list(differences(committed, same))[-1]
