"""The report in real headless Chromium: what a person sees and does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.report import page as page_module
from tests.browser import find, find_all, list_requests, show, take_picture
from tests.report.conftest import HOSTILE

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Command = Callable[..., Any]


@pytest.fixture
def opened(browser: "Chrome", report: Path) -> "Chrome":
    """The browser with the report open, a screen wide, in the light."""
    show(browser, width=1200, scheme="light")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(report.as_uri())
    return browser


@contextmanager
def without_scripts(chrome: "Chrome") -> Iterator[None]:
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        yield
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def press(chrome: "Chrome", act: str) -> None:
    find(chrome, f"[data-act={act}]").click()


def get_view(chrome: "Chrome") -> tuple[int, int]:
    """From when to when the chart shows."""
    chart = find(chrome, "#price-chart")
    return int(chart.get_attribute("data-from")), int(chart.get_attribute("data-to"))


def count_near(picture: NDArray[np.uint8], colour: str) -> int:
    """Pixels of about this colour."""
    wanted = np.array([*bytes.fromhex(colour.removeprefix("#"))])
    distance = np.abs(picture.astype(np.int64) - wanted).max(axis=2)
    return int((distance < 12).sum())


def get_ground(chrome: "Chrome") -> str:
    script = "return getComputedStyle(document.documentElement).backgroundColor"
    return str(chrome.execute_script(script))


def test_it_opens_without_a_word_and_without_a_request(opened: "Chrome", report: Path) -> None:
    urls = list_requests(opened)
    assert report.as_uri() in urls
    assert [url for url in urls if not url.startswith(("data:", report.as_uri()))] == []
    assert opened.get_log("browser") == []


def test_the_chart_shows_the_price_and_the_stages(opened: "Chrome") -> None:
    picture = take_picture(opened, "#price-chart canvas")
    assert count_near(picture, "#222222") > 500  # the price
    for stage in ("#0072b2", "#e69f00", "#009e73"):
        assert count_near(picture, stage) > 50
    assert count_near(picture, "#d55e00") > 10  # outages


def test_zoom_goes_from_all_down_to_single_bars_and_back(opened: "Chrome") -> None:
    first, last = get_view(opened)
    press(opened, "in")
    low, high = get_view(opened)
    assert high - low == pytest.approx((last - first) / 2, abs=7200)
    press(opened, "back")
    assert get_view(opened)[0] < low
    for _ in range(9):
        press(opened, "in")
    low, high = get_view(opened)
    assert (high - low) // 3600 == 12
    assert find(opened, "#price-chart").get_attribute("data-kind") == "bars"
    assert "bar by bar" in find(opened, "#price-scale").text
    inner = take_picture(opened, "#price-chart canvas")[30:-80]  # between the strips
    assert count_near(inner, "#009e73") + count_near(inner, "#d55e00") > 1000  # candles
    press(opened, "all")
    assert get_view(opened) == (first, last)


@pytest.mark.parametrize(
    ("prices", "texts"),
    [
        ([6.95e-9, 7e-9, 7.05e-9], ["6.95e-9", "7e-9", "7.05e-9"]),
        ([1e-5, 3e-5, 1e-4], ["1e-5", "3e-5", "0.0001"]),
        ([0.058, 0.06], ["0.058", "0.06"]),
        ([9320, 9340, 10_000], ["9,320", "9,340", "10,000"]),
        ([1e9, 1.000002e9], ["1,000,000,000", "1,000,002,000"]),
    ],
)
def test_marks_of_prices_of_any_size_can_be_told_apart(
    opened: "Chrome", prices: list[float], texts: list[str]
) -> None:
    script = (Path(page_module.__file__).parent / "assets" / "page.js").read_text()
    own = script[script.index("  const writePrice =") : script.index("  // Marks of the price")]
    assert opened.execute_script(f"{own} return writePrices(arguments[0])", prices) == texts


def test_dragging_zooms_a_double_click_shows_all_and_the_pointer_reads_prices(
    opened: "Chrome",
) -> None:
    from selenium.webdriver import ActionChains

    first, last = get_view(opened)
    area = find(opened, "#price-chart .u-over")
    moves = ActionChains(opened).move_to_element_with_offset(area, -100, 0).click_and_hold()
    moves.move_by_offset(200, 0).release().perform()
    low, high = get_view(opened)
    share = 200 / area.size["width"]
    assert (high - low) / (last - first) == pytest.approx(share, rel=0.05)
    ActionChains(opened).move_to_element(area).perform()
    told = find(opened, "#price-told").text
    assert told.startswith("2021-")
    assert "open" in told
    assert "close" in told
    ActionChains(opened).double_click(area).perform()
    assert get_view(opened) == (first, last)


def test_keys_move_the_chart(opened: "Chrome") -> None:
    from selenium.webdriver import Keys

    first, last = get_view(opened)
    chart = find(opened, "#price-chart")
    chart.send_keys("+")
    low, high = get_view(opened)
    chart.send_keys(Keys.ARROW_RIGHT)
    assert get_view(opened)[0] > low
    chart.send_keys(Keys.HOME)
    assert get_view(opened) == (first, last)
    assert high - low < last - first


def test_a_place_that_is_chosen_is_shown_bar_by_bar(opened: "Chrome") -> None:
    from selenium.webdriver.support.ui import Select

    places = Select(find(opened, "#price-jump"))
    (number,) = [
        number for number, each in enumerate(places.options) if each.text.endswith("test begins")
    ]
    places.select_by_index(number)
    day = places.options[number].text[:16].replace(" ", "T")
    low, high = get_view(opened)
    assert low < parse_instant(day) < high
    assert (high - low) // 3600 == 120
    assert "bar by bar" in find(opened, "#price-scale").text
    assert find(opened, "#price-chart").get_attribute("data-kind") == "bars"


def test_the_stepper_shows_one_window_after_the_other(opened: "Chrome") -> None:
    def list_shown() -> list[str]:
        samples = find_all(opened, "#samples .sample")
        return [
            each.find_element("css selector", "summary").text
            for each in samples
            if each.is_displayed()
        ]

    total = len(find_all(opened, "#samples .sample"))
    seen = []
    for number in range(3):
        assert find(opened, "#sample-count").text == f"{number + 1} of {total}"
        (shown,) = list_shown()
        seen.append(shown)
        find(opened, "#sample-on").click()
    assert len({*seen}) == 3
    for _ in range(4):
        find(opened, "#sample-back").click()
    assert find(opened, "#sample-count").text == f"{total} of {total}"
    (shown,) = list_shown()
    assert shown.startswith("test: ")


def test_the_theme_is_that_of_the_system_until_it_is_switched(opened: "Chrome") -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(22, 24, 29)"
    switch = find(opened, "#theme")
    assert (switch.text, get_ground(opened)) == ("Theme: auto", light)
    show(opened, width=1200, scheme="dark")
    assert get_ground(opened) == dark
    picture = take_picture(opened, "#price-chart")
    assert count_near(picture, "#16181d") > picture.shape[0] * picture.shape[1] // 4
    assert count_near(picture, "#e6e6e6") > 500  # the price
    switch.click()
    assert (switch.text, get_ground(opened)) == ("Theme: light", light)
    picture = take_picture(opened, "#price-chart canvas")
    assert count_near(picture, "#222222") > 500
    show(opened, width=1200, scheme="light")
    switch.click()
    assert (switch.text, get_ground(opened)) == ("Theme: dark", dark)


@pytest.mark.parametrize("width", [360, 1200])
def test_it_never_scrolls_sideways_and_no_words_are_tiny(opened: "Chrome", width: int) -> None:
    show(opened, width=width, scheme="light")
    opened.refresh()
    size = """const { scrollWidth, clientWidth } = document.documentElement;
        return [innerWidth, scrollWidth - clientWidth]"""
    assert opened.execute_script(size) == [width, 0]
    least = """return Math.min(...[...document.querySelectorAll("body *")]
        .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
        .map((e) => parseFloat(getComputedStyle(e).fontSize)))"""
    assert opened.execute_script(least) >= 10
    chart = find(opened, "#price-chart canvas")
    assert chart.size["width"] <= width


def test_marks_of_an_axis_do_not_overlap(opened: "Chrome") -> None:
    script = """return [...document.querySelectorAll(".x-ticks")].flatMap((axis) => {
        const boxes = [...axis.children].map((e) => e.getBoundingClientRect())
            .filter((box) => box.width);
        return boxes.slice(1).map((box, i) => box.left - boxes[i].right);
    })"""
    for width in (360, 1200):
        show(opened, width=width, scheme="light")
        opened.refresh()
        between = opened.execute_script(script)
        assert len(between) > 20
        assert min(between) > 0


def test_without_scripts_there_are_pictures_of_all(browser: "Chrome", report: Path) -> None:
    show(browser, width=1200, scheme="light")
    with without_scripts(browser):
        browser.get(report.as_uri())
        picture = take_picture(browser, "#prices svg")
        assert count_near(picture, "#222222") > 500
        assert not find(browser, "#theme").is_displayed()
        assert not find(browser, "#price-chart").is_displayed()
        summaries = find_all(browser, "#samples summary")
        assert len(summaries) > 10
        assert all(each.is_displayed() for each in summaries)
        for place in ("holes", "features", "targets", "samples", "forecasts", "folds"):
            assert find(browser, f"#{place} svg").size["height"] > 40


def test_in_print_the_still_picture_stands_for_the_chart(opened: "Chrome") -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert find(opened, "#prices svg").is_displayed()
        assert not find(opened, "#price-chart").is_displayed()
        assert not find(opened, "nav").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_hostile_name_is_text(opened: "Chrome") -> None:
    assert opened.title != "taken"
    assert opened.execute_script("return document.scripts.length") == 3
    assert opened.execute_script("return document.querySelectorAll('img').length") == 0
    told = find(opened, "#forecasts table").get_attribute("textContent")
    assert HOSTILE in told


def test_the_policy_stops_scripts_and_requests_that_are_not_its_own(opened: "Chrome") -> None:
    made = """const added = document.createElement("script");
        added.textContent = "document.title = 'taken'";
        document.body.append(added);
        return fetch("data:text/plain,x").then(() => "asked", () => "refused")"""
    assert opened.execute_script(made) == "refused"
    assert opened.title != "taken"
    told = [each["message"] for each in opened.get_log("browser")]
    assert any("Content Security Policy" in each for each in told)
