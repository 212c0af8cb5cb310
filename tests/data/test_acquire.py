"""Fetching, adding and checking files, with mirrors and archives that misbehave."""

import fcntl
import gzip
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from miniature_files import Miniature

from vaebench.data import acquire
from vaebench.data.acquire import add, fetch, listing, verify
from vaebench.data.catalog import locate
from vaebench.errors import DataInvalid, DataMissing
from vaebench.grid.axes import DATASETS

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, body, {"Content-Length": str(len(body))})


def send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def html(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    whole(handler, b"<html><body>Too many requests</body></html>")


def truncated(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, body[: len(body) // 2], {"Content-Length": str(len(body))})


def too_short_a_length(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, body, {"Content-Length": str(len(body) // 2)})


def other_content(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    content = bytearray(gzip.decompress(body))
    content[-1] ^= 1
    whole(handler, gzip.compress(content))


def bomb(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    whole(handler, gzip.compress(bytes(5 << 20)))


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, 200, bytes(3 << 20), {})


def absent(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, 404, b"", {})


def to_a_file(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, 302, b"", {"Location": "file:///etc/hostname"})


def to_another_host(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    port = handler.server.server_address[1]
    send(handler, 302, b"", {"Location": f"http://localhost:{port}/whole{handler.path}"})


@dataclass
class Mirrors:
    """A local server: the first part of an address says how it answers."""

    contents: dict[str, bytes]
    port: int = 0
    asked: list[str] = field(default_factory=list)

    def address(self, answer: Answer) -> str:
        return f"http://127.0.0.1:{self.port}/{answer.__name__}/"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        *_, answer, name = handler.path.split("/")
        body = gzip.compress(self.contents[name.removesuffix(".gz")])
        globals()[answer](handler, body)


@pytest.fixture
def mirrors(miniature: Miniature) -> Iterator[Mirrors]:
    served = Mirrors(dict(miniature.contents))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.handle(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing: a client that hangs up on an endless answer is right to do so."""

    with Server(("127.0.0.1", 0), Handler) as server:
        served.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setattr(acquire, "_mirrors", lambda _: list(addresses))


def stray(folder: Path) -> list[str]:
    """Files below a folder that are neither data nor the lock."""
    known = ("-ubyte", "-ubyte.gz", ".lock")
    return [path.name for path in folder.rglob("*.*") if not path.name.endswith(known)]


def test_fetched_files_are_located_whole(
    mirrors: Mirrors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, mirrors.address(whole))
    said: list[str] = []
    folder = fetch("mnist", tmp_path, said.append)
    assert folder == tmp_path / "MNIST" / "raw" == locate("mnist", tmp_path).folder
    assert all(check.fault is None for check in verify("mnist", tmp_path))
    assert [line.split()[0] for line in said] == ["downloading"] * 4
    assert not stray(tmp_path)
    count = len(mirrors.asked)
    assert fetch("mnist", tmp_path) == folder
    assert len(mirrors.asked) == count


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (html, r"it holds 43"),
        (truncated, "damaged gzip|IncompleteRead"),
        (too_short_a_length, "damaged gzip"),
        (other_content, "its content differs"),
        (bomb, "it holds more"),
        (endless, r"sent more than the expected [\d,]+ bytes"),
        (absent, "HTTP Error 404"),
        (to_a_file, "refused a redirect to file:///etc/hostname|not allowed"),
        (to_another_host, "refused a redirect to http://localhost"),
    ],
)
def test_a_bad_mirror_is_passed_over_and_named(
    mirrors: Mirrors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, fault: str
) -> None:
    bad = mirrors.address(answer)
    use(monkeypatch, bad, mirrors.address(whole))
    fetch("mnist", tmp_path / "two")
    assert all(check.fault is None for check in verify("mnist", tmp_path / "two"))
    use(monkeypatch, bad)
    with pytest.raises(DataMissing, match=fault) as raised:
        fetch("mnist", tmp_path / "one")
    assert bad in str(raised.value)
    assert "vaebench data add mnist PATH" in str(raised.value)
    assert str(tmp_path / "one" / "MNIST" / "raw") in str(raised.value)
    with pytest.raises(DataMissing):
        locate("mnist", tmp_path / "one")
    assert not stray(tmp_path)


def test_no_network_is_told_with_the_way_out(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "http://127.0.0.1:9/", "https://name.invalid/", "file:///etc/")
    with pytest.raises(DataMissing) as raised:
        fetch("mnist", tmp_path)
    text = str(raised.value)
    assert all(
        tried in text for tried in ("127.0.0.1:9", "name.invalid", "begin with http or https")
    )


def test_a_slow_mirror_is_given_up(
    mirrors: Mirrors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquire, "_FILE_TIMEOUT_S", -1.0)
    use(monkeypatch, mirrors.address(whole))
    with pytest.raises(DataMissing, match="took longer than"):
        fetch("mnist", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("http://a.org/x", "https://a.org/x", True),
        ("https://a.org/x", "https://a.org/y", True),
        ("https://a.org/x", "http://a.org/x", False),
        ("https://a.org/x", "https://b.org/x", False),
        ("http://a.org/x", "ftp://a.org/x", False),
    ],
)
def test_redirects_stay_on_the_host_and_keep_its_safety(old: str, new: str, allowed: bool) -> None:
    import http.client
    import urllib.error
    import urllib.request

    def follow() -> urllib.request.Request | None:
        return acquire._CarefulRedirects().redirect_request(
            urllib.request.Request(old),  # noqa: S310 - the schemes are what is tested
            io.BytesIO(),
            302,
            "",
            http.client.HTTPMessage(),
            new,
        )

    if allowed:
        request = follow()
        assert request is not None
        assert request.full_url == new
    else:
        with pytest.raises(urllib.error.URLError, match="refused a redirect"):
            follow()


def test_damaged_files_are_fetched_again_and_leftovers_replaced(
    mirrors: Mirrors, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = miniature.write(tmp_path / "MNIST" / "raw")
    name = "train-labels-idx1-ubyte"
    (folder / name).write_bytes(miniature.contents[name][:-1] + b"x")
    (folder / f"{name}.part").write_bytes(b"left over by a killed download")
    assert [check.fault is None for check in verify("mnist", tmp_path)] == [True, False, True, True]
    use(monkeypatch, mirrors.address(whole))
    fetch("mnist", tmp_path)
    assert mirrors.asked == [f"/whole/{name}.gz"]
    assert (folder / name).read_bytes() == miniature.contents[name]
    assert not stray(tmp_path)


def test_a_part_file_is_never_data(miniature: Miniature, tmp_path: Path) -> None:
    folder = miniature.write(tmp_path / "mnist")
    name = "t10k-images-idx3-ubyte"
    (folder / name).rename(folder / f"{name}.part")
    with pytest.raises(DataMissing, match=f"without {name}"):
        locate("mnist", tmp_path)


def test_a_full_disk_leaves_nothing_behind(
    mirrors: Mirrors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, mirrors.address(whole))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetch("mnist", tmp_path)
    assert [path.name for path in (tmp_path / "MNIST" / "raw").iterdir()] == [".lock"]


def test_a_second_download_waits_for_the_first_and_finds_nothing_to_do(
    mirrors: Mirrors, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, mirrors.address(whole))
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    said: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=fetch, args=("mnist", tmp_path, say))
        second.start()
        assert waiting.wait(10)
        second.join(0.3)
        assert second.is_alive()
        assert not mirrors.asked
        miniature.write(folder)
    second.join(10)
    assert not second.is_alive()
    assert said[0] == f"another process is filling {folder}: waiting for it"
    assert not mirrors.asked


def test_the_lock_of_a_killed_download_is_taken_over(
    mirrors: Mirrors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    code = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / ".lock")], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        use(monkeypatch, mirrors.address(whole))
        first_line = threading.Event()
        taker = threading.Thread(target=fetch, args=("mnist", tmp_path, lambda _: first_line.set()))
        taker.start()
        assert first_line.wait(10)
        taker.join(0.3)
        assert taker.is_alive()
        assert not mirrors.asked
        holder.kill()
        taker.join(10)
    assert locate("mnist", tmp_path).folder == folder


def test_torchvisions_addresses_are_asked_https_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaebench.data.catalog import FILE_SETS
    from vaebench.data.vision import torchvision_module

    monkeypatch.setattr(
        torchvision_module("datasets").MNIST, "mirrors", ["http://a/", "https://b/"]
    )
    assert acquire._mirrors(FILE_SETS["mnist"]) == ["https://b/", "http://a/"]
    fashion = torchvision_module("datasets").FashionMNIST
    assert acquire._mirrors(FILE_SETS["fashion-mnist"]) == fashion.mirrors
    for name, theirs in (
        ("mnist", torchvision_module("datasets").MNIST),
        ("fashion-mnist", fashion),
    ):
        files = {f"{file.name}.gz" for file in FILE_SETS[name].files}
        assert files == {resource for resource, _ in theirs.resources}


def packed(path: Path, source: Path, kind: str) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in source.rglob("*"):
                archive.write(file, file.relative_to(source))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            archive.add(source, "somewhere")
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
@pytest.mark.parametrize("zipped", [False, True])
def test_files_are_added_from_a_folder_or_archive(
    miniature: Miniature, tmp_path: Path, kind: str, zipped: bool
) -> None:
    source = tmp_path / "source"
    miniature.write(source / "deep" / "er", zipped=zipped)
    path = source if kind == "folder" else packed(tmp_path / "archive", source, kind)
    folder = add("mnist", path, tmp_path / "data")
    assert {name: (folder / name).read_bytes() for name in miniature.contents} == dict(
        miniature.contents
    )
    assert not stray(tmp_path / "data")


def test_namesakes_of_another_data_set_are_passed_over(
    miniature: Miniature, tmp_path: Path
) -> None:
    for name, content in miniature.contents.items():
        other = tmp_path / "source" / "FashionMNIST" / "raw" / name
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(bytes(len(content)))
    miniature.write(tmp_path / "source" / "MNIST" / "raw")
    add("mnist", tmp_path / "source", tmp_path / "data")


def test_files_with_a_dot_for_a_hyphen_are_known(miniature: Miniature, tmp_path: Path) -> None:
    source = miniature.write(tmp_path / "source")
    for file in list(source.iterdir()):
        file.rename(source / file.name.replace("-idx", ".idx"))
    add("mnist", source, tmp_path / "data")


def test_an_incomplete_or_wrong_folder_adds_nothing(miniature: Miniature, tmp_path: Path) -> None:
    source = miniature.write(tmp_path / "source")
    (source / "train-labels-idx1-ubyte").unlink()
    wrong = source / "t10k-labels-idx1-ubyte"
    wrong.write_bytes(bytes(wrong.stat().st_size))
    with pytest.raises(DataInvalid) as raised:
        add("mnist", source, tmp_path / "data")
    text = str(raised.value)
    assert "train-labels-idx1-ubyte (or train-labels-idx1-ubyte.gz) is not there" in text
    assert "must hold t10k-labels-idx1-ubyte with SHA-256" in text
    assert not (tmp_path / "data").exists()


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "train-images-idx3-ubyte"
    return info


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\x"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_point_outside_are_refused(
    miniature: Miniature, tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / f"bad.{kind}"
    if kind == "tar":
        tar_of(path, tar_member(name))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"x")
    with pytest.raises(DataInvalid, match="points outside the archive"):
        add("mnist", path, tmp_path / "data")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(
    miniature: Miniature, tmp_path: Path, kind: bytes
) -> None:
    path = tar_of(tmp_path / "bad.tar", tar_member("train-labels-idx1-ubyte", kind))
    with pytest.raises(DataInvalid, match="neither a file nor a folder"):
        add("mnist", path, tmp_path / "data")


def test_a_link_in_a_zip_is_refused(miniature: Miniature, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("train-labels-idx1-ubyte")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataInvalid, match="neither a file nor a folder"):
        add("mnist", tmp_path / "bad.zip", tmp_path / "data")


def test_bombs_are_not_unpacked(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquire, "_MAX_UNPACKED", 1 << 20)
    big = tarfile.TarInfo("padding")
    big.size = 20 << 20
    with tarfile.open(tmp_path / "bomb.tgz", "w:gz") as archive:
        archive.addfile(big, io.BytesIO(bytes(big.size)))
    with pytest.raises(DataInvalid, match="unpacks to more than 1,048,576 bytes"):
        add("mnist", tmp_path / "bomb.tgz", tmp_path / "data")

    monkeypatch.setattr(acquire, "_MAX_MEMBERS", 5)
    for kind in ("zip", "tar"):
        miniature.write(tmp_path / "source" / "a")
        miniature.write(tmp_path / "source" / "b")
        path = packed(tmp_path / f"many.{kind}", tmp_path / "source", kind)
        with pytest.raises(DataInvalid, match="at most 5 members"):
            add("mnist", path, tmp_path / "data")

    monkeypatch.setattr(acquire, "_MAX_ARCHIVE", 10)
    with pytest.raises(DataInvalid, match="at most 10 bytes"):
        add("mnist", tmp_path / "many.zip", tmp_path / "data")


def test_a_zipped_file_that_unpacks_to_more_is_refused(
    miniature: Miniature, tmp_path: Path
) -> None:
    source = miniature.write(tmp_path / "source", zipped=True)
    (source / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(10 << 20)))
    with pytest.raises(DataInvalid, match=r"train-images-idx3-ubyte of \d+ bytes; it holds more"):
        add("mnist", source, tmp_path / "data")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_damaged_archive_is_refused(miniature: Miniature, tmp_path: Path, kind: str) -> None:
    source = miniature.write(tmp_path / "source")
    path = packed(tmp_path / "archive", source, kind)
    path.write_bytes(path.read_bytes()[:-1500] if kind != "tar" else b"no archive" * 100)
    with pytest.raises(DataInvalid, match=r"cannot read|does not hold all files"):
        add("mnist", path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_names_and_paths_that_can_not_be_added(miniature: Miniature, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="the folder or archive"):
        add("mnist", tmp_path / "absent", tmp_path)
    with pytest.raises(ValueError, match="digits is built in and needs no files"):
        add("digits", tmp_path, tmp_path)
    with pytest.raises(ValueError, match="data sets with files are mnist; got 'mnits'"):
        fetch("mnits", tmp_path)


def test_the_listing_says_what_is_there(miniature: Miniature, tmp_path: Path) -> None:
    before = {state.name: state for state in listing(tmp_path)}
    assert list(before) == list(DATASETS)
    assert (before["digits"].state, before["mnist"].state) == ("built in", "absent")
    folder = miniature.write(tmp_path / "mnist")
    after = {state.name: state for state in listing(tmp_path)}
    assert (after["mnist"].state, after["mnist"].folder) == ("present", folder)
