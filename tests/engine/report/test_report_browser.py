"""The pages in a real browser, opened from disk: they load, sort, switch theme, draw, and ask no network for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import synthetic
from module_records import module_records

from aieng_bench import registry
from aieng_bench.report import write
from aieng_bench.report.module import module_page
from aieng_bench.report.page import assets, module_html

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.browser

TEXTS = ("body", ".muted", ".detail", ".kind.ours", ".kind.baseline", "td.good", "td.bad", ".status.bad", ".status.warn", "a")


def prefer(driver: Chrome, scheme: str) -> None:
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


@pytest.fixture
def chrome(driver: Chrome) -> Iterator[Chrome]:
    """The browser as a new visitor has it: light, wide, nothing stored, empty logs."""
    driver.get("about:blank")
    prefer(driver, "light")
    driver.get_log("browser")
    driver.get_log("performance")
    yield driver
    driver.execute_script("localStorage.clear()")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def load(chrome: Chrome, file: Path) -> None:
    """Open a page; a busy browser comes back from ``get`` before it has all of it."""
    from selenium.webdriver.support.wait import WebDriverWait

    chrome.get(file.as_uri())
    WebDriverWait(chrome, 60).until(lambda _: chrome.execute_script("return document.readyState") == "complete")


def see(chrome: Chrome, element: WebElement, ready: str) -> None:
    """Scroll to an element, which the page makes ready when it comes into sight."""
    from selenium.webdriver.support.wait import WebDriverWait

    chrome.execute_script("arguments[0].scrollIntoView()", element)
    WebDriverWait(chrome, 60).until(lambda _: element.find_elements("css selector", ready))


def see_plots(chrome: Chrome) -> list[WebElement]:
    figures = chrome.find_elements("css selector", "figure[data-plot]")
    for figure in figures:
        see(chrome, figure, ".scatterlayer .point path, .scatterlayer path.point")
    return figures


def requested(chrome: Chrome) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def pages(site: Path, results: Path) -> list[Path]:
    return [*site.glob("*.html"), *results.glob("*.html")]


def test_pages_load_in_silence_and_from_disk_alone(chrome: Chrome, site: Path, results: Path) -> None:
    found = pages(site, results)
    assert len(found) == 4
    for file in found:
        load(chrome, file)
        assert chrome.get_log("browser") == []
        urls = requested(chrome)
        assert file.as_uri() in urls
        assert all(url.startswith(f"file://{file.parent}/") or url == "data:," for url in urls), urls


def test_the_policy_stops_what_a_page_might_ask_for(chrome: Chrome, site: Path) -> None:
    """The log would show a request or an injected script, so its silence above means something."""
    load(chrome, site / "index.html")
    chrome.execute_script("const i = new Image(); i.src = 'https://example.invalid/x.png'; document.body.append(i)")
    chrome.execute_script("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
    assert chrome.execute_script("return window.ran") is None
    messages = " ".join(entry["message"] for entry in chrome.get_log("browser"))
    assert "img-src" in messages
    assert "script-src" in messages


def board(chrome: Chrome) -> WebElement:
    """The table in which everything goes wrong, come into sight: ranked rows above, the others below."""
    table = next(
        t for t in chrome.find_elements("css selector", "table.board") if "N=524288" in (t.get_attribute("outerHTML") or "")
    )
    see(chrome, table, "thead th button")
    return table


def column(table: WebElement, number: int) -> list[str]:
    return [
        row.find_element("css selector", f":scope > *:nth-child({number})").text
        for row in table.find_elements("css selector", "tbody tr")
    ]


def test_a_click_on_a_header_sorts(chrome: Chrome, site: Path) -> None:
    load(chrome, site / "index.html")
    table = board(chrome)
    before = column(table, 1)
    assert before[:4] == ["1", "2", "3", "–"]
    rank = table.find_element("css selector", "thead th button")
    rank.click()
    assert column(table, 1) == before
    rank.click()
    assert column(table, 1) == ["3", "2", "1", *before[3:]], "cells without a value stay at the bottom"
    assert table.find_element("css selector", "thead th").get_attribute("aria-sort") == "descending"
    name = table.find_elements("css selector", "thead th button")[1]
    name.click()
    names = column(table, 2)
    assert names.index("cpu_avx512\nours") < names.index("diffusers\nbaseline diffusers 0.42.1")
    assert table.find_element("css selector", "thead th").get_attribute("aria-sort") is None


def test_the_keyboard_sorts_too(chrome: Chrome, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    load(chrome, site / "index.html")
    table = board(chrome)
    latency = table.find_elements("css selector", "thead th button")[2]
    latency.send_keys(Keys.ENTER)
    latency.send_keys(Keys.ENTER)
    assert column(table, 1)[:3] == ["3", "2", "1"]


def ground(chrome: Chrome) -> str:
    return str(chrome.execute_script("return getComputedStyle(document.body).backgroundColor"))


def ink(chrome: Chrome) -> str:
    see_plots(chrome)
    script = "return getComputedStyle(document.querySelector('.xtick text, .ytick text')).fill"
    return str(chrome.execute_script(script))


def test_light_and_dark_differ_on_page_and_plots(chrome: Chrome, site: Path) -> None:
    load(chrome, site / "index.html")
    light = ground(chrome), ink(chrome)
    prefer(chrome, "dark")
    load(chrome, site / "index.html")
    dark = ground(chrome), ink(chrome)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    chrome.find_element("id", "theme").click()
    assert (ground(chrome), ink(chrome)) == light, "the button overrides the system"
    load(chrome, site / "index.html")
    assert (ground(chrome), ink(chrome)) == light, "and is remembered"


def contrast(chrome: Chrome, selector: str) -> float:
    """WCAG contrast of the first such element's text on the ground it is painted on."""
    script = """
      const element = document.querySelector(arguments[0]);
      let ground = element;
      while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
      const light = (css) => css.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const both = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)].sort((a, b) => b - a);
      return (both[0] + 0.05) / (both[1] + 0.05);
    """
    return float(chrome.execute_script(script, selector))


