"""What the audit found, and where all of it comes from: sources, digests, settings."""

from pathlib import Path

from btc_datamodule.candles.timeline import format_interval, format_span
from btc_datamodule.covariates import Covariate
from btc_datamodule.errors import NotPreparedError
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.html import Child, Html, element, prose, table
from btc_datamodule.store.record_file import RecordHeader
from btc_datamodule.store.series_file import Header

SHOWN = 6
"""Answers of a source that are named."""


def make_audit(facts: Facts) -> Html:
    """The section on the audit, be it run or not."""
    audit = facts.audit
    if audit is None:
        return element(
            "section",
            element("h2", "Audit"),
            element(
                "p",
                "It was not run for this page. It checks on these very candles and settings that "
                "nothing of the future leaks, and takes a minute or more: ",
                element("code", "btc-datamodule audit --config …"),
                ", or ",
                element("code", "btc-datamodule report --audit true"),
                " to have it here.",
            ),
            id="audit",
        )
    words = {True: ("good", "holds"), False: ("bad", "FAILS"), None: ("warn", "not checked")}
    items = [
        element(
            "li",
            element("b", words[passed][1], class_=words[passed][0]),
            element("span", element("strong", guarantee), element("br"), prose(detail)),
        )
        for guarantee, passed, detail in audit.findings
    ]
    held = len(audit.findings) - len(audit.failed) - len(audit.unchecked)
    return element(
        "section",
        element("h2", "Audit"),
        element("p", f"{held} of {len(audit.findings)} guarantees hold."),
        element("ul", items, class_="marks"),
        id="audit",
    )


def make_provenance(facts: Facts) -> Html:
    """The section on files, sources and settings."""
    settings, feature_file = facts.stages.settings, facts.stages.table
    folder = settings.data_dir
    files = [
        _make_file("candles", settings.candle_path, folder, settings.read_candle_header()),
    ]
    told_of = {settings.candle_path: "the candles"}
    files += [_make_covariate(facts, each, told_of) for each in settings.covariates]
    made = [
        ["file", _place(feature_file.path, folder)],
        ["key", feature_file.key],
        ["digest", feature_file.digest],
        ["rows", f"{feature_file.rows:,}, of which {feature_file.warm_up:,} of warm-up"],
    ]
    told = {name: str(value) for name, value in settings.comparable.items()}
    told["features"] = "; ".join(feature.text for feature in settings.features)
    told["covariates"] = "; ".join(map(str, settings.covariates)) or "none"
    told |= {
        "context": settings.context,
        "stride": f"{settings.stride} of train, {settings.eval_stride} of val and test",
        "max_fill": str(settings.max_fill),
        "min_observed": f"{settings.min_observed:g}",
    }
    return element(
        "section",
        element("h2", "Where it comes from"),
        files,
        element("h3", "feature file"),
        table(["", ""], made, class_="words"),
        element("h3", "settings"),
        table(["", ""], sorted(told.items()), class_="words"),
        id="provenance",
    )


def _make_covariate(facts: Facts, covariate: Covariate, told_of: dict[Path, str]) -> Html:
    """What is told of a covariate's file; ``told_of`` has those that were told of before."""
    settings = facts.stages.settings
    path = covariate.locate(settings.data_dir, settings.candle_path)
    if path in told_of:
        made = f"{covariate.clock} bars, joined of" if covariate.is_joined else "the same file as"
        told = element("p", f"{made} {told_of[path]}")
        return element("div", element("h3", covariate.name), told)
    told_of[path] = covariate.name
    try:
        header = settings.read_covariate_header(covariate)
    except NotPreparedError:
        return element("p", f"{covariate.name}: not stored yet")
    return _make_file(covariate.name, path, settings.data_dir, header)


def _make_file(name: str, path: Path, folder: Path, header: Header) -> Html:
    length = f", {format_interval(header.interval)} bars" if header.interval else ""
    if isinstance(header, RecordHeader):
        length = f", records of {', '.join(header.values)}"
    rows: list[list[Child]] = [
        ["source", f"{header.source} {header.series}{length}"],
        ["file", _place(path, folder)],
        ["rows", f"{header.rows:,}, {format_span(header.span)}"],
        ["digest", header.digest],
    ]
    records = header.provenance
    rows += [
        [
            "from",
            f"{each.origin}: {each.rows:,} rows, {format_span(each.span)}, retrieved "
            f"{each.retrieved}" + (f", {each.checksum}" if each.checksum else ""),
        ]
        for each in records[-SHOWN:]
    ]
    if len(records) > SHOWN:
        rows.append(["", f"and {len(records) - SHOWN:,} earlier answers: `info --provenance true`"])
    return element("div", element("h3", name), table(["", ""], rows, class_="words"))


def _place(path: Path, folder: Path) -> str:
    """A path as it is told: inside the folder of the data, wherever that lies."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
