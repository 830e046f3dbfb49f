"""The page: all sections in order, in one file that asks for nothing.

A policy forbids every request and every script but the two that are in the page, known by their
digests: text of others that came to stand as markup would do nothing. The same data and settings
give the same bytes.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from btc_datamodule.disk.atomic import check_output, replace_file
from btc_datamodule.escaping import escape
from btc_datamodule.overview import colours
from btc_datamodule.overview.colours import Colour
from btc_datamodule.overview.market import title_of, write_interval
from btc_datamodule.report.alerts import Alert, give_verdict, list_alerts
from btc_datamodule.report.calendar import make_holes
from btc_datamodule.report.facts import Facts, gather_facts
from btc_datamodule.report.features import make_features
from btc_datamodule.report.folds import make_folds, make_windows
from btc_datamodule.report.foot import make_audit, make_provenance
from btc_datamodule.report.forecasts import make_forecasts
from btc_datamodule.report.given import check_audit, check_card
from btc_datamodule.report.html import Child, Html, element, prose
from btc_datamodule.report.prices import make_prices
from btc_datamodule.report.samples import make_samples
from btc_datamodule.report.targets import make_targets
from btc_datamodule.report.ticks import write_count
from btc_datamodule.scoring.card import ScoreCard
from btc_datamodule.stages import Stages
from btc_datamodule.windows.batch import Batch

if TYPE_CHECKING:
    from btc_datamodule.audit.report import Audit

MOST_BYTES = 1_000_000
"""Of a page."""

LEAST_PRICE_BYTES = 250_000
"""That the price may take, whatever the rest does."""

UP, DOWN = colours.STAGE_COLOURS["test"], colours.OUTAGE

SECTIONS = {
    "prices": "price",
    "windows": "windows",
    "holes": "holes",
    "features": "features",
    "targets": "targets",
    "samples": "one window",
    "audit": "audit",
    "forecasts": "forecasts",
    "folds": "folds",
    "provenance": "where from",
}


class Written(NamedTuple):
    """A report that was written; as text, for a person.

    Attributes:
        path: of the file.
        size: bytes.
        verdict: what the page says at its top.
    """

    path: Path
    size: int
    verdict: str

    def __str__(self) -> str:
        return f"{escape(str(self.path))}: {self.size:,} bytes\n{self.verdict}"


def write_report(
    stages: Stages,
    path: str | Path,
    *,
    transform: Callable[[Batch], Batch] | None = None,
    audit: "Audit | Callable[[], Audit] | None" = None,
    card: ScoreCard | None = None,
) -> Written:
    """Write the report of a datamodule's data as one HTML file.

    Args:
        stages: of one fold.
        path: the file; its name ends in .html.
        transform: of batches, as the datamodule has it.
        audit: what an audit found, or what runs one; None if none was run.
        card: a score of forecasts.

    Raises:
        ConfigError: if the name does not end in .html, or its folder is not there, or the audit or
            the score is of other data.
        StoreError: if the file cannot be written, or the feature file is damaged.
    """
    path = check_output(path, [".html"])
    check_card(stages, card)
    stages.require("train")
    found = audit() if callable(audit) else audit
    check_audit(stages, found)
    facts = gather_facts(stages, transform=transform, audit=found, card=card)
    alerts = list_alerts(facts)
    content = make_page(facts, alerts).encode()
    with replace_file(path) as temporary:
        temporary.write_bytes(content)
    return Written(path, len(content), give_verdict(facts, alerts)[1])


def make_page(facts: Facts, alerts: Sequence[Alert]) -> str:
    """The whole page."""
    script, library = _read("page.js"), _read("uplot.min.js")
    style = _read("uplot.min.css") + _fill_colours(_read("page.css"))
    grade, verdict = give_verdict(facts, alerts)
    title = title_of(facts.stages.settings, facts.stages.table.span)
    sections = {
        "windows": make_windows(facts),
        "holes": make_holes(facts),
        "features": make_features(facts),
        "targets": make_targets(facts),
        "samples": make_samples(facts),
        "audit": make_audit(facts),
        "forecasts": make_forecasts(facts),
        "folds": make_folds(facts),
        "provenance": make_provenance(facts),
    }
    taken = sum(len((each or "").encode()) for each in sections.values())
    room = MOST_BYTES - taken - len((script + library + style).encode()) - 40_000
    sections["prices"] = make_prices(facts, max(room, LEAST_PRICE_BYTES))
    shown = [name for name in SECTIONS if sections[name]]
    body = element(
        "body",
        element(
            "header",
            element(
                "div",
                element("h1", title),
                element("button", "Theme: auto", id="theme", type="button", hidden=True),
                class_="top",
            ),
            element("p", prose(verdict), class_=f"verdict {grade}"),
            _make_alerts(alerts),
            _make_facts(facts),
            element("nav", [element("a", SECTIONS[name], href=f"#{name}") for name in shown]),
        ),
        element("main", [sections[name] for name in shown]),
        element("script", Html(library)),
        element("script", Html(script)),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element(
            "meta", http_equiv="Content-Security-Policy", content=_make_policy(library, script)
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    html = element("html", head, body, lang="en", class_="no-js", data_theme="auto")
    return f"<!DOCTYPE html>\n{html}\n"


def _make_policy(*scripts: str) -> str:
    """What the page may do: run its own scripts, be styled, and show pictures that are in it."""
    digests = [
        base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts
    ]
    own = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {own}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _make_alerts(alerts: Sequence[Alert]) -> Html | None:
    words = {"bad": "mend", "warn": "look", "note": "note"}
    items = [
        element(
            "li",
            element("b", words[alert.grade], class_=alert.grade),
            element("span", prose(alert.text), " ", element("a", "see", href=f"#{alert.place}")),
        )
        for alert in alerts
    ]
    return element("ul", items, class_="alerts") if items else None


def _make_facts(facts: Facts) -> Html:
    settings, table, shape = facts.stages.settings, facts.stages.table, facts.stages.settings.shape
    windows = {each.stage: each.windows for each in facts.labels.stages}
    told: list[tuple[str, Child]] = [
        ("bars", f"{table.rows:,} of {write_interval(settings.interval)}"),
        *((f"windows of {stage}", f"{count:,}") for stage, count in windows.items()),
        (
            "input",
            f"{write_count(shape.lookback, 'bar')} of "
            f"{write_count(settings.n_features, 'feature')}",
        ),
        (
            "target",
            f"{type(settings.target).__name__}, {write_count(shape.horizon, 'bar')}",
        ),
    ]
    return element(
        "dl", [element("div", element("dt", name), element("dd", value)) for name, value in told],
        class_="facts",
    )  # fmt: skip


def _fill_colours(style: str) -> str:
    """The style sheet with the colours of the palette in it."""
    named: dict[str, Colour] = {
        **{str(stage): colour for stage, colour in colours.STAGE_COLOURS.items()},
        "purge": colours.PURGE,
        "embargo": colours.EMBARGO,
        "outage": colours.OUTAGE,
        "price": colours.PRICE,
        "ground": colours.GROUND,
        "ink": colours.INK,
        "faint": colours.FAINT,
        "up": UP,
        "down": DOWN,
        **{f"s{number}": colour for number, colour in enumerate(colours.SERIES)},
    }
    for ground, faint in (("LIGHT", "#5c636d"), ("DARK", "#a6adb8")):
        told = [f"--{name}: {getattr(each, ground.lower())};" for name, each in named.items()]
        style = re.sub(rf"\b{ground}\b", " ".join([*told, f"--faint-ink: {faint};"]), style)
    return style


@cache
def _read(name: str) -> str:
    return (files("btc_datamodule.report") / "assets" / name).read_text(encoding="utf-8").strip()