def test_text_has_contrast(chrome: Chrome, site: Path) -> None:
    for scheme in ("light", "dark"):
        prefer(chrome, scheme)
        load(chrome, site / "index.html")
        for selector in TEXTS:
            assert contrast(chrome, selector) >= 4.5, selector


def test_plots_are_drawn(chrome: Chrome, site: Path) -> None:
    load(chrome, site / "index.html")
    assert not chrome.find_elements("css selector", "#roofline ~ figure .scatterlayer"), "not before it is seen"
    assert len(see_plots(chrome)) == 3, "speed-ups of attention, the study's trade-off, the roofline"
    assert chrome.find_elements("css selector", ".errorbar path")


def test_plots_show_hostile_names_as_they_are_written(chrome: Chrome, tmp_path: Path) -> None:
    write(synthetic.under_hostile_names(), tmp_path, "Hostile")
    load(chrome, tmp_path / "index.html")
    see_plots(chrome)
    shown = {text.get_attribute("textContent") for text in chrome.find_elements("css selector", "text.legendtext")}
    for name in synthetic.HOSTILE[:3]:
        assert any((text or "").startswith(name) for text in shown), name
    assert chrome.find_elements("css selector", "figure a, figure img, figure script:not([type='application/json'])") == []
    assert chrome.get_log("browser") == []


def width(chrome: Chrome) -> dict[str, Any]:
    script = "return {page: document.documentElement.scrollWidth, window: innerWidth}"
    return dict(chrome.execute_script(script))


def test_a_narrow_screen_scrolls_tables_not_the_page(chrome: Chrome, site: Path, results: Path) -> None:
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    for file in pages(site, results):
        load(chrome, file)
        found = width(chrome)
        assert found["page"] <= found["window"] == 400


def test_the_report_of_a_suite_loads_in_silence_and_draws(chrome: Chrome, tmp_path: Path) -> None:
    """Curves, bubbles, matrices and small pictures, the last from the page itself."""
    page = module_page(module_records(), registry.module("vision"))
    for name, text in {**assets(), "vision.html": module_html(page)}.items():
        (tmp_path / name).write_text(text)
    load(chrome, tmp_path / "vision.html")
    figures = chrome.find_elements("css selector", "figure[data-plot]")
    for figure in figures:
        see(chrome, figure, ".scatterlayer path.point, .heatmaplayer .hm")
    assert len(figures) == 2 * (2 + 2) + 1, "of each study, and the differences"
    images = chrome.find_elements("css selector", ".gallery img")
    widths = {chrome.execute_script("return arguments[0].naturalWidth", image) for image in images}
    assert (len(images), widths) == (3 * 2 * 3, {8})
    assert chrome.get_log("browser") == []
    assert all(url.startswith(("file://", "data:")) for url in requested(chrome))
