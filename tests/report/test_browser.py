"""The page in a browser: sort, filter, toggle, select and hover, without a message or a request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import chromium, needs_chromium, opened
from synthetic import cells, decoder, fill, record

from vaebench.report.report import write_report

pytestmark = [needs_chromium, pytest.mark.slow]
SWEEPS = [{"likelihood": "gaussian", "sigma": 0.1}, {"likelihood": "laplace", "sigma": "learned"}]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = cells(SWEEPS, sizes=[2, 4, 16], seeds=2)
    store = fill(tmp_path_factory.mktemp("results") / "sweep", map(record, made))
    return write_report(store, tmp_path_factory.mktemp("reports") / "sweep")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    with opened(browser, report) as shown:
        yield shown


def column(table: Any, place: int) -> list[str]:
    cells = table.locator(f"tbody tr:not([hidden]) td:nth-child({place + 1})")
    return [text.split("±")[0].strip().replace("−", "-") for text in cells.all_inner_texts()]


def results(page: Any) -> Any:
    return page.locator("#results table.data").first


def test_tables_sort_by_number_and_back(page: Any) -> None:
    table = results(page)
    heads = table.locator("thead th").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.startswith("ELBO"))
    button = table.locator("thead th button").nth(place)
    button.click()
    rising = [float(text) for text in column(table, place)]
    assert rising == sorted(rising)
    assert len(rising) == 6
    assert table.locator("thead th").nth(place).get_attribute("aria-sort") == "ascending"
    button.click()
    assert [float(text) for text in column(table, place)] == rising[::-1]


def test_tables_filter_by_words(page: Any) -> None:
    table = results(page)
    page.locator("#results input[type=search]").first.fill("laplace")
    assert set(column(table, 0)) == {"laplace"}
    assert "3 of 6 rows" in page.locator("#results .count").first.inner_text()
    page.locator("#results input[type=search]").first.fill("")
    assert len(column(table, 0)) == 6


def test_columns_that_do_not_differ_are_hidden_and_come_back(page: Any) -> None:
    table = results(page)
    button = page.locator("#results .columns").first
    seeds = table.locator("thead th", has_text="seeds")
    assert not seeds.is_visible()
    button.click()
    assert seeds.is_visible()


def test_the_first_column_stays_in_view(page: Any) -> None:
    page.set_viewport_size({"width": 500, "height": 800})
    box = results(page).locator("xpath=..")
    box.evaluate("node => { node.scrollLeft = 200; }")
    first = results(page).locator("tbody tr td").first.bounding_box()
    assert first["x"] - box.bounding_box()["x"] < 3


def marks(page: Any, chart: str) -> int:
    return page.locator(f"[data-chart^='{chart}'] .mark-symbol path").count()


def test_the_legend_hides_a_family_in_every_chart(page: Any) -> None:
    before = {name: marks(page, name) for name in ("elbo-by-latent-dim", "rate-distortion")}
    assert before == {"elbo-by-latent-dim": 6, "rate-distortion": 6}
    button = page.locator("figure[id^='elbo-by-latent-dim'] .legend button").first
    button.click()
    page.wait_for_timeout(300)
    assert {name: marks(page, name) for name in before} == dict.fromkeys(before, 3)
    pressed = page.locator("figure[id^='rate-distortion'] .legend button[aria-pressed=false]")
    assert pressed.count() == 1
    button.click()
    page.wait_for_timeout(300)
    assert {name: marks(page, name) for name in before} == before


def test_a_design_is_selected_in_every_chart_and_table(page: Any) -> None:
    row = results(page).locator("tbody tr[data-design]").first
    name = row.get_attribute("data-design")
    row.click()
    page.wait_for_timeout(300)
    assert page.locator("#selected span").inner_text() == name
    assert page.locator(f"tr.selected[data-design='{name}']").count() >= 2
    faded = page.locator("[data-chart^='rate-distortion'] .mark-symbol path[opacity='0.12']")
    assert faded.count() == 5
    page.locator("#selected button").click()
    assert not page.locator("#selected").is_visible()


def test_the_axes_of_the_plane_can_be_chosen(page: Any) -> None:
    figure = page.locator("figure[id^='rate-distortion']")
    assert "rate (KL)" in figure.locator(".plot svg").text_content()
    figure.locator("select").nth(1).select_option("mse")
    page.wait_for_timeout(500)
    assert "mean squared error" in figure.locator(".plot svg").text_content()
    assert marks(page, "rate-distortion") == 6


def test_a_point_shows_the_settings_and_numbers_of_its_design(page: Any) -> None:
    page.locator("[data-chart^='elbo-by-latent-dim'] .mark-symbol path").first.hover()
    text = page.locator("#tip").inner_text()
    assert "gaussian, σ 0.1, z 2" in text
    assert "ELBO [nats/image]" in text


def test_a_point_of_a_map_shows_its_image_and_reconstruction(page: Any) -> None:
    page.locator("[data-chart^='tsne'] .mark-symbol path").last.hover(force=True)
    page.wait_for_timeout(200)
    assert page.locator("#tip").is_visible()
    assert page.locator("#tip .thumb").count() == 2
    titles = [page.locator("#tip .thumb").nth(i).get_attribute("title") for i in range(2)]
    assert titles == ["image", "reconstruction"]


def decoded(arrays: dict[str, Any], code: list[float]) -> Any:
    """The same network in numpy, as grey levels (8, 8)."""
    hidden = np.array(code)
    for i in range(2):
        weight = arrays[f"decoder_weight_{i}"] * arrays[f"decoder_scale_{i}"].astype(np.float64)
        hidden = weight @ hidden + arrays[f"decoder_bias_{i}"]
        hidden = np.maximum(hidden, 0) if i == 0 else 1 / (1 + np.exp(-hidden))
    return np.round(255 * hidden).reshape(8, 8)


def test_two_sliders_decode_in_the_page(page: Any) -> None:
    """Against the same weights in numpy."""
    arrays = decoder(cells(SWEEPS, sizes=[2], seeds=1)[0])
    for code in ([0.0, 0.0], [1.5, -2.0], [-2.5, 0.75]):
        for place, value in enumerate(code):
            page.locator("#decoder input").nth(place).fill(str(value))
        levels = page.evaluate(
            "() => { const c = document.querySelector('#decoder canvas');"
            "return [...c.getContext('2d').getImageData(0, 0, 8, 8).data]; }"
        )
        shown = np.array(levels).reshape(8, 8, 4)
        np.testing.assert_allclose(shown[..., 0], decoded(arrays, code), atol=1.0)
        assert (shown[..., 0] == shown[..., 2]).all()
        assert (shown[..., 3] == 255).all()


@pytest.mark.parametrize("width", [390, 800, 1920])
def test_nothing_is_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
