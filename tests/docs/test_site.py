"""The site as it is built, in real headless Chromium: what a reader sees and does."""

import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock

from btc_datamodule.cli import main
from tests.browser import find, list_requests, show, take_picture
from tests.docs.pages import DOCS

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PATIENCE = 60.0
"""Seconds that a page may take on a busy machine."""

for tool in ("zensical", "mkdocstrings"):
    if find_spec(tool) is None:
        pytest.skip(f"there is no {tool}: pip install -e '.[docs]'", allow_module_level=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built once, whichever worker of a run asks first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            into = ["--output", str(folder), "--pages", f"{folder}-pages"]
            build = [sys.executable, str(DOCS / "build.py"), *into]
            built = subprocess.run(build, capture_output=True, text=True, check=False)
            assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where a server on this machine gives the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(browser: "Chrome", address: str) -> "Chrome":
    """The browser with the first page open, a screen wide, in the light."""
    show(browser, width=1400, scheme="light")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    return browser


def wait_for(condition: Callable[[], Any]) -> Any:
    """What a condition gives as soon as it is something."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "waited for in vain"
        time.sleep(0.05)
    return found


def test_every_page_opens_on_a_phone_without_a_word_a_request_or_scrolling_sideways(
    opened: "Chrome", address: str, site: Path
) -> None:
    show(opened, width=400, scheme="dark")
    pages = [path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")]
    assert len(pages) > 40
    for page in sorted(pages):
        opened.get(f"{address}{page}/")
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 400, page
        assert opened.get_log("browser") == [], page
    urls = list_requests(opened)
    assert len(urls) > len(pages)
    assert [url for url in urls if not url.startswith((address, "data:", "blob:"))] == []


def test_the_start_shows_a_picture(opened: "Chrome") -> None:
    picture = take_picture(opened, "article img")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert picture.std() > 20


def test_it_is_light_or_dark_as_the_system_is(opened: "Chrome", address: str) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        show(opened, width=1400, scheme=scheme)
        opened.get(address)
        script = "return getComputedStyle(document.body).backgroundColor"
        grounds[scheme] = [int(part) for part in re.findall(r"\d+", opened.execute_script(script))]
    assert min(grounds["light"][:3]) > 200
    assert max(grounds["dark"][:3]) < 60


def test_a_search_finds_a_page(opened: "Chrome") -> None:
    wait_for(lambda: opened.execute_script("return document.readyState") == "complete")
    find(opened, ".md-search__button").click()
    in_search = (
        "const host = [...document.querySelectorAll('*')].find(each => each.shadowRoot);"
        "return host && host.shadowRoot.querySelector(arguments[0])"
    )
    wait_for(lambda: opened.execute_script(in_search, "input")).send_keys("purge and embargo")
    first = wait_for(lambda: opened.execute_script(in_search, "a[role=option]"))
    assert "/evaluation/" in first.get_attribute("href")
    opened.get(first.get_attribute("href"))
    assert find(opened, "h1").text.startswith("Evaluation")


def test_a_name_in_the_reference_leads_to_what_it_names(opened: "Chrome", address: str) -> None:
    opened.get(f"{address}reference/datamodule/")
    heading = find(opened, "[id='btc_datamodule.BTCDataModule']")
    assert "btc_datamodule.BTCDataModule" in heading.text
    link = find(opened, "article li a[href$='#btc_datamodule.Source']")
    opened.get(link.get_attribute("href"))
    assert opened.current_url.startswith(f"{address}reference/sources/#")
    assert "btc_datamodule.Source" in find(opened, ":target").text


def test_every_public_class_and_function_is_described(site: Path) -> None:
    index = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    pages: dict[str, str] = {}
    for page, name in re.findall(r"\]\((\w+)\.md#([\w.]+)\)", index):
        module, own = name.rsplit(".", 1)
        thing = getattr(import_module(module), own)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        if page not in pages:
            built = site / "reference" / page / "index.html"
            pages[page] = read_text(built.read_text(encoding="utf-8"))
        first = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("`", "")
        assert " ".join(first.split()) in pages[page], name
    assert "bars between the last input bar and the first target bar." in pages["datamodule"]


def test_sources_are_shown_without_what_only_the_datamodule_calls(site: Path) -> None:
    page = (site / "reference" / "sources" / "index.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="btc_datamodule\.(\w+\.\w+)"', page))
    assert {
        each for each in shown if re.search(r"\.(blocks|hurry|manners|check_interval)$", each)
    } == {
        *("Source.blocks", "Source.hurry", "Source.check_interval"),
        *("RecordSource.blocks", "RecordSource.hurry"),
    }


def read_text(page: str) -> str:
    """The words of a page of HTML."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page)).split())


def test_code_of_the_start_is_seen_whole_and_what_is_printed_is_no_box(opened: "Chrome") -> None:
    show(opened, width=1280, scheme="light")
    script = "return [...document.querySelectorAll('pre code')].map(each => each.%s)"
    wide = opened.execute_script(script % "scrollWidth - each.clientWidth")
    assert wide == [0] * len(wide) != []
    ground = "return getComputedStyle(document.querySelector('%s pre > code')).backgroundColor"
    printed = opened.execute_script(ground % ".language-text")
    assert printed != opened.execute_script(ground % ".language-python")


def test_a_picture_is_dark_in_the_dark_and_leads_to_itself_in_full(opened: "Chrome") -> None:
    light = take_picture(opened, "article img").mean()
    show(opened, width=1400, scheme="dark")
    assert light > 200
    wait_for(lambda: take_picture(opened, "article img").mean() < 100)
    opened.get(find(opened, "article a:has(> img)").get_attribute("href"))
    assert opened.current_url.endswith("/pictures.png")
    assert find(opened, "img").get_property("naturalWidth") > 800


def test_the_page_of_commands_has_every_command_and_its_options(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--help"])
    commands = re.findall(r"^  ([\w-]+)  +\S", capsys.readouterr().out, re.MULTILINE)
    page = (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert "prepare" in commands
    assert re.findall(r'<h2 id="([\w-]+)">', page) == commands
    assert "--forecasts FORECASTS" in page
    assert "--ckpt_path CKPT_PATH" in page
    assert not re.search(r"_choose_|lr_scheduler\.\w+LR\b|--&gt;", page)


def test_what_lies_outside_of_the_pages_is_a_page_when_it_is_linked(site: Path) -> None:
    for path in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        name = path.removesuffix(".md").replace("README", "readme")
        assert (site / "repository" / name / "index.html").is_file()
    shown = site / "repository" / "configs" / "covariates.yaml" / "index.html"
    assert "btc_datamodule.Resampled" in re.sub(r"<[^>]+>", "", shown.read_text(encoding="utf-8"))
