"""The page as a whole: everything is on it, it is safe, the same each time, and small."""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_datamodule import BTCDataModule, ConfigError
from btc_datamodule.evaluation.splits import CombinatorialPurged
from btc_datamodule.report import page as page_module
from btc_datamodule.report.alerts import Alert, list_alerts
from btc_datamodule.report.facts import Facts, gather_facts
from btc_datamodule.report.html import VOID
from btc_datamodule.report.page import MOST_BYTES, SECTIONS, make_page, write_report
from tests.factories import make_datamodule
from tests.report.conftest import HOSTILE

UPLOT = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
"""SHA-256 of dist/uPlot.iife.min.js of uPlot 1.6.32."""


class Reader(HTMLParser):
    """Elements of a page, and whether each that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open[-1:] == ["script"] else self.words).append(data)

    def find(self, name: str) -> Iterator[dict[str, Any]]:
        return (attributes for tag, attributes in self.elements if tag == name)


def test_every_section_is_there_and_every_element_is_closed(page: str) -> None:
    reader = Reader(page)
    assert reader.open == []
    sections = [each["id"] for each in reader.find("section")]
    assert sections == list(SECTIONS)
    ids = [attributes["id"] for _, attributes in reader.elements if attributes.get("id")]
    assert len(ids) == len({*ids}) or {x for x in ids if ids.count(x) > 1} <= {"hatch-purge"}
    targets = {each["href"].removeprefix("#") for each in reader.find("a")}
    assert targets <= {*ids}


def test_nothing_in_it_is_fetched(page: str) -> None:
    reader = Reader(page)
    for name, attributes in reader.elements:
        for key in ("src", "href", "action", "data", "poster"):
            value = attributes.get(key) or ""
            assert value.startswith(("#", "data:image/png;base64,")) or not value, (name, key)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_its_policy_lets_only_its_own_scripts_run(page: str) -> None:
    reader = Reader(page)
    (policy,) = [
        each["content"]
        for each in reader.find("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    code = [each for each in reader.scripts if not each.startswith("{")]
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in code]
    assert re.findall(r"'sha256-([^']*)'", policy) == digests
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


def test_hostile_text_is_text_wherever_it_comes_from(facts: Facts) -> None:
    name = HOSTILE
    classes = tuple(replace(each, counts=np.array([1, 2])) for each in facts.labels.stages)
    taken = replace(
        facts,
        market=facts.market._replace(name=name, place=name, quote=name),
        features=tuple(replace(each, name=name) for each in facts.features),
        labels=replace(facts.labels, classes=(name, name), stages=classes),
        samples=tuple(each._replace(label=name) for each in facts.samples[:2]),
        doubts=(name,),
    )
    page = make_page(taken, [*list_alerts(taken), Alert("bad", name, "prices")])
    reader = Reader(page)
    assert sum(tag == "script" for tag, _ in reader.elements) == 3
    assert "<img" not in page
    told = " ".join(reader.words)
    assert told.count('document.title = "taken"') > 8


def test_the_same_data_give_the_same_bytes(dm: BTCDataModule, facts: Facts, page: str) -> None:
    again = gather_facts(dm.stages, card=facts.card, audit=facts.audit)
    assert make_page(again, list_alerts(again)) == page


def test_it_is_small_and_has_no_path_of_this_machine(page: str, dm: BTCDataModule) -> None:
    assert len(page.encode()) < MOST_BYTES // 2
    assert str(dm.settings.data_dir) not in page


def test_it_shows_what_it_was_made_of(page: str, dm: BTCDataModule) -> None:
    told = " ".join(Reader(page).words)
    for text in (
        dm.table.digest,
        dm.table.key,
        dm.settings.read_candle_header().digest,
        "mine = close / close.shift(5) - 1",
        "bars, joined of the candles",
        "WalkForward(",
        "12 samples unchanged",
        "one unit in the direction",
    ):
        assert text.lower() in told.lower(), text


def test_windows_are_those_of_each_stage_and_say_when_covariates_were_known(page: str) -> None:
    summaries = re.findall(r"<summary>(\w+: [^·]+) · origin", page)
    assert {each.partition(":")[0] for each in summaries} == {"train", "val", "test"}
    assert {"train: first", "train: last", "test: largest target"} <= {*summaries}
    assert page.count("Covariates: when each value became known") == len(summaries)


def test_without_audit_and_forecasts_the_page_says_so(facts: Facts) -> None:
    plain = replace(facts, audit=None, card=None)
    page = make_page(plain, list_alerts(plain))
    assert "the audit was not run" in page
    assert "It was not run for this page" in page
    assert [each["id"] for each in Reader(page).find("section")] == [
        name for name in SECTIONS if name != "forecasts"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": CombinatorialPurged(4, 2, fold=2), "embargo": 3},
        {"lookback": 300, "horizon": 30, "start": "2021-01-01", "min_observed": 0.5},
        {"interval": "1d", "start": "2020-01-01", "lookback": 5, "batch_size": 4},
        {"mask": "feature", "min_observed": 0.9, "undefined": "flag", "gap": 4},
    ],
    ids=["combinatorial", "long windows", "days", "single features"],
)
def test_settings_of_all_kinds_have_a_page(tmp_path: Path, arguments: dict[str, Any]) -> None:
    dm = make_datamodule(tmp_path, **arguments)
    path = dm.report(tmp_path / "report.html")
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.open == []
    assert "nan" not in " ".join(reader.words).lower().replace("finance", "")
    numbers = " ".join(str(each.get("d", "")) for each in reader.find("path"))
    assert "nan" not in numbers


def test_a_file_is_written_whole_and_its_size_is_told(dm: BTCDataModule, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    written = write_report(dm.stages, path)
    assert written.size == path.stat().st_size
    assert str(written).startswith(f"{path}: {written.size:,} bytes\n")
    assert "the audit was not run" in written.verdict
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_name_that_is_no_page_is_refused(dm: BTCDataModule, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in one of \.html"):
        dm.report(tmp_path / "report.pdf")
    with pytest.raises(ConfigError, match="there is no folder"):
        dm.report(tmp_path / "nowhere" / "report.html")


def test_the_library_in_it_is_as_it_was_published() -> None:
    assets = Path(page_module.__file__).parent / "assets"
    digest = hashlib.sha256((assets / "uplot.min.js").read_bytes()).hexdigest()
    assert digest == UPLOT
    assert "Copyright (c) 2022 Leon Sorokin" in (assets / "uplot-LICENSE.txt").read_text()
