"""The committed pages in a browser: accessible, legible at every width, and printed in full.

`pytest -m exhaustive tests/report/test_committed_pages.py` takes screenshots at four widths, light
and dark; otherwise there are two of each page. They are kept in the folder VAEBENCH_SCREENSHOTS.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from browsing import chromium, needs_chromium, opened

from vaebench.records.store import Store

pytestmark = [needs_chromium, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports" / "reference"
PAGES = sorted(REPORTS.glob("*/*.html"))
NAMES = [page.parent.name for page in PAGES]
SCHEMES = ("light", "dark")
WIDTHS = (390, 800, 1280, 1920)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_axe_finds_no_violation(browser: Any, path: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(browser, path, scheme=scheme) as page:
        found = axe.Axe().run(page).response["violations"]
    told = [
        f"{each['id']}: {each['help']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found
        for node in each["nodes"][:5]
    ]
    assert not told, "\n".join(told)


def screenshot(page: Any, name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def legible(page: Any, width: int) -> None:
    """Nothing is wider than the window, and every chart has marks."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    marks = "['path', 'line'].map(tag => `.plot svg [class*=mark-] ${tag}`).join()"
    empty = page.evaluate(
        f"[...document.querySelectorAll('[data-chart]')].filter(c => !c.querySelector({marks}))"
        ".map(chart => chart.dataset.chart)"
    )
    assert empty == []


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("VAEBENCH_SCREENSHOTS", tmp_path))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_two_screenshots(browser: Any, path: Path, width: int, scheme: str, shots: Path) -> None:
    with opened(browser, path, width, scheme) as page:
        legible(page, width)
        screenshot(page, f"{path.parent.name}-{width}-{scheme}", shots)


@pytest.mark.exhaustive
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_all_screenshots(browser: Any, path: Path, width: int, scheme: str, shots: Path) -> None:
    with opened(browser, path, width, scheme) as page:
        legible(page, width)
        screenshot(page, f"{path.parent.name}-{width}-{scheme}", shots)


EXPLORED = ("quick", "mnist-latent-dim")
"""Reports whose records keep a decoder and the images of their maps."""


@pytest.mark.parametrize("name", EXPLORED)
def test_a_point_of_a_committed_map_shows_its_images(browser: Any, name: str) -> None:
    with opened(browser, REPORTS / name / "index.html") as page:
        maps = page.locator("[data-chart^='tsne']")
        assert maps.count() >= 8
        # Points with images are drawn last, on top of the others.
        maps.first.locator(".mark-symbol path").last.hover(force=True)
        page.wait_for_timeout(200)
        thumbs = page.locator("#tip .thumb")
        assert [thumbs.nth(i).get_attribute("title") for i in range(thumbs.count())] == [
            "image",
            "reconstruction",
        ]
        assert all("data:image/png" in each.evaluate(IMAGE_OF) for each in thumbs.all())


IMAGE_OF = "node => getComputedStyle(node).backgroundImage"


@pytest.mark.parametrize(("name", "side"), [("quick", 8), ("mnist-latent-dim", 28)])
def test_the_sliders_of_a_committed_page_decode(browser: Any, name: str, side: int) -> None:
    """Against the traversal of the same record, which the whole decoder made."""
    store = Store(ROOT / "results" / "reference" / name)
    found = []
    for record in store.read_all()[0]:
        kept = store.arrays(record.cell_id)
        if "decoder_kind" in kept:
            found.append((record.metrics["elbo"].value, record.cell_id, kept))
    kept = max(found)[2]
    order = np.argsort(-kept["kl_per_dimension"])
    # The sliders move in steps of 0.05.
    steps = [round(20 * NormalDist().inv_cdf((i + 0.5) / 8)) / 20 for i in range(8)]
    with opened(browser, REPORTS / name / "index.html") as page:
        for i, j in ((0, 0), (2, 6), (7, 3)):
            for place, step in zip(order, (i, j), strict=True):
                page.locator("#decoder input").nth(int(place)).fill(f"{steps[step]:g}")
            levels = page.evaluate(
                "side => { const canvas = document.querySelector('#decoder canvas');"
                "return [...canvas.getContext('2d').getImageData(0, 0, side, side).data]; }",
                side,
            )
            shown = np.array(levels).reshape(side, side, 4)[..., 0]
            expected = kept["traversal"][i, j].astype(float)
            assert np.abs(shown - expected).mean() < 0.02 * 255
            assert np.ptp(expected) > 100, "an empty image would prove nothing"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_print_has_no_half_empty_page(browser: Any, path: Path, tmp_path: Path) -> None:
    """But for the last one; the share is that from the top to the last line with ink."""
    pdfium = pytest.importorskip("pypdfium2")
    with opened(browser, path) as page:
        page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    document = pdfium.PdfDocument(tmp_path / "page.pdf")
    filled = []
    for sheet in document:
        pixels = np.asarray(sheet.render(scale=0.5, grayscale=True).to_numpy()).squeeze()
        inked = np.flatnonzero((pixels < 200).any(axis=1))
        filled.append(0.0 if not len(inked) else float(inked[-1] + 1) / len(pixels))
    document.close()
    assert len(filled) > 0
    assert min(filled[:-1], default=1.0) > 0.5, [round(share, 2) for share in filled]
