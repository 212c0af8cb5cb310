"""What workers print: some of it is shown, escaped; a flood is not."""

import io
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from vaebench.runner.output import ForwardedOutput


def forwarded(monkeypatch: pytest.MonkeyPatch, *packs: bytes) -> str:
    """What standard error shows of what each pack writes."""
    seen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", seen)
    reader, writer = Pipe(duplex=False)
    output = ForwardedOutput(reader)
    for pack in packs:
        output.begin_pack()
        write(writer, pack)
        while len(seen.getvalue()) < min(len(pack), 4_000) - 1:
            pass  # the thread has not read it yet
    writer.close()
    output.close()
    return seen.getvalue()


def write(writer: Connection, content: bytes) -> None:
    with open(writer.fileno(), "wb", buffering=0, closefd=False) as raw:
        raw.write(content)


def test_a_few_lines_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "shapes: (3, 4)\nσ\n"
    assert forwarded(monkeypatch, text.encode()) == text


def test_escape_sequences_and_broken_text_are_shown_as_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert forwarded(monkeypatch, b"a\x1b[2Jb\xff\r\n") == "a\\x1b[2Jb\\xff\\r\n"


def test_a_flood_is_cut_off_and_the_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    flood = b"".join(b"step %d\n" % step for step in range(5_000))
    shown = forwarded(monkeypatch, flood)
    assert shown.startswith("step 0\nstep 1\n")
    assert len(shown) < 5_000
    assert shown.endswith("\n... the rest of what this pack prints is left out\n")


def test_each_pack_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forwarded(monkeypatch, b"x" * 10_000, b"x" * 10_000).count("is left out") == 2


def test_a_closed_standard_error_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = Pipe(duplex=False)
    output = ForwardedOutput(reader)
    monkeypatch.setattr(sys, "stderr", None)
    write(writer, b"nobody sees this\n" * 10_000)  # more than a pipe holds
    writer.close()
    output.close()
