"""The one import of torchvision: late, and mended only where it fails in the one known way."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from vaebench.data import vision


class Imports:
    """Stands in for `importlib.import_module`: fails with each given error, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.module = ModuleType("torchvision.datasets")

    def __call__(self, name: str) -> ModuleType:
        assert name == "torchvision.datasets"
        if self.errors:
            raise self.errors.pop(0)
        return self.module


class Declared:
    """Stands in for `torch.library.Library`: keeps what is declared."""

    made: list["Declared"]

    def __init__(self, namespace: str, kind: str) -> None:
        self.namespace, self.kind, self.schemas = namespace, kind, list[str]()
        self.made.append(self)

    def define(self, schema: str) -> None:
        self.schemas.append(schema.partition("(")[0])


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[Declared]:
    monkeypatch.setattr(Declared, "made", [], raising=False)
    monkeypatch.setattr(vision.torch.library, "Library", Declared)
    monkeypatch.setattr(vision, "_schemas", [])
    return Declared.made


KNOWN = RuntimeError("operator torchvision::nms does not exist")


def test_on_matching_builds_nothing_is_declared(
    declared: list[Declared], monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = Imports()
    monkeypatch.setattr(importlib, "import_module", imports)
    assert vision.torchvision_module("datasets") is imports.module
    assert not declared


def test_the_known_failure_is_mended_and_the_schemas_are_kept(
    declared: list[Declared], monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = Imports(KNOWN)
    monkeypatch.setattr(importlib, "import_module", imports)
    assert vision.torchvision_module("datasets") is imports.module
    assert [(library.namespace, library.kind) for library in declared] == [("torchvision", "DEF")]
    assert declared[0].schemas == ["nms", "qnms"]
    assert vision._schemas == declared


@pytest.mark.parametrize(
    "errors",
    [
        (RuntimeError("something else is wrong"),),
        (ImportError("No module named 'torchvision'"),),
        (KNOWN, KNOWN),
    ],
)
def test_any_other_failure_is_told(
    declared: list[Declared], monkeypatch: pytest.MonkeyPatch, errors: tuple[Exception, ...]
) -> None:
    monkeypatch.setattr(importlib, "import_module", Imports(*errors))
    with pytest.raises(type(errors[-1]), match=str(errors[-1])):
        vision.torchvision_module("datasets")


def test_loading_data_does_not_import_torchvision() -> None:
    code = (
        "import sys; from vaebench.data import acquire, pixels, sources, vision\n"
        "sources.load('linear-gaussian'); acquire.listing()\n"
        "print([name for name in sys.modules if name.startswith('torchvision')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"
