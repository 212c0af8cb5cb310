"""A page in Chromium, with its charts drawn; its messages and requests are noted."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("VAEBENCH_CHROMIUM") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """A page after its charts are drawn; fails on any console message or request."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    noticed: list[str] = []
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.on("request", lambda request: noticed.append(request.url[:80]))
    page.goto(path.as_uri())
    charts = page.locator("[data-chart]").count()
    page.wait_for_function(f"document.querySelectorAll('.plot svg').length >= {charts}")
    page.wait_for_timeout(200)
    yield page
    assert [text for text in noticed if not text.startswith(("data:", path.as_uri()))] == []
    page.close()
