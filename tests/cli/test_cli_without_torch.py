"""What trains nothing works without torch, and quickly."""

import json
import resource
import subprocess
import sys
from pathlib import Path

from command_line import LISTS

WITHOUT_TORCH = """
import contextlib, io, json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from vaebench.cli.main import main

codes = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(words)
        except SystemExit as left:
            codes.append(left.code)
print(json.dumps(codes))
"""


def test_what_trains_nothing_works_without_torch(here: Path) -> None:
    expected = {
        ("--help",): 0,
        ("--version",): 0,
        ("rnu",): 2,
        ("run", "small.toml", "--set", "sigma=0"): 2,
        ("run", "small.toml", "--dry-run"): 0,
        ("time", "--device", "gpu"): 2,
        **{("list", what): 0 for what in LISTS},
        ("report", "store"): 0,
        ("export", "store", "-o", "x.csv"): 0,
        ("show", "store"): 0,
        ("compare", "store:sigma=0.1", "store:sigma=0.3"): 0,
        ("doctor", "store"): 0,
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(list(expected))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout or "[]") == list(expected.values()), done.stderr


HEAVY = """
import sys
from vaebench.cli.main import main
try:
    main(["--help"])
except SystemExit:
    heavy = {"torch", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "pydantic"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_help_takes_less_than_a_third_of_a_second_of_cpu() -> None:
    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    begin = children()
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", "--help"], capture_output=True, text=True, check=True
    )
    assert "vaebench run" in done.stdout
    assert children() - begin < 0.3
