"""A finished store to read, made once, and the command line to ask."""

import shutil
from pathlib import Path

import pytest
from command_line import SMALL, Answer, Ask

from vaebench.cli.main import main


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Call the command line in this process; every way out is an exit code."""

    def call(*words: str | Path) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        code = left.value.code
        assert isinstance(code, int)
        answer = Answer(code, *capsys.readouterr())
        assert "Traceback" not in answer.text
        return answer

    return call


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grid file, and its store of six finished cells."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["run", f"{folder}/small.toml", "-o", f"{folder}/store", "--no-report"])
    assert left.value.code == 0
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of one test: its own copy, without data files anywhere."""
    folder = tmp_path / "here"
    shutil.copytree(home, folder)
    (folder / "empty").mkdir()
    (folder / "file").touch()
    (folder / "bad.toml").write_text("axes = [", encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    return folder
