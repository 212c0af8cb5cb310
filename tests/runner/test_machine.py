"""What a record says of the machine: timings are compared within one only."""

from pathlib import Path

import pytest

from vaebench.runner import machine

CPUINFO = (
    "processor\t: 0\ncpu family\t: 25\nmodel\t\t: {model}\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n"
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (CPUINFO.format(model=17), "AMD EPYC (family 25, model 17)"),
        (CPUINFO.format(model=1), "AMD EPYC (family 25, model 1)"),
        ("model name\t: Some CPU: the second\n", "Some CPU: the second"),
    ],
)
def test_processors_behind_one_name_are_told_apart(
    text: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert machine._processor() == name
