"""MNIST's files served by this machine, for documented commands that download."""

import contextlib
import gzip
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import pytest

from vaebench.data.vision import torchvision_module


@contextlib.contextmanager
def local_mirror() -> Iterator[None]:
    """Replace torchvision's mirrors of MNIST by a server that has the real files.

    Until the end the folder `data` is VAEBENCH_DATA, and `downloads` has the files as somebody
    might have downloaded them by hand. Without the real files the test is skipped: their SHA-256
    is pinned, so no other files would do.
    """
    raw = Path(os.environ.get("VAEBENCH_DATA", "absent")) / "MNIST" / "raw"
    if not raw.is_dir():
        pytest.skip("needs the MNIST files: set VAEBENCH_DATA to the folder that holds MNIST/raw")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1].removesuffix(".gz")
            body = gzip.compress((raw / name).read_bytes(), compresslevel=1)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        if not Path("downloads").exists():
            Path("downloads").symlink_to(raw)
        elsewhere = mock.patch.dict(os.environ, {"VAEBENCH_DATA": str(Path("data").resolve())})
        with (
            elsewhere,
            mock.patch.object(torchvision_module("datasets").MNIST, "mirrors", [address]),
        ):
            yield
        server.shutdown()
        thread.join()
